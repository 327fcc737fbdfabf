"""What may be chosen for a run, and the error for a choice that cannot be."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace

from poolae.models.architectures import CONTROLS


class UserError(Exception):
    """A sentence that names the file or value at fault and what to do about it.

    Commands print the sentence alone and exit non-zero; in a notebook it is
    the last line of the traceback.
    """


DEPTHS = (0, 1, 2, 3)
# The published network, the matched skeleton and its controls.
FAMILIES = ("published", "matched", *CONTROLS)
POOLINGS = ("max5", "max2", "average", "strided", "blur")
UPSAMPLERS = ("nearest", "bilinear", "transposed")
# What a run has unless it is asked for something else; a pooling of "" is what its family has.
EFFORT = dict(training_images=0, budget=0, early=False)
USUAL = dict(pooling="", bottleneck=0, upsampler="nearest", **EFFORT)
# What a name says with a number, such as c16 or steps1600.
NUMBERED = {"c": "bottleneck", "images": "training_images", "steps": "budget"}

BANDED = "synthetic:"  # synthetic images whose chroma ends at so many cycles per image
SOURCE = rf"(?s){BANDED}0*[1-9][0-9]*|(?!{BANDED}).+"

# How large a run is. Seeds are chosen in the Makefile.
PROFILES: dict[str, dict] = {
    # seconds, for tests: far too small to learn anything
    "smoke": dict(size=32, base_width=4, steps=24, batch_size=8, images=48, crops=0.75),
    # minutes on two cores, for which the squares are, in a quarter of the steps: more cost the
    # deepest network most, whose receptive field they do not hold; no study is made with them
    "quick": dict(size=64, base_width=16, steps=200, batch_size=16, images=320, crops=0.25),
    # two hours on two cores, with the Makefile's six seeds and every arm
    "standard": dict(size=64, base_width=16, steps=400, batch_size=16, images=768),
    # a small network and thirty times the published learning rate, which makes the slow
    # oscillation of the loss as much faster
    "long": dict(
        size=32, base_width=4, steps=20_000, batch_size=16, images=320, learning_rate=3e-4
    ),
    # the original's images and a small network: the same arms at another scale
    "large": dict(size=128, base_width=16, steps=400, batch_size=16, images=768),
    # the original's network and images, and 0.4 % of its steps: two hours on two cores
    "full": dict(size=128, base_width=64, steps=400, batch_size=16, images=768),
    # the original's scale; wants a GPU
    "published": dict(size=128, base_width=64, steps=100_000, batch_size=16, images=768),
}

# The original's training, its missing `optimizer.zero_grad()` included.
ORIGINAL = dict(
    optimiser="adam",
    learning_rate=1e-5,
    weight_decay=5e-5,
    one_cycle=False,
    accumulate_gradients=True,
    clamp_in_training=True,
    midrange_output=False,
    flips=False,
    crops=0.0,
    averaging=0.0,
    mirrored=False,
    colour_profiles=False,
)
# How a run is trained.
RECIPES: dict[str, dict] = {
    "published": ORIGINAL,
    "cleared": {**ORIGINAL, "accumulate_gradients": False},
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
        crops=0.0,
        averaging=0.98,
        mirrored=True,
        colour_profiles=True,
    ),
}


@dataclass(frozen=True)
class Settings:
    """Everything that decides a run's result, apart from the code and the machine."""

    profile: str  # the name of the bundle that the scale comes from
    data: str  # "synthetic", "synthetic:<bandwidth>", "daisies" or a folder of images
    images: int | None  # how many synthetic images to draw; None for photographs
    size: int  # side of the square images, pixels
    pool_depth: int  # pooling layers (or strides), 0 to 3
    family: str  # "published", "matched" or one of the matched family's controls
    pooling: str  # "max5" as in the published code, "strided" as in the matched family, ...
    upsampler: str  # "nearest" as published, "bilinear" or "transposed"
    bottleneck: int  # channels at the bottleneck; 0: as published
    base_width: int  # channels of the first convolution; 64 in the original
    seed: int  # picks the initialisation and the order of the batches
    split: int  # picks the split; equal to the seed unless seeds are compared on one split
    recipe: str  # the name of the bundle that the rest of the fields come from
    training_images: int  # how many of the training part to train on; 0: all
    early: bool  # set a fifth of them aside, and keep the weights that predict it best
    budget: int  # steps in place of the profile's, named where the run is; 0: the profile's
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
    crops: float  # the share of the steps, from the first, that see squares of half the side
    averaging: float  # decay of a moving average of the weights, which predicts; 0 for none
    mirrored: bool  # predict the mean of the answers to a picture and to its mirror image
    colour_profiles: bool  # convert photographs that carry a colour profile to sRGB
    precision: str  # of the convolutions and of Muon: "float32", "bfloat16", or "auto": what fits

    @property
    def arm(self) -> str:
        """What is compared: the name without seed and split, such as "pool3-max2"."""
        of_depth = {"published": f"pool{self.pool_depth}", "matched": f"matched{self.pool_depth}"}
        parts = [of_depth.get(self.family, self.family)]
        parts += [self.pooling] * (self.pooling != _usual_pooling(self.family))
        parts += [self.upsampler] * (self.upsampler != "nearest")
        numbers = {letters: getattr(self, field) for letters, field in NUMBERED.items()}
        parts += [f"{letters}{number}" for letters, number in numbers.items() if number]
        parts += ["early"] * self.early
        parts += [self.recipe] * (self.recipe != "corrected")
        parts += ["long"] * (self.profile == "long")
        if self.data.startswith(BANDED):
            parts.append("band" + self.data.removeprefix(BANDED))
        return "-".join(parts)

    @property
    def base(self) -> str:
        """The arm that it varies in images, steps or early stopping: itself if in none."""
        return replace(self, **EFFORT).arm

    @property
    def name(self) -> str:
        """The run's name, such as "pool3-max2-seed0"; `from_name` reads it."""
        split = f"-split{self.split}" * (self.split != self.seed)
        return f"{self.arm}-seed{self.seed}{split}"

    @property
    def scale(self) -> str:
        """How large it is, in words, without seeds and data."""
        squares = f" ({self.crops:.0%} on squares of half the side)" if self.crops else ""
        return (
            f"{self.size} × {self.size} pixels, base width {self.base_width}, {self.steps:,} "
            f"steps{squares} in {self.precision}"
        )

    def asdict(self) -> dict:
        """Return the fields as a plain dictionary."""
        return asdict(self)


