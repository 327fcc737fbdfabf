"""What is shown only where a person sits at the notebook: a live loss curve and an explorer."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from poolae import data, plots
from poolae.files import HEADLESS
from poolae.runs import Run

if TYPE_CHECKING:
    import ipywidgets


def interactive() -> bool:
    """Tell whether a person runs this notebook, and not papermill."""
    return not os.environ.get(HEADLESS)


def live_progress(settings, lightness: np.ndarray) -> Callable[[int, dict], None] | None:
    """Return a `watch` for `runs.train` that redraws the loss and the last sample as they come.

    Parameters
    ----------
    settings
        Of the run.
    lightness : (1, H, W) array in [0, 1]
        Of the picture that training shows.

    Returns
    -------
    callable or None
        None where nobody watches.
    """
    if not interactive():
        return None
    from IPython.display import SVG, display

    from poolae.train import snapshot_steps

    handle = display(display_id=True)

    def watch(step: int, history: dict[str, np.ndarray]) -> None:
        figure = plots.new_figure(7.2, 2.4)
        loss, picture = figure.subplots(1, 2, width_ratios=(3, 1))
        loss.plot(np.arange(1, step + 1), history["loss"][:step], color="0.6", linewidth=0.6)
        loss.set(xlabel="step", ylabel="L1 loss", yscale="log", xlim=(0, settings.steps))
        taken = [k for k, at in enumerate(snapshot_steps(settings.steps)) if at <= step]
        picture.set_axis_off()
        if taken:
            picture.imshow(data.lab01_to_rgb(lightness, history["snapshots"][taken[-1]]))
            picture.set_title("a test image, so far", loc="center")
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg")
        handle.update(SVG(buffer.getvalue()))

    return watch


def explorer(found: Sequence[Run]) -> ipywidgets.Widget:
    """Return a widget to look at any test image, or one's own, through any of these runs.

    Parameters
    ----------
    found
        Finished runs; their names are offered.

    Returns
    -------
    Widget
        Choices of run, image, upload and error bound above a row of pictures: truth,
        prediction, a, b, the error and which pixels are within the bound; the share of them
        beneath.
    """
    import ipywidgets

    runs = {run.name: run for run in found}
    first = found[0]
    test = data.load_for(first.settings).test
    wide = {"description_width": "5em"}
    choose_run = ipywidgets.Dropdown(options=list(runs), description="network", style=wide)
    choose_image = ipywidgets.IntSlider(
        value=0, min=0, max=len(test) - 1, description="image", style=wide
    )
    bound = ipywidgets.FloatSlider(
        value=0.05,
        min=0,
        max=0.1,
        step=0.005,
        description="bound",
        readout_format=".3f",
        style=wide,
    )
    upload = ipywidgets.FileUpload(accept="image/*", multiple=False, description="your own")
    picture = ipywidgets.Image(format="png")
    said = ipywidgets.Label()

    def chosen(run: Run) -> tuple[str, np.ndarray, np.ndarray]:
        if upload.value:
            size = run.settings.size
            lightness, chroma = picture_at(upload.value[0]["content"].tobytes(), size)
            return upload.value[0]["name"], lightness, chroma
        part = data.load_for(run.settings).test
        row = min(choose_image.value, len(part) - 1)
        return part.names[row], part.lightness[row], part.chroma[row]

    def draw(_=None) -> None:
        run = runs[choose_run.value]
        name, lightness, chroma = chosen(run)
        predicted = run.predict(lightness)
        picture.value, share = panel(lightness, chroma, predicted, bound.value)
        error = np.abs(predicted - chroma).mean()
        said.value = (
            f"{name}: mean absolute error {error:.4f}; {share:.1%} of the values are within "
            f"{bound.value:.3f}"
        )

    for control in (choose_run, choose_image, bound, upload):
        control.observe(draw, "value")
    draw()
    controls = ipywidgets.HBox([choose_run, choose_image, bound, upload])
    return ipywidgets.VBox([controls, picture, said])


def panel(
    lightness: np.ndarray, chroma: np.ndarray, predicted: np.ndarray, bound: float
) -> tuple[bytes, float]:
    """Draw truth, prediction, its a and b, the error and what is within the bound, as PNG.

    Parameters
    ----------
    lightness : (1, H, W) array in [0, 1]
    chroma, predicted : (2, H, W) arrays in [0, 1]
    bound
        On the absolute error.

    Returns
    -------
    png : bytes
    share : float
        Of the values of a and b that are within the bound.
    """
    errors = np.abs(predicted - chroma)
    within = (errors <= bound).mean(axis=0)  # 0, 1/2 or 1: neither, one or both of a and b
    row = [
        data.lab01_to_rgb(lightness, chroma),
        data.lab01_to_rgb(lightness, predicted),
        *(plots.chroma_picture(predicted[k], c) for k, c in enumerate("ab")),
        1 - np.clip(errors.mean(axis=0) / 0.1, 0, 1),
        within,
    ]
    titles = ["truth", "prediction", "a", "b", "error (black: 0.1)", "within (white)"]
    figure = plots.picture_grid([row], titles, side=1.6)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue(), float((errors <= bound).mean())


def picture_at(content: bytes, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Decode an image file and return lightness (1, S, S) and chroma (2, S, S) in [0, 1].

    Raises
    ------
    UserError
        If the bytes are no image that can be decoded.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    from poolae.errors import UserError

    try:
        with Image.open(io.BytesIO(content)) as opened:
            image = ImageOps.exif_transpose(opened).convert("RGB")
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise UserError(f"This file cannot be read as an image ({error}): try another.") from None
    image = image.resize((size, size), Image.Resampling.BILINEAR)
    lightness, chroma = data.rgb_to_lab01(np.asarray(image, np.float32)[None] / 255)
    return lightness[0], chroma[0]
