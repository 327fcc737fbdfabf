"""Files of pictures in, files of the same names out, in the colours that a run gives them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from poolae.data import recolour
from poolae.data.decode import Picture, read_picture
from poolae.data.sources import find_pictures
from poolae.files import replacing
from poolae.settings import UserError
from poolae.train.runs import Run

# How each kind is written; others as Pillow does by itself.
OPTIONS = {
    "JPEG": dict(quality=95, subsampling=0),
    "WEBP": dict(quality=95),
    "AVIF": dict(quality=90),
    "HEIF": dict(quality=90),
    "TIFF": dict(compression="tiff_adobe_deflate"),
}
# Tags of TIFF that say what is seen: description, camera, software, time, author, rights,
# resolution, and the folders of EXIF and GPS.
DESCRIBING = {270, 271, 272, 282, 283, 296, 305, 306, 315, 33432, 34665, 34853}


def colourise_files(
    run: Run, sources: Iterable[str | os.PathLike], out: str | os.PathLike, force: bool = False
) -> tuple[list[Path], list[str]]:
    """Write pictures in the colours that a run's network gives them.

    Size, lightness, transparency, EXIF and colour profile stay those of the picture, which
    becomes upright and of 8 bits a sample; where its profile is not for RGB, it becomes sRGB.

    Parameters
    ----------
    run
        A finished run.
    sources
        Files, and folders whose pictures are taken with their subfolders.
    out
        Folder that they are written to, under the same names.
    force
        Whether files that are there may be replaced.

    Returns
    -------
    written, left_out
        The files, and a sentence for each picture that was not coloured.

    Raises
    ------
    UserError
        If a file cannot be written.
    """
    from tqdm import tqdm

    written: list[Path] = []
    left_out: list[str] = []
    found = [pair for source in sources for pair in find_pictures(source, os.fspath(out))]
    for path, name in tqdm(found, "Colouring", unit=" pictures", disable=None, leave=False):
        target = Path(out) / name
        if target in written:
            left_out.append(f"{path}: another picture was written as {target}.")
        elif target.exists() and target.samefile(path):
            left_out.append(f"{path}: it would be replaced itself; give another --out.")
        elif target.exists() and not force:
            left_out.append(f"{path}: {target} is there; give --force to replace it.")
        else:
            try:
                picture = read_picture(path)
            except UserError as error:
                left_out.append(str(error))
                continue
            _write(run, picture, target)
            written.append(target)
    return written, left_out


def _write(run: Run, picture: Picture, target: Path) -> None:
    from PIL import Image

    rgb = recolour(np.asarray(picture.image), run.chroma_for(picture.over_white()))
    image = Image.fromarray(np.rint(255 * rgb).astype(np.uint8))
    if picture.back:
        image = picture.back.apply(image)
    if picture.alpha is not None:
        image.putalpha(picture.alpha)
    kind = "JPEG" if picture.original.format == "MPO" else picture.original.format
    options = OPTIONS.get(kind, {}) | ({"icc_profile": picture.profile} if picture.profile else {})
    exif = picture.original.getexif()
    if kind == "TIFF":  # whose tags also say how the old samples were laid out
        for tag in set(exif) - DESCRIBING:
            del exif[tag]
    if exif:
        options["exif"] = exif.tobytes()
    with replacing(target) as temporary:
        image.save(temporary, kind, **options)
