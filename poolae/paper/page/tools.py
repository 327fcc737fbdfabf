"""What the page's tools need, as plain values for JSON: curves, samples, networks, photographs.

A page opened from disk can load nothing, so all of it stands in the page. The networks of the
published family at base width 16 take 6.2 MB there, in half precision, those of record as many
again; `template/colouriser.js` runs them, and `template/tools.js` shows the rest.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np

from poolae import metrics
from poolae.data import Part
from poolae.data.colour import lab01_to_rgb
from poolae.paper import figures
from poolae.paper.comparisons import representative_images
from poolae.paper.facts import PHOTOGRAPHS, photograph
from poolae.paper.show import data_uri, png_uri
from poolae.settings import UserError
from poolae.train import runs
from poolae.train.runs import Run

STEPS = 1000  # of the range, in which a sample's errors are rounded up: those of `metrics.BOUNDS`
PHOTOGRAPH_SIDE = 384  # pixels of the longer side
DASHES = ("1 3", "6 4", "9 3 2 3", "5 2 1 2 1 2", "2 2")  # of the baselines, which have no colour


def tools(
    found: Sequence[Run],
    test: Part,
    arms: Mapping[str, np.ndarray],
    baselines: Mapping[str, np.ndarray],
) -> dict:
    """Gather what `number.render` takes as `tools`.

    Parameters
    ----------
    found
        A run of the published family for each depth, all of one seed.
    test
        The test images of that seed.
    arms, baselines
        Accuracy curves at `metrics.BOUNDS`, (seeds, bounds), from `comparisons.curves`.

    Raises
    ------
    UserError
        If a network cannot be run in a browser.
    """
    rows, _ = representative_images(found)
    published = [run for run in runs.recorded() if run.plain]
    return {
        "curves": describe_curves(arms, baselines),
        "samples": [
            describe_sample(
                f"test image {rank}",
                test.lightness[row],
                test.chroma[row],
                {run.arm: run.predictions[row].astype(np.float32) for run in found},
            )
            for rank, row in enumerate(rows, start=1)
        ],
        "networks": [
            describe_network(run) | {"of": of}
            for of, some in {"record": published, "report": found}.items()
            for run in some
        ],
        "photographs": photographs(),
    }


def describe_curves(arms: Mapping[str, np.ndarray], baselines: Mapping[str, np.ndarray]) -> dict:
    """Describe accuracy curves, (seeds, bounds) each at `metrics.BOUNDS`, by their means.

    Returns
    -------
    dict
        `bounds`, and `lines`: for each its `name`, `accuracy`, `colour` (None for the colour
        of muted text) and `dash` of its stroke.
    """

    def line(name: str, curves: np.ndarray, colour: str | None = None, dash: str = "") -> dict:
        accuracy = curves.mean(axis=0).round(4).tolist()
        return {"name": name, "colour": colour, "dash": dash, "accuracy": accuracy}

    lines = [line(name, curves, figures.arm_colour(name)) for name, curves in arms.items()]
    dashed = zip(baselines.items(), cycle(DASHES), strict=False)
    lines += [line(*named, dash=dash) for named, dash in dashed]
    return {"bounds": metrics.BOUNDS.tolist(), "lines": lines}


def describe_sample(
    name: str, lightness: np.ndarray, chroma: np.ndarray, predictions: Mapping[str, np.ndarray]
) -> dict:
    """Describe one image, its truth, and what each network makes of it.

    Parameters
    ----------
    name
        What to call it.
    lightness : (1, H, W) array in [0, 1]
    chroma : (2, H, W) array in [0, 1]
        The truth.
    predictions
        For each network's name, chroma (2, H, W) in [0, 1].

    Returns
    -------
    dict
        `name`, `width`, `height`; `lightness` and `truth`, pictures as data URIs; and `networks`:
        for each its `name`, `picture`, and `errors`, the absolute errors of a, then b, in
        thousandths, rounded up and at most 255, as bytes in base64.
    """
    grey = np.full_like(chroma, 128 / 255)
    networks = []
    for network, predicted in predictions.items():
        # Rounded up, an error is within a bound exactly if its thousandths are; the margin lets
        # those that lie on a bound stay there.
        errors = np.ceil(np.abs(predicted - chroma) * STEPS - 1e-4).clip(0, 255).astype(np.uint8)
        networks.append(
            {
                "name": network,
                "picture": png_uri(lab01_to_rgb(lightness, predicted)),
                "errors": base64.b64encode(errors.tobytes()).decode("ascii"),
            }
        )
    return {
        "name": name,
        "width": lightness.shape[-1],
        "height": lightness.shape[-2],
        "lightness": png_uri(lab01_to_rgb(lightness, grey)),
        "truth": png_uri(lab01_to_rgb(lightness, chroma)),
        "networks": networks,
    }


def describe_network(run: Run) -> dict:
    """Describe a trained network of the published family, with its weights in half precision.

    Nothing is folded: after each convolution but the last come ReLU and what the normalisation
    does, a scale and a shift. So a border of zeros is all that the padding needs.

    Returns
    -------
    dict
        `name`, `size` (side of the images that it was trained on), `mirrored` (as in
        `models.Autoencoder`), `ops` and `weights`. An op
        has a `kind`: "conv" (3 x 3; `inputs`, `outputs`, and whether it is `normalised`),
        "pool" (the largest of 5 x 5, stride 2) or "up" (nearest, by 2). `weights` are
        little-endian in base64: for each convolution its kernels (outputs, inputs, 3, 3),
        biases, and if normalised scales and shifts.

    Raises
    ------
    UserError
        If the network has other steps, or weights beyond the range of half precision.
    """
    from torch import nn

    network = run.network()
    ops, values = [], []
    for layer, stage in zip(network.layers, network.stages, strict=True):
        pools = isinstance(layer, nn.MaxPool2d) and (layer.kernel_size, layer.padding) == (5, 2)
        if stage.kind == "up" or pools:
            ops.append({"kind": stage.kind})
            continue
        conv = next((m for m in layer.modules() if isinstance(m, nn.Conv2d)), None)
        if conv is None or (conv.kernel_size, conv.stride, conv.groups) != ((3, 3), (1, 1), 1):
            raise UserError(
                f"The run {run.name} has a step {stage.kind!r} that the page cannot compute: "
                "choose runs of pool0 to pool3."
            )
        normalised = stage.kind != "output"
        sides = {"inputs": stage.in_channels, "outputs": stage.out_channels}
        ops.append({"kind": "conv", **sides, "normalised": normalised})
        values += [conv.weight, conv.bias]
        if normalised:
            norm = layer[-1]
            scale = norm.weight / (norm.running_var + norm.eps).sqrt()
            values += [scale, norm.bias - norm.running_mean * scale]
    flat = np.concatenate([value.detach().numpy().ravel() for value in values])
    if not np.abs(flat).max() <= np.finfo(np.float16).max:
        raise UserError(
            f"The run {run.name} has weights up to {np.abs(flat).max():.3g}, too large for half "
            "precision: train it again."
        )
    halves = flat.astype("<f2").tobytes()
    return {
        "name": run.arm,
        "size": run.settings.size,
        "mirrored": network.mirrored,
        "ops": ops,
        "weights": base64.b64encode(halves).decode("ascii"),
    }


def photographs() -> list[dict]:
    """Return the sample photographs: a `name`, and a `picture` as a data URI, for each."""
    described = []
    for name, source in PHOTOGRAPHS.items():
        image = photograph(source)
        image.thumbnail((PHOTOGRAPH_SIDE, PHOTOGRAPH_SIDE))
        file = io.BytesIO()
        image.save(file, "JPEG", quality=85, subsampling=0)
        described.append({"name": name, "picture": data_uri("jpeg", file.getvalue())})
    return described
