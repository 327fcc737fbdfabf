"""Parameters: what is impossible is refused in one sentence that names it."""

import dataclasses

import pytest

from poolae import PROFILES, RECIPES, Settings, UserError, make_settings


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (dict(pool_depth=4), "pool_depth is 4: choose 0, 1, 2 or 3."),
        (dict(pool_depth=True), "pool_depth is True"),
        (dict(pool_depth="1"), "pool_depth is '1'"),
        (dict(profile="fast"), "profile is 'fast': choose smoke, quick, standard, long or published."),
        (dict(recipe="best"), "recipe is 'best': choose published, cleared or corrected."),
        (dict(pooling="max3"), "pooling is 'max3'"),
        (dict(seed=-1), "seed is -1"),
        (dict(seed=1.0), "seed is 1.0"),
        (dict(data=""), "data is ''"),
        (dict(steps=0), "steps is 0"),
        (dict(steps=10.5), "steps is 10.5"),
        (dict(learning_rate="1e-3"), "learning_rate is '1e-3'"),
        (dict(momentum=0.9), "momentum is not a setting"),
        (dict(pool_depth=3, size=36), "size is 36: 3 pooling layers need a multiple of 8."),
        (dict(optimiser="sgd"), "optimiser is 'sgd'"),
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


def test_names_tell_runs_apart():
    made = [
        make_settings(depth, seed, recipe=recipe, pooling=pooling)
        for depth in range(4)
        for seed in range(2)
        for recipe in RECIPES
        for pooling in ("max5", "max2")
    ]
    assert len({s.name for s in made}) == len(made)
    assert make_settings(2, 1).name == "pool2-seed1"


def test_the_published_recipe_is_the_original():
    s = make_settings(0, recipe="published", profile="published")
    assert (s.size, s.base_width, s.batch_size, s.steps) == (128, 64, 16, 100_000)
    assert (s.optimiser, s.learning_rate, s.weight_decay) == ("adam", 1e-5, 5e-5)
    assert s.accumulate_gradients and s.clamp_in_training
    assert not (s.flips or s.one_cycle or s.midrange_output)