def check_choice(what: str, value, choices: Iterable) -> None:
    """Raise a `UserError` that names `what`, `value` and the choices, unless it is one of them."""
    choices = list(choices)
    if not any(value == choice and type(value) is type(choice) for choice in choices):
        listed = ", ".join(map(str, choices[:-1])) + f" or {choices[-1]}"
        raise UserError(f"{what} is {value!r}: choose {listed}.")


def make_settings(
    pool_depth: int = 1,
    seed: int = 0,
    recipe: str = "corrected",
    data: str = "synthetic",
    profile: str = "quick",
    family: str = "published",
    split: int | None = None,
    precision: str = "auto",
    **overrides,
) -> Settings:
    """Fill a run's settings from a profile and a recipe.

    Parameters
    ----------
    pool_depth, seed, recipe, data, family
        As in `Settings`.
    split
        As in `Settings`; None for the seed.
    profile
        Key of `PROFILES`: how large the run is.
    precision
        "float32", "bfloat16", or "auto", which becomes what fits the machine that trains the run.
    **overrides
        Single fields of `Settings` that differ from `USUAL`, the profile or the recipe; an empty
        `pooling` is the family's.

    Raises
    ------
    UserError
        If a name is unknown or a value impossible; the sentence says which.
    """
    check_choice("pool_depth", pool_depth, DEPTHS)
    check_choice("family", family, FAMILIES)
    check_choice("recipe", recipe, RECIPES)
    check_choice("profile", profile, PROFILES)
    check_choice("precision", precision, ("auto", "float32", "bfloat16"))
    split = seed if split is None else split
    for what, value in (("seed", seed), ("split", split)):
        if type(value) is not int or not 0 <= value < 2**32:
            raise UserError(f"{what} is {value!r}: give a whole number from 0 to {2**32 - 1}.")
    if pool_depth != (depth := CONTROLS.get(family, pool_depth)):
        raise UserError(f"pool_depth is {pool_depth}: the {family} network has {depth}.")
    if not isinstance(data, str) or not re.fullmatch(SOURCE, data):
        raise UserError(
            f"data is {data!r}: give 'synthetic', 'synthetic:<cycles per image>', "
            "'daisies' or a folder of images."
        )
    bundle = {**USUAL, **RECIPES[recipe], **PROFILES[profile]}
    if recipe != "corrected":  # the original saw whole images
        bundle["crops"] = 0.0
    for key, value in overrides.items():
        if key not in bundle:
            raise UserError(f"{key} is not a setting: choose among {', '.join(bundle)}.")
        kind = type(bundle[key])
        if kind is float and type(value) is int and abs(value) < 2**53:
            value = float(value)
        if type(value) is not kind:
            raise UserError(f"{key} is {value!r}: give a value of type {kind.__name__}.")
        bundle[key] = value
    for key in ("size", "base_width", "steps", "batch_size", "images", *USUAL):
        if type(bundle[key]) is int and bundle[key] < (least := int(key not in USUAL)):
            raise UserError(f"{key} is {bundle[key]}: give a whole number from {least}.")
    _check_operators(family, pool_depth, bundle)
    bundle["steps"] = bundle["budget"] or bundle["steps"]
    if not 0 < bundle["learning_rate"] < math.inf:
        raise UserError(f"learning_rate is {bundle['learning_rate']}: give a number above 0.")
    if not 0 <= bundle["weight_decay"] < math.inf:
        raise UserError(f"weight_decay is {bundle['weight_decay']}: give 0 or a number above it.")
    if not 0 <= bundle["averaging"] < 1:
        raise UserError(f"averaging is {bundle['averaging']}: give 0 or a decay below 1.")
    if not 0 <= bundle["crops"] <= 1:
        raise UserError(f"crops is {bundle['crops']}: give a share from 0 to 1.")
    check_choice("optimiser", bundle["optimiser"], ("adam", "adamw", "muon"))
    if bundle["size"] % 2**pool_depth:
        raise UserError(
            f"size is {bundle['size']}: {pool_depth} pooling layers need a multiple "
            f"of {2**pool_depth}."
        )
    if data != "synthetic" and not data.startswith(BANDED):
        bundle["images"] = None
    return Settings(
        profile=profile,
        data=data,
        pool_depth=pool_depth,
        family=family,
        seed=seed,
        split=split,
        recipe=recipe,
        precision=precision,
        **bundle,
    )


