"""Tables, boosting and oracles against values worked out by hand; see also test_metrics."""

import numpy as np
import pytest

from poolae.metrics import baselines


def error(fit, lightness, chroma):
    """Mean absolute error when fitted on the first half of the images, on the second."""
    n = len(lightness) // 2
    return np.abs(fit(lightness[:n], chroma[:n])(lightness[n:]) - chroma[n:]).mean()


def test_the_names_are_those_of_the_score_table():
    assert list(baselines.BASELINES) == [
        "grey",
        "training median",
        "lightness table",
        "position table",
        "patch boosting",
    ]
    assert baselines.ORACLES == (1, 16, 32, 64)


@pytest.mark.parametrize("fit", baselines.BASELINES.values(), ids=baselines.BASELINES)
def test_every_baseline_answers_chroma_for_images_of_any_number_and_side(fit):
    rng = np.random.default_rng(0)
    predict = fit(rng.random((3, 1, 8, 8), np.float32), rng.random((3, 2, 8, 8), np.float32))
    predicted = predict(rng.random((2, 1, 12, 10), np.float32))
    assert predicted.shape == (2, 2, 12, 10)
    assert predicted.dtype == np.float32
    assert predicted.min() >= 0 and predicted.max() <= 1


def test_position_table_by_hand():
    # two images of 1 x 4 pixels, all in the lower of two steps of lightness
    lightness = np.full((2, 1, 1, 4), 0.25)
    a = [[0.1, 0.3, 0.6, 0.9], [0.1, 0.3, 0.8, 0.9]]
    chroma = np.stack([a, np.ones((2, 4))], axis=1)[:, :, None]
    predict = baselines.fit_position_table(lightness, chroma, bins=2, cells=2)
    # left: median of .1 .3 .1 .3, right: of .6 .9 .8 .9
    np.testing.assert_allclose(predict(lightness[:1])[0, 0, 0], [0.2, 0.2, 0.85, 0.85], atol=1e-6)
    np.testing.assert_allclose(predict(lightness[:1])[0, 1], 1)


def test_position_table_keeps_rows_and_columns_apart():
    y, x = np.indices((4, 4)) // 2
    lightness = np.full((1, 1, 4, 4), 0.5)
    chroma = np.stack([y, x])[None] * 0.5
    predict = baselines.fit_position_table(lightness, chroma, bins=4, cells=2)
    np.testing.assert_array_equal(predict(lightness), chroma)


def test_position_table_falls_back_on_the_lightness_table():
    # dark pixels are known on the left alone, bright ones on the right alone
    lightness = np.array([0.1, 0.1, 0.9, 0.9]).reshape(1, 1, 1, 4)
    chroma = np.array([0.2, 0.2, 0.7, 0.7]).reshape(1, 1, 1, 4).repeat(2, axis=1)
    swapped = lightness[..., ::-1]
    expected = baselines.fit_lightness_table(lightness, chroma)(swapped)
    predicted = baselines.fit_position_table(lightness, chroma, bins=2, cells=2)(swapped)
    np.testing.assert_array_equal(predicted, expected)
    np.testing.assert_allclose(predicted[0, 0, 0], [0.7, 0.7, 0.2, 0.2], atol=1e-6)


