"""The settings of a run: one frozen dataclass, and the named bundles that fill it.

Importing this module costs nothing: it is what the command line and every
notebook need in order to refuse an impossible parameter at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from poolae.errors import UserError

DEPTHS = (0, 1, 2, 3)
POOLINGS = ("max5", "max2")

# How large a run is. Seeds are chosen in the Makefile.
PROFILES: dict[str, dict] = {
    # seconds, for tests: far too small to learn anything
    "smoke": dict(size=32, base_width=4, steps=24, batch_size=8, images=48),
    # minutes on two cores
    "quick": dict(size=64, base_width=16, steps=300, batch_size=16, images=320),
    # two hours on two cores, with the Makefile's six seeds
    "standard": dict(size=64, base_width=16, steps=1500, batch_size=16, images=768),
    # the original's scale; wants a GPU
    "published": dict(size=128, base_width=64, steps=100_000, batch_size=16, images=768),
}

# How a run is trained.
RECIPES: dict[str, dict] = {
    # The original's, its missing `optimizer.zero_grad()` included.
    "published": dict(
        optimiser="adam",
        learning_rate=1e-5,
        weight_decay=5e-5,
        one_cycle=False,
        accumulate_gradients=True,
        clamp_in_training=True,
        midrange_output=False,
        flips=False,
    ),
    # The same task with the gradients cleared, and what earned its place.
    "corrected": dict(
        optimiser="muon",
        learning_rate=2e-3,
        weight_decay=1e-2,
        one_cycle=True,
        accumulate_gradients=False,
        clamp_in_training=False,
        midrange_output=True,
        flips=True,
    ),
}


@dataclass(frozen=True)
class Settings:
    """Everything that decides a run's result, apart from the code and the machine."""

    data: str  # "synthetic", "daisies" or a folder of images
    images: int | None  # how many synthetic images to draw; None for photographs
    size: int  # side of the square images, pixels
    pool_depth: int  # pooling layers, 0 to 3
    pooling: str  # "max5" as in the published code, "max2" as in its figure
    base_width: int  # channels of the first convolution; 64 in the original
    seed: int  # picks the split, the initialisation and the order of the batches
    recipe: str  # the name of the bundle that the rest of the fields come from
    steps: int  # optimiser steps
    batch_size: int  # images per step
    optimiser: str  # "adam", "adamw" or "muon" (Muon for kernels, AdamW for the rest)
    learning_rate: float  # constant, or the peak of the one-cycle schedule
    weight_decay: float  # an L2 term under "adam", decoupled otherwise
    one_cycle: bool  # warm up and anneal the learning rate over `steps`
    accumulate_gradients: bool  # never clear the gradients: the original's defect
    clamp_in_training: bool  # clip the output to [0, 1] before the loss (HardTanh)
    midrange_output: bool  # start from the output 0.5 everywhere, which is grey
    flips: bool  # mirror half of the training images left to right

    @property
    def name(self) -> str:
        """The run's name, from which `parse_name` recovers its parameters."""
        parts = [f"pool{self.pool_depth}"]
        if self.pooling != "max5":
            parts.append(self.pooling)
        if self.recipe != "corrected":
            parts.append(self.recipe)
        return "-".join([*parts, f"seed{self.seed}"])

    def asdict(self) -> dict:
        """Return the fields as a plain dictionary."""
        return asdict(self)


def check_choice(what: str, value, choices: Iterable) -> None:
    """Raise a `UserError` that names `what`, `value` and the choices, unless it is one of them."""
    choices = list(choices)
    if value not in choices or isinstance(value, bool):
        listed = ", ".join(map(str, choices[:-1])) + f" or {choices[-1]}"
        raise UserError(f"{what} is {value!r}: choose {listed}.")


def make_settings(
    pool_depth: int = 1,
    seed: int = 0,
    recipe: str = "corrected",
    data: str = "synthetic",
    profile: str = "quick",
    pooling: str = "max5",
    **overrides,
) -> Settings:
    """Fill a run's settings from a profile and a recipe.

    Parameters
    ----------
    pool_depth, seed, recipe, data, pooling
        As in `Settings`.
    profile
        Key of `PROFILES`: how large the run is.
    **overrides
        Single fields of `Settings` that differ from the profile or the recipe.

    Raises
    ------
    UserError
        If a name is unknown or a value impossible; the sentence says which.
    """
    check_choice("pool_depth", pool_depth, DEPTHS)
    check_choice("pooling", pooling, POOLINGS)
    check_choice("recipe", recipe, RECIPES)
    check_choice("profile", profile, PROFILES)
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise UserError(f"seed is {seed!r}: give a whole number from 0.")
    if not isinstance(data, str) or not data:
        raise UserError(f"data is {data!r}: give 'synthetic', 'daisies' or a folder of images.")
    bundle = {**PROFILES[profile], **RECIPES[recipe]}
    for key, value in overrides.items():
        if key not in bundle:
            raise UserError(f"{key} is not a setting: choose among {', '.join(bundle)}.")
        kind = type(bundle[key])
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if type(value) is not kind:
            raise UserError(f"{key} is {value!r}: give a value of type {kind.__name__}.")
        bundle[key] = value
    for key in ("size", "base_width", "steps", "batch_size", "images"):
        if bundle[key] < 1:
            raise UserError(f"{key} is {bundle[key]}: give a whole number from 1.")
    check_choice("optimiser", bundle["optimiser"], ("adam", "adamw", "muon"))
    if bundle["size"] % 2**pool_depth:
        raise UserError(
            f"size is {bundle['size']}: {pool_depth} pooling layers need a multiple "
            f"of {2**pool_depth}."
        )
    if data != "synthetic":
        bundle["images"] = None
    return Settings(
        data=data, pool_depth=pool_depth, pooling=pooling, seed=seed, recipe=recipe, **bundle
    )
