"""Training: what a step does, and that a run which stops anywhere ends as one that never did."""

import dataclasses
import hashlib
import io
import signal

import numpy as np
import pytest
import torch
from torch import nn

from poolae import make_settings
from poolae.models import build
from poolae.settings import DEPTHS, UserError
from poolae.train import loop, optimisers


def tiny(**changes):
    small = dict(profile="smoke", size=16, steps=12, base_width=2, precision="float32")
    return make_settings(1, **{**small, **changes})


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    lightness = rng.random((20, 1, 16, 16), dtype=np.float32)
    return lightness, np.concatenate([lightness, 1 - lightness], 1)


def fit(settings, images, path):
    return loop.fit(settings, *images, images[0][0], path / "checkpoint.pt", "data")


@pytest.fixture
def interruptible():
    """Ctrl-C as in the foreground, also where the tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def equal(one, other):
    (network, history), (network_, history_) = one, other
    weights, weights_ = network.state_dict(), network_.state_dict()
    return all(torch.equal(weights[k], weights_[k]) for k in weights) and all(
        np.array_equal(history[k], history_[k]) for k in ("loss", "snapshots")
    )


@pytest.mark.fault(
    "Ctrl-C in a training", "a checkpoint is written; goes on to the same weights and history"
)
@pytest.mark.parametrize(
    ("recipe", "optimiser"),
    [("published", "adam"), ("corrected", "adamw"), ("corrected", "muon")],
)
def test_an_interrupted_run_ends_as_one_that_was_not(
    tmp_path, images, recipe, optimiser, capsys, interruptible
):
    settings = tiny(recipe=recipe, optimiser=optimiser)
    (tmp_path / "whole").mkdir()
    whole = fit(settings, images, tmp_path / "whole")
    for stop in (1, 5, 11):
        calls = []

        def between_backward_and_step(network, calls=calls, stop=stop):
            calls.append(1)
            if len(calls) == stop:
                signal.raise_signal(signal.SIGINT)

        folder = tmp_path / f"stop{stop}"
        folder.mkdir()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop.parallel, "average_gradients", between_backward_and_step)
            with pytest.raises(KeyboardInterrupt):
                fit(settings, images, folder)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert equal(fit(settings, images, folder), whole)
        assert f"resumed after step {stop} of 12" in capsys.readouterr().out


def test_a_second_interrupt_waits_for_nothing(interruptible):
    with pytest.raises(KeyboardInterrupt), loop.held_interrupts() as noted:
        signal.raise_signal(signal.SIGINT)
        assert noted == [True]
        signal.raise_signal(signal.SIGINT)
        pytest.fail("it was held too")


@pytest.mark.fault(
    "a checkpoint that is truncated, hostile, of other settings or has a flipped bit",
    "training starts again; the same weights",
)
def test_a_checkpoint_of_other_settings_or_a_broken_one_is_not_believed(tmp_path, images, capsys):
    settings = tiny()
    whole = fit(settings, images, tmp_path)
    path = tmp_path / "checkpoint.pt"
    learners = [whole[0], *loop.make_optimisers(whole[0], settings)]
    about = {**settings.asdict(), "fingerprint": "other data"}
    loop.save_checkpoint(path, learners, 5, whole[1], about)
    assert equal(fit(settings, images, tmp_path), whole)
    whole_file = path.read_bytes()
    flipped = bytearray(whole_file)
    flipped[whole_file.rindex(whole[1]["snapshots"].tobytes())] ^= 1
    hostile = io.BytesIO()
    torch.save({"about": print}, hostile)  # which may run anything when it is read
    hostile.write(hashlib.sha256(hostile.getbuffer()).digest())
    for broken in (whole_file[:100], flipped, hostile.getvalue(), b""):
        path.write_bytes(broken)
        assert equal(fit(settings, images, tmp_path), whole)
        assert "cannot be read" in capsys.readouterr().out


def test_seeds_decide(tmp_path, images):
    one, same = fit(tiny(), images, tmp_path), fit(tiny(), images, tmp_path)
    other = fit(tiny(seed=1), images, tmp_path)
    assert equal(one, same) and not equal(one, other)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("recipe", ["published", "corrected"])
def test_every_parameter_moves(depth, recipe, images):
    settings = dataclasses.replace(tiny(recipe=recipe), pool_depth=depth)
    network = build(depth, 2, seed=0).to(memory_format=torch.channels_last)
    before = {k: p.detach().clone() for k, p in network.named_parameters()}
    optimisers = loop.make_optimisers(network, settings)
    x, y = (torch.from_numpy(a) for a in images)
    for _ in range(3):
        loop.training_step(network, optimisers, settings, x, y)
    assert all(not torch.equal(p, before[k]) for k, p in network.named_parameters())


def test_one_batch_can_be_learnt_by_heart(images):
    settings = tiny(batch_size=20, steps=150)
    network = build(0, 8).to(memory_format=torch.channels_last)
    network.start_from(0.5)
    optimisers = loop.make_optimisers(network, settings)
    x, y = (torch.from_numpy(a) for a in images)
    losses = [loop.training_step(network, optimisers, settings, x, y) for _ in range(150)]
    assert losses[0] > 0.2
    assert losses[-1] < 0.04


def test_gradients_are_cleared_or_not(images):
    x, y = (torch.from_numpy(a) for a in images)
    gradients = {}
    for accumulate in (False, True):
        settings = dataclasses.replace(
            tiny(recipe="published"), accumulate_gradients=accumulate, learning_rate=0.0,
            weight_decay=0.0,
        )  # fmt: skip
        network = build(0, 2).train()
        for module in network.modules():  # so that equal steps have equal gradients
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 0.0
        optimisers = loop.make_optimisers(network, settings)
        for _ in range(3):
            loop.training_step(network, optimisers, settings, x, y)
        gradients[accumulate] = network.layers[-1].bias.grad.clone()
    torch.testing.assert_close(gradients[True], 3 * gradients[False])


def test_the_published_clamp_stops_gradients_below_zero(images):
    x, y = (torch.from_numpy(a) for a in images)
    settings = dataclasses.replace(tiny(recipe="published"), learning_rate=0.0)
    network = build(0, 2)
    network.start_from(-0.1)
    loop.training_step(network, loop.make_optimisers(network, settings), settings, x, y)
    assert torch.all(network.layers[-1].bias.grad == 0)


def test_the_loss_is_the_mean_absolute_error(images):
    x, y = (torch.from_numpy(a) for a in images)
    network = build(0, 2)
    network.start_from(0.5)
    optimisers = loop.make_optimisers(network, tiny())
    loss = loop.training_step(network, optimisers, tiny(), x, y)
    np.testing.assert_allclose(loss.item(), np.abs(0.5 - images[1]).mean(), rtol=1e-5)


def test_every_image_is_seen_once_an_epoch_in_a_new_order():
    settings = tiny()  # batches of 8
    epochs = [
        np.concatenate([loop.batch_rows(settings, 20, 3 * e + b)[0] for b in range(3)])
        for e in range(2)
    ]
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(20))
    assert not np.array_equal(*epochs)
    mirrored = np.concatenate([loop.batch_rows(settings, 20, s)[1] for s in range(300)])
    assert 0.4 < mirrored.mean() < 0.6
    assert not loop.batch_rows(tiny(recipe="published"), 20, 0)[1].any()


def test_mirroring_turns_lightness_and_chroma_alike(images):
    rows, mirrored = np.array([4, 2]), np.array([True, False])
    x, y = loop.to_batch(*images, rows, mirrored, torch.device("cpu"))
    np.testing.assert_array_equal(x[0], images[0][4][..., ::-1])
    np.testing.assert_array_equal(y[0], images[1][4][..., ::-1])
    np.testing.assert_array_equal(y[1], images[1][2])


def test_squares_are_cut_from_lightness_and_chroma_alike(images):
    settings = tiny(steps=100)
    corners = loop.crop_corners(settings, 20, 74)
    assert corners.shape == (20, 2) and (corners.min(), corners.max()) == (0, 8)
    assert loop.crop_corners(settings, 20, 75) is None
    assert loop.crop_corners(tiny(recipe="published"), 20, 0) is None
    assert (corners != loop.crop_corners(settings, 20, 73)).any()
    rows, mirrored = np.array([4, 2]), np.array([True, False])
    cut = np.array([[3, 8], [0, 5]])
    x, y = loop.to_batch(*images, rows, mirrored, torch.device("cpu"), cut)
    assert x.shape == (2, 1, 8, 8) and x.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_array_equal(x[0], images[0][4][..., ::-1][:, 3:11, 8:16])
    np.testing.assert_array_equal(y[1], images[1][2][:, 0:8, 5:13])
    assert [loop.crop_side(size) for size in (8, 16, 24, 32, 64, 128)] == [8, 8, 8, 16, 32, 64]


def test_learning_rate_schedule():
    settings = tiny(steps=100)
    factors = [loop.learning_rate_factor(settings, s) for s in range(100)]
    assert factors[0] == pytest.approx(1 / 30) and max(factors) == 1 == factors[29]
    assert factors[65] == pytest.approx(0.5) and factors[-1] < 0.001
    assert loop.learning_rate_factor(tiny(recipe="published"), 50) == 1


def test_snapshots_are_twenty_evenly_spaced_steps():
    assert loop.snapshot_steps(100) == list(range(5, 101, 5))
    assert loop.snapshot_steps(3) == [1, 2, 3]
    assert len(loop.snapshot_steps(1234)) == 20 and loop.snapshot_steps(1234)[-1] == 1234


@pytest.mark.fault(
    "a loss that is not finite", "training stops; step and last good checkpoint are named"
)
def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, images):
    lightness = images[0].copy()
    lightness[:] = np.nan
    with pytest.raises(UserError, match="the loss is nan at step 1; the last good checkpoint"):
        loop.fit(tiny(), lightness, images[1], lightness[0], tmp_path / "c.pt")


def test_muon_orthogonalises_each_kernel():
    kernel = nn.Parameter(torch.randn(8, 4, 3, 3).contiguous(memory_format=torch.channels_last))
    before = kernel.detach().clone()
    optimiser = optimisers.KernelMuon([kernel], rate=1.0, decay=0.0, dtype=torch.float32)
    kernel.grad = torch.randn(8, 4, 3, 3)
    optimiser.step()
    change = (kernel.detach() - before).permute(0, 2, 3, 1).flatten(1)  # (8, 36)
    values = torch.linalg.svdvals(change) / (0.2 * 36**0.5)
    assert values.shape == (8,) and values.min() > 0.5 and values.max() < 1.5


@pytest.mark.parametrize("seconds", [0.5, 30])
def test_a_watched_run_is_seen_every_few_seconds(tmp_path, images, monkeypatch, capsys, seconds):
    now, seen = [0.0], []

    class Clock:
        monotonic = perf_counter = staticmethod(lambda: now[0])

    def step(*_):
        now[0] += seconds
        return torch.tensor(0.1)

    monkeypatch.setattr(loop, "time", Clock)
    monkeypatch.setattr(loop, "training_step", step)
    given = *images, images[0][0], tmp_path / "c.pt"
    loop.fit(tiny(steps=400), *given, watch=lambda step, _: seen.append(now[0]))
    assert np.diff([0, *seen]).max() <= max(seconds, 5) and seen[-1] == now[0]
    # Lines, which nobody looks away from, become rarer.
    assert len(capsys.readouterr().out.splitlines()) <= 8 + now[0] / 60


@pytest.mark.fault("a slow disk", "checkpoints take 2 % of the training time at most")
def test_checkpoints_take_a_fiftieth_of_the_time(tmp_path, images, monkeypatch):
    # On a clock of its own: a step takes six seconds, a checkpoint ten.
    now, saved = [0.0], []

    class Clock:
        monotonic = perf_counter = staticmethod(lambda: now[0])

    def step(*_):
        now[0] += 6
        return torch.tensor(0.1)

    def save(*_):
        saved.append(now[0])
        now[0] += 10

    monkeypatch.setattr(loop, "time", Clock)
    monkeypatch.setattr(loop, "training_step", step)
    monkeypatch.setattr(loop, "save_checkpoint", save)
    fit(tiny(steps=500, averaging=0.0), images, tmp_path)
    assert len(saved) == 1 + 5 and 10 * len(saved) <= 0.02 * now[0]
    assert saved[0] <= loop.CHECKPOINT_SECONDS + 6