def from_name(
    name: str, data: str = "synthetic", profile: str = "quick", precision: str = "auto"
) -> Settings:
    """Return the settings of the run called `name`, the inverse of `Settings.name`.

    Raises
    ------
    UserError
        If no run can be called that.
    """
    controls = "|".join(sorted(CONTROLS, key=len, reverse=True))  # of two that fit, the longer
    family = rf"(?:(pool|matched)(\d+)|({controls}))"
    match = re.fullmatch(rf"{family}((?:-[^-]+)*)-seed(\d+)(?:-split(\d+))?", name)
    if not match:
        raise UserError(
            f"{name!r} is not the name of a run: write it like pool1-seed0, matched3-seed2, "
            f"{'-seed0, '.join(CONTROLS)}-seed0, pool3-max2-seed0, pool3-c16-seed0 or "
            "pool1-images143-steps1600-early-seed0."
        )
    of_depth, depth, control, variants, seed, split = match.groups()
    given = {
        "pool_depth": CONTROLS[control] if control else int(depth),
        "seed": int(seed),
        "data": data,
        "profile": profile,
        "family": control or {"pool": "published"}.get(of_depth, of_depth),
        "split": int(split or seed),
        "precision": precision,
    }
    words = dict.fromkeys(POOLINGS, "pooling") | dict.fromkeys(UPSAMPLERS, "upsampler")
    words |= dict.fromkeys(RECIPES, "recipe") | {"long": "profile"}
    for part in variants.split("-")[1:]:
        number = re.fullmatch(r"([a-z]+)(\d+)", part)
        if part in words:
            given[words[part]] = part
        elif part == "early":
            given["early"] = True
        elif part.startswith("band"):
            given["data"] = BANDED + part.removeprefix("band")
        elif number and number[1] in NUMBERED:
            given[NUMBERED[number[1]]] = int(number[2])
        else:
            raise UserError(f"{name!r} is not the name of a run: {part!r} says nothing.")
    return make_settings(**given)


def _check_operators(family: str, pool_depth: int, bundle: dict) -> None:
    bundle["pooling"] = bundle["pooling"] or _usual_pooling(family)
    check_choice("pooling", bundle["pooling"], POOLINGS)
    check_choice("upsampler", bundle["upsampler"], UPSAMPLERS)
    varied = (bundle["pooling"], bundle["upsampler"]) != (_usual_pooling(family), "nearest")
    few = not pool_depth or family in CONTROLS
    if (varied and few) or (bundle["bottleneck"] and (few or family != "published")):
        raise UserError(
            "pooling and upsampler vary in pool1 to pool3 and in matched1 to matched3, bottleneck "
            f"in the first alone, not with pool_depth {pool_depth} of the family {family}."
        )


def _usual_pooling(family: str) -> str:
    return "max5" if family == "published" else "strided"
