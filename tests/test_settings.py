"""Parameters: what is impossible is refused in one sentence that names it."""

import dataclasses
import math

import pytest

from poolae import PROFILES, RECIPES, Settings, UserError, make_settings
from poolae.settings import CONTROLS, DEPTHS, POOLINGS, UPSAMPLERS, from_name


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (dict(pool_depth=4), "pool_depth is 4: choose 0, 1, 2 or 3."),
        (dict(pool_depth=True), "pool_depth is True"),
        (dict(pool_depth="1"), "pool_depth is '1'"),
        (
            dict(profile="fast"),
            "profile is 'fast': choose smoke, quick, standard, long, large, full or published.",
        ),
        (dict(recipe="best"), "recipe is 'best': choose published, cleared or corrected."),
        (dict(pooling="max3"), "pooling is 'max3'"),
        (dict(family="wide"), "family is 'wide'"),
        (dict(family="dilated"), "pool_depth is 1: the dilated network has 0."),
        (dict(split=-1), "split is -1"),
        (dict(bottleneck=2.0), "bottleneck is 2.0"),
        (dict(averaging=1.0), "averaging is 1.0"),
        (dict(data="synthetic:fine"), "data is 'synthetic:fine'"),
        (dict(seed=-1), "seed is -1"),
        (dict(seed=1.0), "seed is 1.0"),
        (dict(seed=2**32), "seed is 4294967296: give a whole number from 0 to 4294967295."),
        (dict(pool_depth=1.0), "pool_depth is 1.0: choose 0, 1, 2 or 3."),
        (dict(learning_rate=0.0), "learning_rate is 0.0: give a number above 0."),
        (dict(learning_rate=10**400), "give a value of type float."),
        (dict(learning_rate=math.nan), "learning_rate is nan"),
        (dict(weight_decay=math.inf), "weight_decay is inf: give 0 or a number above it."),
        (dict(data=""), "data is ''"),
        (dict(steps=0), "steps is 0"),
        (dict(steps=10.5), "steps is 10.5"),
        (dict(learning_rate="1e-3"), "learning_rate is '1e-3'"),
        (dict(momentum=0.9), "momentum is not a setting"),
        (dict(pool_depth=3, size=36), "size is 36: 3 pooling layers need a multiple of 8."),
        (dict(optimiser="sgd"), "optimiser is 'sgd'"),
        (dict(upsampler="cubic"), "upsampler is 'cubic': choose nearest, bilinear or transposed."),
        (dict(early=1), "early is 1: give a value of type bool."),
        (dict(training_images=-1), "training_images is -1: give a whole number from 0."),
    ],
)
def test_impossible_values_are_named(given, sentence):
    with pytest.raises(UserError) as caught:
        make_settings(**given)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("recipe", RECIPES)
def test_every_bundle_fills_the_settings(profile, recipe):
    made = make_settings(3, 1, recipe=recipe, profile=profile)
    assert made.size == PROFILES[profile]["size"]
    assert made.accumulate_gradients == (recipe == "published")
    assert Settings(**dataclasses.asdict(made)) == made


def test_a_name_tells_a_run_from_all_others_and_is_read_back():
    plain = [dict(pool_depth=depth) for depth in DEPTHS]
    variants = [dict(pool_depth=3, pooling=pooling) for pooling in POOLINGS[1:]]
    variants += [dict(pool_depth=3, bottleneck=channels) for channels in (4, 1024)]
    variants += [dict(pool_depth=3, upsampler=upsampler) for upsampler in UPSAMPLERS[1:]]
    variants += [dict(training_images=143), dict(budget=1600), dict(early=True)]
    variants += [dict(training_images=143, budget=1600, early=True, upsampler="bilinear")]
    matched = [dict(pool_depth=depth, family="matched") for depth in DEPTHS]
    matched += [dict(pool_depth=2, family="matched", pooling=p) for p in POOLINGS if p != "strided"]
    controls = [dict(pool_depth=depth, family=name) for name, depth in CONTROLS.items()]
    made = [
        make_settings(**arm, seed=seed, recipe=recipe, data=data, profile=profile, split=split)
        for arm in [*plain, *variants, *matched, *controls]
        for seed, split in ((0, None), (12, None), (1, 0))
        for recipe in RECIPES
        for data in ("synthetic", "synthetic:8")
        for profile in ("smoke", "long")
    ]
    assert len({s.name for s in made}) == len(made)
    for settings in made:
        assert from_name(settings.name, profile="smoke") == settings
    assert make_settings(2, 1).name == "pool2-seed1"
    assert make_settings(3, 1, pooling="max2", split=0).name == "pool3-max2-seed1-split0"
    name = "matched3-max5-transposed-images143-steps1600-early-published-seed2"
    assert (
        found := from_name(name)
    ).name == name and found.base == "matched3-max5-transposed-published"
    assert (found.steps, found.training_images) == (1600, 143)
    assert from_name("lossless-ungrouped-early-seed0").base == "lossless-ungrouped"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("pool4-seed0", "pool_depth is 4"),
        ("pool1", "'pool1' is not the name of a run"),
        ("resnet-seed0", "'resnet-seed0' is not the name of a run"),
        ("pool1-max7-seed0", "'max7' says nothing"),
        ("matched2-c4-seed0", "not with pool_depth 2 of the family matched"),
        ("dilated-max2-seed0", "not with pool_depth 0 of the family dilated"),
        ("skip-bilinear-seed0", "not with pool_depth 3 of the family skip"),
        ("pool0-c4-seed0", "not with pool_depth 0 of the family published"),
        ("matched0-bilinear-seed0", "not with pool_depth 0 of the family matched"),
        ("narrow-ungrouped-seed0", "'ungrouped' says nothing"),
        ("area8-seed0", "'area8-seed0' is not the name of a run"),
        ("pool1early-seed0", "'pool1early-seed0' is not the name of a run"),
        ("pool1-images-seed0", "'images' says nothing"),
        ("pool1-band0-seed0", "data is 'synthetic:0'"),
    ],
)
def test_names_that_are_none_are_refused(name, sentence):
    with pytest.raises(UserError, match=sentence):
        from_name(name)


def test_the_published_recipe_is_the_original():
    s = make_settings(0, recipe="published", profile="published")
    assert (s.size, s.base_width, s.batch_size, s.steps) == (128, 64, 16, 100_000)
    assert (s.optimiser, s.learning_rate, s.weight_decay) == ("adam", 1e-5, 5e-5)
    assert s.accumulate_gradients and s.clamp_in_training
    assert not (s.flips or s.one_cycle or s.midrange_output or s.mirrored or s.crops)


def test_the_scale_says_what_the_steps_saw():
    quick, standard = (make_settings(profile=p, precision="float32") for p in ("quick", "standard"))
    assert "200 steps (25% on squares of half the side) in float32" in quick.scale
    assert "400 steps in float32" in standard.scale
    assert "squares" not in make_settings(recipe="published").scale