def test_position_table_beats_the_lightness_table_where_position_decides():
    lightness = np.random.default_rng(0).random((24, 1, 32, 32), np.float32)
    x = np.broadcast_to(np.arange(32) // 16 * 0.5, (24, 2, 32, 32)).astype(np.float32)
    assert error(baselines.fit_position_table, lightness, x) < 1e-6
    assert error(baselines.fit_lightness_table, lightness, x) > 0.2


@pytest.mark.parametrize(("dy", "dx"), [(0, 1), (-2, 0), (2, -2)])
def test_boosting_beats_the_lightness_table_where_the_neighbourhood_decides(dy, dx):
    rng = np.random.default_rng(0)
    lightness = rng.random((8, 1, 32, 32), np.float32)
    neighbour = np.roll(lightness, (-dy, -dx), axis=(2, 3))
    chroma = np.concatenate([neighbour > lightness, neighbour < lightness], axis=1) * 0.5
    chroma += rng.random(chroma.shape) * 0.02
    assert error(baselines.fit_lightness_table, lightness, chroma) > 0.1
    assert error(baselines.fit_patch_boosting, lightness, chroma) < 0.03


def test_boosting_sees_wider_than_its_patch():
    coarse = np.random.default_rng(0).integers(0, 2, (8, 1, 4, 4)).repeat(8, 2).repeat(8, 3)
    fine = np.random.default_rng(1).random((8, 1, 32, 32))
    lightness = (0.3 * coarse + 0.7 * fine).astype(np.float32)
    chroma = 0.5 * coarse.repeat(2, axis=1).astype(np.float32)
    nearby = error(baselines.fit_patch_boosting, lightness, chroma)
    assert nearby < 0.5 * error(baselines.fit_lightness_table, lightness, chroma)


def test_boosting_is_the_same_every_time():
    rng = np.random.default_rng(0)
    lightness, chroma = rng.random((4, 1, 16, 16)), rng.random((4, 2, 16, 16))
    first, second = (
        baselines.fit_patch_boosting(lightness, chroma, pixels=500)(lightness) for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)


def test_boosting_is_fitted_on_about_as_many_pixels_as_asked(monkeypatch):
    from sklearn import ensemble

    sizes = []

    class Watched(ensemble.HistGradientBoostingRegressor):
        def fit(self, seen, colours):
            sizes.append((len(seen), len(colours)))
            return super().fit(seen, colours)

    monkeypatch.setattr(ensemble, "HistGradientBoostingRegressor", Watched)
    lightness, chroma = np.zeros((3, 1, 8, 8)), np.full((3, 2, 8, 8), 0.5)
    baselines.fit_patch_boosting(lightness, chroma, pixels=31)
    baselines.fit_patch_boosting(lightness, chroma)
    assert sizes == 2 * [(33, 33)] + 2 * [(192, 192)]  # 11 per image; all there are


def test_surroundings_by_hand():
    light = np.arange(16.0).reshape(4, 4) / 16
    features = baselines._surroundings(light).reshape(4, 4, -1)
    assert features.shape == (4, 4, 25 + 7)
    contrast = features[1, 2, :25].reshape(5, 5)
    mirrored = np.pad(light, 2, mode="symmetric")
    np.testing.assert_allclose(contrast, mirrored[1:6, 2:7] - light[1, 2])
    # lightness; boxes of 1 (an eighth of 4), 1 and 3 pixels; y, x and distance from the centre
    expected = [6 / 16, 6 / 16, 6 / 16, 6 / 16, -0.125, 0.125, 0.125 * 2**0.5]
    np.testing.assert_allclose(features[1, 2, 25:], expected)


def test_local_mean_by_hand():
    planes = np.zeros((2, 1, 8, 8))
    planes[1, 0, 3, 4] = 9
    found = baselines.local_mean(planes, 1 / 4)
    expected = np.zeros((8, 8))
    expected[2:5, 3:6] = 1
    np.testing.assert_allclose(found, np.stack([np.zeros((8, 8)), expected])[:, None], atol=1e-12)


@pytest.mark.parametrize("blocks", [1, 2, 4, 8])
def test_block_oracle_equals_numpy(blocks):
    true = np.random.default_rng(0).random((3, 2, 8, 8))
    side = 8 // blocks
    tiles = true.reshape(3, 2, blocks, side, blocks, side)
    expected = np.median(tiles, axis=(3, 5)).repeat(side, axis=2).repeat(side, axis=3)
    np.testing.assert_array_equal(baselines.block_oracle(true, blocks), expected)


def test_block_oracle_by_hand():
    true = np.array([[0.0, 0.2, 1.0, 0.4, 0.5]]).repeat(2, axis=0).reshape(1, 1, 2, 5)
    # 2 blocks along 5 pixels: the first 2 and the last 3
    expected = [[0.1, 0.1, 0.5, 0.5, 0.5]] * 2
    np.testing.assert_allclose(baselines.block_oracle(true, 2)[0, 0], expected)


def test_no_constant_in_blocks_is_nearer_than_the_oracle():
    rng = np.random.default_rng(0)
    true = rng.random((2, 2, 8, 8))
    best = np.abs(baselines.block_oracle(true, 2) - true).mean()
    mean = true.reshape(2, 2, 2, 4, 2, 4).mean(axis=(3, 5)).repeat(4, axis=2).repeat(4, axis=3)
    assert best < np.abs(mean - true).mean()


@pytest.mark.parametrize("blocks", [0, 5])
def test_blocks_have_to_fit(blocks):
    with pytest.raises(ValueError, match=f"{blocks} blocks .* 4 x 6 pixels"):
        baselines.block_oracle(np.zeros((1, 2, 4, 6)), blocks)


def test_oracles_leave_out_grids_finer_than_the_image():
    true = np.random.default_rng(0).random((2, 2, 32, 40))
    found = baselines.oracles(true)
    assert list(found) == ["oracle 1 × 1", "oracle 16 × 16", "oracle 32 × 32"]
    errors = [np.abs(prediction - true).mean() for prediction in found.values()]
    assert errors == sorted(errors, reverse=True)
    assert list(baselines.oracles(np.zeros((1, 2, 64, 64))))[-1] == "oracle 64 × 64"
