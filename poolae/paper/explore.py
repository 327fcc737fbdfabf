"""What is shown only where a person sits at the notebook: a live loss curve and an explorer."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from poolae import data, metrics
from poolae.files import HEADLESS
from poolae.paper import figures
from poolae.paper.facts import photographs_out_of_context
from poolae.paper.pictures import looks_of
from poolae.paper.show import png_uri
from poolae.settings import UserError
from poolae.train import runs
from poolae.train.runs import Run

if TYPE_CHECKING:
    import ipywidgets

SAMPLES = 3  # of the pictures along training: the first, the last and between
WORST = 0.1  # an error that is painted black: the largest bound of the accuracy curves


def interactive() -> bool:
    """Tell whether a person runs this notebook, and not papermill."""
    return not os.environ.get(HEADLESS)


def live_progress(
    settings, lightness: np.ndarray, chroma: np.ndarray
) -> Callable[[int, dict], None] | None:
    """Return a `watch` for `runs.train` that redraws the loss and the samples as they come.

    Parameters
    ----------
    settings
        Of the run.
    lightness : (1, H, W) array in [0, 1]
        Of the picture that training shows.
    chroma : (2, H, W) array in [0, 1]
        The same picture's, the truth.

    Returns
    -------
    callable or None
        None where nobody watches.
    """
    if not interactive():
        return None
    from IPython.display import SVG, display

    from poolae.train.loop import snapshot_steps

    handle = display(display_id=True)
    steps = snapshot_steps(settings.steps)
    colour = figures.arm_colour(settings.arm)

    def watch(step: int, history: dict[str, np.ndarray]) -> None:
        figure = figures.new_figure(9.6, 2.3)
        loss, *places = figure.subplots(1, 2 + SAMPLES, width_ratios=(3, *[1] * (1 + SAMPLES)))
        figures.loss_curve(loss, history["loss"][:step], colour).set_xlim(0, settings.steps)
        taken = sum(at <= step for at in steps)
        shown = np.linspace(0, max(taken - 1, 0), min(taken, SAMPLES)).astype(int)
        samples = [(f"step {steps[k]:,}", history["snapshots"][k]) for k in shown]
        for place in places:
            place.set_axis_off()
        for place, (title, planes) in zip(places, [("truth", chroma), *samples], strict=False):
            place.imshow(data.lab01_to_rgb(lightness, planes))
            place.set_title(title, loc="center")
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg")
        handle.update(SVG(buffer.getvalue()))

    return watch


def explorer_of_record(drawings: int = 3) -> ipywidgets.Widget:
    """Return an `explorer` of the networks that come with the checkout; nothing is trained.

    It offers photographs of scikit-image and the first drawings, as those that the networks were
    trained and tested on may not be shown.
    """
    from poolae.data.daisies import draw

    found = runs.recorded()
    size = found[0].settings.size
    shown = photographs_out_of_context(size) | {
        f"drawing {index + 1}": data.rgb_to_lab01(draw(index, size)) for index in range(drawings)
    }
    return explorer(found, data.Part(*map(np.stack, zip(*shown.values(), strict=True)), [*shown]))


def explorer(found: Sequence[Run], shown: data.Part | None = None) -> ipywidgets.Widget:
    """Return a widget to look at any test image, or one's own, through any of these runs.

    Parameters
    ----------
    found
        Finished runs; their networks and seeds are offered.
    shown
        What to look at in place of each run's own test images.

    Returns
    -------
    Widget
        Choices of image, upload, depth, seed and error bound above the pictures of `looks`, and
        the accuracy beneath.
    """
    import ipywidgets

    offered: dict[str, dict[str, Run]] = {}  # by arm, then by what its name says of seed and split
    for run in found:
        offered.setdefault(run.arm, {})[run.name.removeprefix(f"{run.arm}-seed")] = run
    tests = {run.name: shown or data.load_for(run.settings).test for run in found}

    narrow, wide = "11em", "19em"

    def control(kind: type, description: str, width: str, **options):
        style = {"description_width": "3.5em"}
        return kind(description=description, style=style, layout={"width": width}, **options)

    last = max(map(len, tests.values())) - 1
    image = control(ipywidgets.IntSlider, "image", wide, max=last, continuous_update=False)
    upload = ipywidgets.FileUpload(description="your own", accept="image/*")
    upload.layout.width = narrow
    depth = control(ipywidgets.Dropdown, "depth", narrow, options=list(offered))
    seed = control(ipywidgets.Dropdown, "seed", narrow, options=list(offered[depth.value]))
    bounds = dict(value=0.05, max=0.1, step=0.005, readout_format=".3f")
    bound = control(ipywidgets.FloatSlider, "bound", wide, **bounds)
    looked_at, said = ipywidgets.HTML(), ipywidgets.HTML()

    @lru_cache(maxsize=1)  # another bound needs no other prediction
    def predicted(arm: str, chosen: str, row: int, content: bytes | None) -> tuple:
        run = offered[arm][chosen]
        test = tests[run.name]
        if content is not None:
            name = upload.value[0]["name"]
            lightness, chroma = picture_at(name, content, run.settings.size)
        else:
            row = min(row, len(test) - 1)
            lightness, chroma, name = test.lightness[row], test.chroma[row], test.names[row]
        return name, lightness, chroma, run.predict(lightness)

    def draw(_=None) -> None:
        content = bytes(upload.value[0]["content"]) if upload.value else None
        try:
            name, *planes = predicted(depth.value, seed.value, image.value, content)
        except UserError as error:
            looked_at.value, said.value = "", escape(str(error))
            return
        looked_at.value = gallery(looks(*planes, bound.value))
        readable = name.encode(errors="replace").decode()  # not UTF-8, it could not be sent
        said.value = escape(f"{readable}: {in_words(*planes[1:], bound.value)}")

    def offer_seeds(_) -> None:
        kept, seeds = seed.value, list(offered[depth.value])
        if list(seed.options) != seeds:
            seed.options = seeds
            seed.value = kept if kept in seeds else seeds[0]

    def forget_upload(_) -> None:
        upload.value = ()

    depth.observe(offer_seeds, "value")
    image.observe(forget_upload, "value")
    controls = (image, upload, depth, seed, bound)
    for moved in controls:
        moved.observe(draw, "value")
    draw()
    row = ipywidgets.HBox(controls, layout={"flex_flow": "row wrap"})
    return ipywidgets.VBox([row, looked_at, said])


def looks(
    lightness: np.ndarray, chroma: np.ndarray, predicted: np.ndarray, bound: float
) -> dict[str, np.ndarray]:
    """Return the pictures of the explorer by title: truth, then prediction, with a and b.

    Parameters
    ----------
    lightness : (1, H, W) array in [0, 1]
    chroma, predicted : (2, H, W) arrays in [0, 1]
    bound
        On the absolute error.

    Returns
    -------
    dict
        sRGB (H, W, 3) or grey (H, W) in [0, 1]. The last picture of the first row is the error;
        of the second, which pixels are within the bound.
    """
    errors = np.abs(predicted - chroma)
    above, below = (
        dict(zip((name, f"a, {name}", f"b, {name}"), looks_of(lightness, planes), strict=True))
        for name, planes in (("truth", chroma), ("prediction", predicted))
    )
    return {
        **above,
        f"error (black: {WORST})": 1 - np.clip(errors.mean(axis=0) / WORST, 0, 1),
        **below,
        # 0, 1/2 or 1: neither, one or both of a and b
        f"within {bound:.3f} (white: both)": (errors <= bound).mean(axis=0),
    }


def gallery(pictures: Mapping[str, np.ndarray]) -> str:
    """Return pictures as HTML, four to a row, in the colours of the page around them."""
    cells = "".join(
        '<figure style="margin: 0">'
        f'<img alt="{escape(title)}" src="{png_uri(picture)}" '
        'style="width: 100%; image-rendering: pixelated; outline: 1px solid #8888">'
        '<figcaption style="text-align: center; line-height: 1.5">'
        f"{escape(title)}</figcaption></figure>"
        for title, picture in pictures.items()
    )
    columns = "repeat(4, minmax(0, 11rem))"
    return f'<div style="display: grid; grid-template-columns: {columns}; gap: 8px">{cells}</div>'


def in_words(chroma: np.ndarray, predicted: np.ndarray, bound: float) -> str:
    """Say how far a prediction (2, H, W) is from the truth, and how much is within the bound."""
    error = metrics.mean_absolute_error(predicted[None], chroma[None])[0]
    share = metrics.accuracy_curve(predicted[None], chroma[None], np.array([bound]))[0, 0]
    return (
        f"mean absolute error {error:.4f}, accuracy {100 * share:.1f} % "
        f"(share of the values of a and b that are within {bound:.3f} of the truth)"
    )


def picture_at(name: str, content: bytes, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Decode the image file `name` and return lightness (1, S, S) and chroma (2, S, S) in [0, 1].

    Raises
    ------
    UserError
        If the bytes are no image that can be decoded; the sentence says why.
    """
    from poolae.data.decode import decode_bytes, reason

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, about harmless oddities
            pixels, *_ = decode_bytes(content, size, name=name)
    except MemoryError:
        raise
    except Exception as error:  # decoders raise all kinds for a damaged file
        raise UserError(f"{name} cannot be shown ({reason(error)}): choose another.") from None
    lightness, chroma = data.rgb_to_lab01(pixels[None].astype(np.float32) / 255)
    return lightness[0], chroma[0]
