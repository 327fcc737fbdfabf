"""Drawn daisies: the data set that lets every notebook run offline.

A picture is a *scene* (every random choice, in units of the picture's side) that is then rendered
at some size, so the same index gives the same scene at every size. Petals, stems, leaves, blades
of grass and the florets of a disc are all one primitive, a `RIBBON`: a quadratic centre line with
a width profile, two colours and a few shading terms, placed in perspective by whoever builds it.
A layer of ribbons is painted back to front by scattering points denser than pixels, blurred by its
distance from the focal plane, shadowed onto the layers behind and composited in linear light. A
camera follows: vignetting, white balance, exposure, a tone curve, noise.

Held against 300 of the 764 photographs of the original study (128 px, a and b in [0, 1]), four
runs of 300 drawn pictures give a mean absolute error of .050 for constant grey (photographs: .051)
and of .034 for a table from lightness to the median a and b (.038). Power in radial bands agrees
within a factor of 1.3.
"""

from __future__ import annotations

from numbers import Real
from typing import NamedTuple

import numpy as np
from scipy.fft import dctn, idctn
from scipy.ndimage import correlate1d
from skimage.color import rgb2lab
from skimage.color.colorconv import xyz_from_rgb

MIN_SIZE, MAX_SIZE = 16, 512
KNEE = np.float32(0.6)  # linear light above which the camera compresses
GOLDEN_ANGLE = np.pi * (3 - np.sqrt(5))
WHITE_POINT = np.array([0.95047, 1.0, 1.08883])  # D65, 2 degrees, as in skimage.color
RGB_FROM_XYZ = np.linalg.inv(xyz_from_rgb)

# Petals in CIE LCh: share of pictures, then ranges of L, of chroma, of hue in degrees, and of the
# root's chroma relative to the tip's. Coloured ones overlap in L with each other and with white in
# the shade, so lightness alone does not tell the colour.
PETALS = {
    "white": (0.61, (90, 97), (0, 5), (60, 320), (0.5, 1.5)),
    "cream": (0.06, (84, 94), (12, 32), (85, 100), (0.6, 1.6)),
    "yellow": (0.10, (70, 90), (55, 88), (78, 98), (0.85, 1.2)),
    "pink": (0.13, (62, 86), (20, 55), (-25, 18), (0.4, 1.3)),
    "violet": (0.07, (48, 84), (20, 52), (294, 325), (0.5, 1.3)),
    "red": (0.03, (40, 66), (50, 82), (22, 62), (0.8, 1.2)),
}
DARK_EYES = {"white": 0.08, "yellow": 0.3, "pink": 0.3, "violet": 0.55, "red": 0.5}

# Points of a ribbon lie s in [0, 1] along it and t in [-1, 1] across it:
# start + along s + bend s^2 + across width(s) t.
RIBBON = np.dtype(
    [
        ("start", "f4", 2),
        ("along", "f4", 2),
        ("bend", "f4", 2),
        ("across", "f4", 2),
        ("base", "f4"),  # width at s = 0, relative to the widest place
        ("belly", "f4"),  # s of the widest place
        ("swell", "f4"),  # exponent of the growth towards it
        ("blunt", "f4"),  # how square the far end is: 2 is an ellipse
        ("notch", "f4"),  # depth of the teeth at the far end
        ("root", "f4", 3),  # linear RGB at s = 0
        ("tip", "f4", 3),  # linear RGB at s = 1
        ("turn", "f4"),  # exponent of s in going from root to tip
        ("light", "f4", 2),  # share of the sun received at s = 0 and s = 1
        ("tilt", "f4"),  # change of that share across t
        ("edge", "f4"),  # darkening of the margins
        ("groove", "f4"),  # depth of the furrows along a petal
        ("rib", "f4"),  # brightness of a midrib
        ("vein", "f4"),  # contrast of the side veins of a leaf
    ]
)


class Layer(NamedTuple):
    """Things at one distance; lengths in picture sides."""

    ribbons: np.ndarray  # back to front
    blur: float = 0.0  # standard deviation
    shadow: tuple[float, float, float] = (0.0, 0.0, 0.0)  # on what is behind: x, y, strength


class Scene(NamedTuple):
    """Everything random about a picture except its sensor noise."""

    backdrop: tuple  # (grids, gains, palette, ramp): see _backdrop
    layers: list[Layer]  # far to near
    sun: np.ndarray  # RGB of the light that has a direction
    sky: np.ndarray  # RGB of the light that has none
    camera: dict


# ---------------------------------------------------------------------------------------------
# Colour


def _lab_to_linear(lab):
    """CIE Lab (..., 3) to linear sRGB, unclipped: the inverse of `skimage.color.rgb2lab`."""
    fy = (lab[..., 0] + 16) / 116
    f = np.stack([fy + lab[..., 1] / 500, fy, fy - lab[..., 2] / 200], axis=-1)
    xyz = np.where(f > 6 / 29, f**3, (f - 16 / 116) / 7.787) * WHITE_POINT
    return xyz @ RGB_FROM_XYZ.T


def _encode(linear):
    """Linear light in [0, 1] to sRGB values (IEC 61966-2-1)."""
    return np.where(
        linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 1e-9) ** (1 / 2.4) - 0.055
    )


def _lch(lightness, chroma, hue):
    """Linear RGB (..., 3) of a lightness, a chroma and a hue in degrees, kept in gamut."""
    lightness, chroma, hue = np.broadcast_arrays(lightness, chroma, np.radians(hue))
    lab = np.stack([lightness, chroma * np.cos(hue), chroma * np.sin(hue)], axis=-1)
    return np.clip(_lab_to_linear(lab), 0.0, 1.0)


# ---------------------------------------------------------------------------------------------
# Rendering


def _resampler(n_out, n_in, blur, shift=0.0):
    """Matrix (n_out, n_in) that resamples one axis with a Gaussian of standard deviation `blur`."""
    out = (np.arange(n_out, dtype=np.float32) + 0.5) / n_out - shift
    inner = (np.arange(n_in, dtype=np.float32) + 0.5) / n_in
    # Half an input pixel at least, else magnified pixels would show as squares.
    sigma = max(blur, 0.5 / n_in)
    # Places beyond the border take the colour of the border.
    distance = np.clip(out, 0, 1)[:, None] - inner
    weights = np.exp(-0.5 * (distance / sigma) ** 2)
    return weights / weights.sum(axis=1, keepdims=True)


def _resample(image, side, blur, shift=(0.0, 0.0)):
    """Image (h, w, channels) to (side, side, channels), blurred and shifted by (x, y)."""
    h, w, channels = image.shape
    rows = _resampler(side, h, blur, shift[1]) @ image.reshape(h, w * channels)
    return _resampler(side, w, blur, shift[0]) @ rows.reshape(side, w, channels)


def _teeth(t):
    """Chebyshev's T4: three crests and two furrows across a petal."""
    return 1 - 8 * t * t * (1 - t * t)


def _spread(counts):
    """For groups of the given sizes: the group of each member, and its place in [0, 1]."""
    group = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    first = (np.cumsum(counts) - counts).astype(np.int32)
    place = np.arange(len(group), dtype=np.int32) - first[group]
    return group, (place + np.float32(0.5)) * (1 / np.maximum(counts, 1)).astype(np.float32)[group]


def _paint(ribbons, side, sun, sky):
    """Ribbons, back to front, as premultiplied linear RGB and coverage (side, side, 4)."""
    field = {name: np.ascontiguousarray(ribbons[name]) for name in RIBBON.names}
    density = np.float32(1.45 * side)  # spacing below 1/sqrt(2) px leaves no pixel unpainted
    reach = np.hypot(*ribbons["along"].T) + np.hypot(*ribbons["bend"].T)
    owner, s = _spread(np.ceil(density * reach).astype(int) + 1)

    belly, base = field["belly"][owner], field["base"][owner]
    grown = np.clip(s / belly, 0, 1)
    width = base + (1 - base) * (grown * (2 - grown)) ** field["swell"][owner]
    closing = np.clip((s - belly) / (1 - belly), 0, 1)
    width *= np.sqrt(1 - closing ** field["blunt"][owner])
    along = field["along"][owner]
    centre = field["start"][owner] + s[:, None] * (along + s[:, None] * field["bend"][owner])
    across = field["across"][owner] * width[:, None]
    half = np.hypot(*across.T)
    pixels = 2 * side * half
    n_across = np.ceil(1.45 * pixels).astype(int)
    # Points spread over w - 1 pixels touch w of them. Rows under a pixel wide are drawn as often
    # as they are wide.
    thin = pixels < 1
    n_across[thin] = pixels[thin] > np.flatnonzero(thin) * 0.618034 % 1
    n_across[np.abs(centre - np.float32(0.5)).max(axis=1) - half > 0.56] = 0  # out of the picture
    across *= ((1 - 1 / np.maximum(pixels, 1)) / (1 - 1 / np.maximum(n_across, 2)))[:, None]
    row, t = _spread(n_across)
    t = 2 * t - 1

    wave = _teeth(t)
    teeth = (field["notch"][owner] * s**3)[:, None] * along
    x, y = (
        (np.float32(side) * centre[:, k])[row]
        + t * (np.float32(side) * across[:, k])[row]
        + wave * (np.float32(side) * teeth[:, k])[row]
        for k in (0, 1)
    )
    inside = np.flatnonzero((x >= 0) & (x < side) & (y >= 0) & (y < side)).astype(np.int32)
    pixel = y[inside].astype(np.int32) * side + x[inside].astype(np.int32)
    top = np.full(side * side, -1, np.int32)
    top[pixel] = inside  # of repeated pixels numpy keeps the last, which is the nearest

    seen = np.flatnonzero(top >= 0)
    point = top[seen]
    row, t, wave = row[point], t[point], wave[point]
    owner, s = owner[row], s[row]
    mix = (s ** field["turn"][owner])[:, None]
    root = field["root"][owner]
    colour = root + mix * (field["tip"][owner] - root)
    light = field["light"][owner]
    light = light[:, 0] + s * (light[:, 1] - light[:, 0]) + field["tilt"][owner] * t
    shade = 1 - field["edge"][owner] * (t * t) ** 2
    shade *= 1 - field["groove"][owner] * (0.5 - 0.5 * wave)
    shade *= 1 + field["rib"][owner] / (1 + 81 * t * t)
    if field["vein"].any():
        ripple = np.cos(np.float32(2 * np.pi) * (6 * s - np.float32(1.6) * np.abs(t)))
        shade *= 1 + field["vein"][owner] * ripple
    canvas = np.zeros((side * side, 4), np.float32)
    canvas[seen, :3] = colour * shade[:, None] * (sky + sun * np.clip(light, 0, 1.2)[:, None])
    canvas[seen, 3] = 1
    return canvas.reshape(side, side, 4)


def _backdrop(spec, side):
    """Backdrop (side, side, 3): two noise fields look up a palette (n, 2, 3) bilinearly.

    `spec` is the noise grids, the gain of each, the palette and the slope of the first field
    from the top to the bottom.
    """
    grids, gains, palette, ramp = spec
    fields = np.zeros((side, side, 2), np.float32)
    for grid, gain in zip(grids, gains, strict=True):
        fields += np.float32(gain) * _resample(grid, side, 0.5 / len(grid))
    y = ((np.arange(side, dtype=np.float32) + 0.5) / side)[:, None]
    u = np.clip(0.5 + fields[..., 0] + np.float32(ramp) * (y - 0.5), 0, 1) * (len(palette) - 1.001)
    v = np.clip(0.5 + fields[..., 1:], 0, 1)
    i = u.astype(np.int32)
    w = (u - i.astype(np.float32))[..., None]
    first, second = (p[i] + w * (p[i + 1] - p[i]) for p in palette.transpose(1, 0, 2))
    return first + v * (second - first)


def _render(scene, size, noise):
    """The scene as sRGB (size, size, 3) float32 in [0, 1]."""
    factor = 2 if size >= 48 else 4  # supersampling
    picture = _backdrop(scene.backdrop, size)
    for layer in scene.layers:
        # A blurred layer needs few pixels: about two to a standard deviation.
        side = factor * size
        while side > 32 and layer.blur * side > 3:
            side //= 2
        paint = _paint(layer.ribbons, side, scene.sun, scene.sky)
        if side == factor * size:
            paint = sum(paint[i::factor, j::factor] for i in range(factor) for j in range(factor))
            paint /= np.float32(factor**2)
        if layer.blur:
            paint = _resample(paint, size, layer.blur)
        dx, dy, strength = layer.shadow
        if strength:
            cast = _resample(paint[::2, ::2, 3:], size, 0.012 + layer.blur, (dx, dy))
            picture *= 1 - np.float32(strength) * cast
        picture *= 1 - paint[..., 3:]
        picture += paint[..., :3]
    return _develop(picture, scene.camera, noise)


def _develop(linear, camera, noise):
    """Camera: linear scene light (size, size, 3) to sRGB in [0, 1]."""
    size = len(linear)
    for axis in (0, 1):  # the lens
        kernel = [camera["softness"], 1 - 2 * camera["softness"], camera["softness"]]
        linear = correlate1d(linear, kernel, axis, mode="nearest")
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5
    radius2 = axis[:, None] ** 2 + axis**2
    linear = linear * (camera["gain"] * (1 - camera["vignette"] * radius2[..., None] * 2))
    linear = linear + camera["veil"]
    grey = linear.mean(axis=-1, keepdims=True)
    linear = grey + camera["saturation"] * (linear - grey)
    linear = np.maximum(linear, 0)
    bright = np.maximum(linear - KNEE, 0)
    # A shoulder above the knee, so that bright petals keep their shading.
    linear += (1 - KNEE) * np.tanh(bright / (1 - KNEE)) - bright
    encoded = _encode(linear)
    encoded += camera["contrast"] * encoded * (1 - encoded) * (2 * encoded - 1)
    grain = noise.standard_normal((size, size, 4), dtype=np.float32)
    # Shot noise: its share of the signal falls with light, and part of it is common to R, G, B.
    amount = camera["noise"] * (0.5 + np.sqrt(np.clip(encoded, 0, 1)) * 0.5)
    encoded += amount * (0.6 * grain[..., :3] + 0.8 * grain[..., 3:])
    return np.clip(encoded, 0, 1).astype(np.float32)


# ---------------------------------------------------------------------------------------------
# Things in the scene


def _ribbons(n, **fields):
    """`n` ribbons, plain strips unless told otherwise."""
    ribbons = np.zeros(n, RIBBON)
    plain = {"base": 1.0, "belly": 0.5, "swell": 1.0, "blunt": 2.0, "turn": 1.0, "light": 1.0}
    for name, value in (plain | fields).items():
        ribbons[name] = value
    return ribbons


def _unit(v):
    return v / np.linalg.norm(v, axis=-1, keepdims=True)


def _lit(normal, light, wrap=0.45):
    """Share of the sun on a surface of this normal, softened: plants let light through."""
    return np.clip((normal @ light + wrap) / (1 + wrap), 0.05, 1)


def _petal_colours(rng, kinds):
    """For flowers of these kinds: root, tip and disc colours (n, 3) and turn (n,)."""
    n = len(kinds)
    root, tip, disc, turn = np.empty((n, 3)), np.empty((n, 3)), np.empty((n, 3)), np.empty(n)
    for kind, (_, *ranges) in PETALS.items():
        own = np.flatnonzero(kinds == kind)
        if not len(own):
            continue
        # Flowers of one kind in one picture are siblings: one mean, small differences.
        L, chroma, hue, fade = (rng.uniform(*r) for r in ranges)
        L = np.clip(L + rng.normal(0, 2, len(own)), 5, 97)
        hue = hue + rng.normal(0, 4, len(own))
        chroma = chroma * rng.normal(1, 0.1, len(own))
        tip[own] = _lch(L, chroma, hue)
        root[own] = _lch(L + rng.uniform(-5, 3), chroma * fade, hue + rng.uniform(-8, 8))
        turn[own] = rng.uniform(0.6, 1.6)
        eye = rng.random() < DARK_EYES.get(kind, 0)
        spread = rng.normal(0, 3, len(own))
        yellow = _lch(rng.uniform(64, 84) + spread, rng.uniform(70, 90), rng.uniform(74, 92))
        dark = _lch(rng.uniform(10, 26) + spread, rng.uniform(8, 30), rng.uniform(-80, 60))
        disc[own] = dark if eye else yellow
    return root, tip, disc, turn


def _flowers(rng, centre, radius, lean, azimuth, kinds, sun, ground):
    """Ribbons of `n` flowers, far to near.

    Parameters
    ----------
    centre, radius : ndarray (n, 2), (n,)
        In picture sides, y downwards.
    lean, azimuth : ndarray (n,)
        Angle between a flower's axis and the line of sight (0: seen from the front; above pi / 2:
        from behind), and the direction in the picture that the axis leans to.
    kinds : ndarray (n,) of str
        Keys of `PETALS`.
    sun : ndarray (3,)
        Unit vector towards the light, z towards the viewer.
    ground : ndarray (n, 2)
        Where each stem ends.
    """
    n = len(kinds)
    u = rng.uniform
    root, tip, disc, turn = _petal_colours(rng, kinds)
    zero = np.zeros(n)
    side = np.stack([-np.sin(azimuth), np.cos(azimuth), zero], axis=1)
    toward = np.stack([np.cos(azimuth), np.sin(azimuth)], axis=1)
    axis = np.concatenate([np.sin(lean)[:, None] * toward, np.cos(lean)[:, None]], axis=1)
    other = np.cross(axis, side)
    behind = axis[:, 2] < 0
    heart = radius * (u(0.17, 0.36) * rng.normal(1, 0.07, n)).clip(0.14, 0.4)  # radius of the disc
    count = np.rint(u(9, 34) * rng.normal(1, 0.08, n)).astype(int).clip(8, 36)

    # Petals: two rings, alternating.
    f, place = _spread(count)
    m = len(f)
    ring = np.arange(m) % 2
    angle = 2 * np.pi * (place + rng.normal(0, 0.2, m) / count[f] + rng.random(n)[f])
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    out = cos * side[f] + sin * other[f]
    wide = cos * other[f] - sin * side[f]
    twist = rng.normal(0, 0.2, (m, 1))
    wide = np.cos(twist) * wide + np.sin(twist) * axis[f]
    length = (radius - 0.75 * heart)[f] * (1 - 0.06 * ring) * rng.normal(1, 0.06, m)
    length *= np.where(rng.random(m) < 0.04, u(0.4, 0.9, m), 1)
    rise = u(-0.1, 0.4) + rng.normal(0, 0.12, n)[f] + rng.normal(0, 0.07, m) + 0.06 * ring
    droop = -u(0, 0.55) + rng.normal(0, 0.1, n)[f] + rng.normal(0, 0.12, m)
    girth = 1.95 * (radius / count)[f] * u(0.75, 1.45) * rng.normal(1, 0.09, m)
    girth = np.minimum(girth, 0.3 * radius[f])
    # The sun on a petal's root and end; its underside, if that is what we see, is darker.
    normals = [_unit(axis[f] - out * k[:, None]) for k in (rise, rise + 2 * droop)]
    lit = [_lit(np.where(v[:, 2:] < 0, -0.8, 1.0) * v, sun) for v in normals]
    light = np.stack([lit[0] * u(0.55, 0.9), lit[1]], axis=1) * rng.normal(1, 0.06, (m, 1))
    flat = (1 - 0.25 * np.abs(droop))[:, None]
    start = centre[f] + 0.75 * heart[f, None] * out[:, :2]
    along = length[:, None] * (out * flat + axis[f] * rise[:, None])[:, :2]
    # Nearer flowers take the sun from either end of a petal.
    cast = centre - 0.35 * radius[:, None] * sun[:2]
    for end, share in enumerate((0.1, 0.9)):
        gap = np.linalg.norm((start + share * along)[:, None] - cast, axis=2) / radius
        light[:, end] *= np.where(((gap < 0.85) & (np.arange(n) > f[:, None])).any(axis=1), 0.3, 1)
    tone = rng.normal(1, 0.03, (m, 1))
    petals = _ribbons(
        m,
        start=start,
        along=along,
        bend=length[:, None]
        * (axis[f] * droop[:, None] + wide * rng.normal(0, 0.07, (m, 1)))[:, :2],
        across=(girth[:, None] * wide)[:, :2],
        base=u(0.3, 0.6),
        belly=(u(0.5, 0.75) + rng.normal(0, 0.04, m)).clip(0.3, 0.85),
        swell=u(0.6, 1.1),
        blunt=u(1.5, 3.6),
        notch=(u() < 0.6) * u(0.0, 0.035) * u(0.3, 1.4, m),
        root=root[f] * tone,
        tip=tip[f] * tone,
        turn=turn[f],
        light=light * np.where(behind, 0.7, 1)[f, None],
        tilt=u(0, 0.3) * (wide @ sun),
        edge=u(0.15, 0.5),
        groove=u(0.03, 0.2),
    )
    petal_depth = out[:, 2] * length / radius[f] + 0.25 * ring + u(0, 0.15, m)
    keep = rng.random(m) > u(-0.1, 0.08)

    # Disc: a dark dome and on it florets along a golden spiral (Vogel 1979).
    dome = u(0.1, 0.75)
    lift = _lit(axis, sun)[:, None]
    half = heart * (np.abs(axis[:, 2]) + 0.5 * dome * np.sin(lean))
    middle = centre + toward * (heart * 0.5 * dome * np.sin(lean))[:, None]
    domes = _ribbons(
        n,
        start=middle - toward * half[:, None],
        along=2 * half[:, None] * toward,
        across=heart[:, None] * side[:, :2],
        base=0.0,
        swell=0.5,
        root=disc * 0.55,
        tip=disc * 0.75,
        light=lift * [0.8, 1.0],
        edge=0.5,
    )
    count = np.clip((160 * heart) ** 2, 0, 320).astype(int)
    g, place = _spread(count)
    k = len(g)
    r, a = np.sqrt(place), GOLDEN_ANGLE * (place * count[g] - 0.5) + rng.normal(0, 0.08, k)
    radial = np.cos(a)[:, None] * side[g] + np.sin(a)[:, None] * other[g]
    at = r[:, None] * radial + axis[g] * (dome * (1 - r * r))[:, None]
    at *= 0.96 * heart[g, None]
    normal = _unit(axis[g] + 1.6 * dome * r[:, None] * radial)
    grain = (0.95 * heart / np.sqrt(np.maximum(count, 1)))[g, None] * rng.normal(1, 0.12, (k, 1))
    young = u(-0.2, 0.55) * np.clip(1 - 1.6 * r, 0, 1)[:, None]  # unopened, at the centre: greener
    tint = disc[g] * (1 - young.clip(0)) + young.clip(0) * _lch(u(35, 55), 45, u(98, 112))
    tint *= rng.normal(1, 0.13, (k, 1)).clip(0.5, 1.4)
    lit = _lit(normal, sun, 0.25)[:, None]
    florets = _ribbons(
        k,
        start=centre[g] + at[:, :2] + grain * [0, 1],
        along=grain * [0, -2],
        across=grain * [0.95, 0],
        base=0.0,
        swell=0.5,
        root=tint * [0.75, 0.6, 0.5],
        tip=tint,
        light=lit * [0.75, 1.15],
        edge=0.45,
    )
    facing = normal[:, 2] > 0.05

    # The stem.
    green = _lch(u(30, 50) + rng.normal(0, 3, n), u(24, 40), u(106, 126))
    under = centre - axis[:, :2] * 0.1 * radius[:, None]
    span = ground - under
    first = 0.3 * span - 0.7 * axis[:, :2] * np.linalg.norm(span, axis=1, keepdims=True)
    stems = _ribbons(
        n,
        start=under,
        along=first,
        bend=span - first,
        across=_unit(span)[:, ::-1] * [-1, 1] * radius[:, None] * u(0.03, 0.06, (n, 1)),
        root=green,
        tip=green * 0.6,
        light=[0.8, 0.5],
        tilt=0.35 * np.sign(sun[0]),
        edge=0.3,
        blunt=30.0,
    )

    # Back to front within each flower, whose order turns round when we see it from behind.
    each = np.arange(n)
    beneath = np.where(behind, each, -1)  # stems lie under all flowers that face us
    flower = np.concatenate([beneath, f[keep], each, g[facing]])
    part = np.repeat([0, 1, 2, 3], [n, keep.sum(), n, facing.sum()])
    part = np.where(behind[flower], 3 - part, part)
    depth = np.concatenate([zero, petal_depth[keep], zero, at[facing, 2]])
    order = np.lexsort([depth, part, flower])
    return np.concatenate([stems, petals[keep], domes, florets[facing]])[order]


def _greens(rng, n, dry, hue, lightness=(22, 62)):
    """Linear RGB (n, 3) of leaves and blades around a hue, a share of them dry."""
    L = rng.uniform(*lightness, n)
    vivid = rng.uniform(0.5, 1.3)
    colour = _lch(L, vivid * rng.uniform(24, 56, n) * (0.5 + L / 100), rng.normal(hue, 5, n))
    straw = _lch(L + 10, rng.uniform(14, 36, n), rng.normal(82, 7, n))
    return np.where((rng.random(n) < dry)[:, None], straw, colour)


def _blades(rng, n, foot, length, width, dry=0.12, hue=120, wind=0.0, lightness=(22, 62)):
    """Blades of grass rooted at `foot` (n, 2), nearer ones last."""
    foot = foot[np.argsort(foot[:, 1], kind="stable")]
    length = length * rng.uniform(0.45, 1.15, n)
    lean = rng.normal(wind, 0.3, n)
    up = np.stack([np.sin(lean), -np.cos(lean)], axis=1) * length[:, None]
    bend = np.stack([rng.normal(wind, 0.3, n), rng.uniform(0, 0.35, n)], axis=1) * length[:, None]
    colour = _greens(rng, n, dry, hue, lightness)
    thick = width * rng.uniform(0.4, 1.3, n)
    return _ribbons(
        n,
        start=foot,
        along=up,
        bend=bend,
        across=_unit(up)[:, ::-1] * [1, -1] * thick[:, None],
        base=0.25,
        belly=0.35,
        blunt=1.2,
        root=colour * 0.42,
        tip=colour * [1.1, 1.08, 0.9],
        turn=0.8,
        light=np.stack([rng.uniform(0.1, 0.5, n), rng.uniform(0.4, 1.1, n)], axis=1),
        tilt=rng.normal(0, 0.2, n),
        rib=rng.uniform(-0.3, 0.3, n),
    )


def _leaves(rng, n, place, length, dry=0.08, hue=120, lightness=(18, 58)):
    """Leaves with a midrib and veins, strewn from dark below to light on top."""
    angle = rng.uniform(0, 2 * np.pi, n)
    heading = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    length = (length * rng.uniform(0.5, 1.2, n))[:, None]
    colour = _greens(rng, n, dry, hue, lightness)
    level = np.linspace(0.25, 1, n)
    return _ribbons(
        n,
        start=place - heading * length / 2,
        along=heading * length,
        bend=rng.normal(0, 0.15, (n, 2)) * length,
        across=heading[:, ::-1] * [-1, 1] * length * rng.uniform(0.1, 0.3, (n, 1)),
        base=0.05,
        belly=rng.uniform(0.35, 0.6, n),
        swell=0.8,
        blunt=1.3,
        notch=0.02,
        root=colour * 0.8,
        tip=colour,
        light=level[:, None] * rng.uniform(0.3, 1.1, (n, 2)),
        tilt=rng.normal(0, 0.3, n),
        edge=0.2,
        rib=rng.uniform(0.1, 0.7, n),
        vein=rng.uniform(0, 0.12, n),
    )


# ---------------------------------------------------------------------------------------------
# Scenes


def _kinds(rng, n):
    """Petal colours of `n` flowers: mostly of one kind, sometimes a mixed meadow."""
    main, guest = rng.choice(list(PETALS), size=2, p=[share for share, *_ in PETALS.values()])
    mixed = rng.random() < 0.22
    return np.where(mixed & (rng.random(n) < 0.35), guest, main)


def _palette(rng, kind):
    """Palette (n, 2, 3) linear RGB from dark to light; the second axis is another hue."""
    u = rng.uniform
    if kind == "foliage":
        hue, L = u(104, 138), np.linspace(u(1, 16), u(36, 84), 4)
        chroma = u(8, 56) * (0.6 + L / 120)
        first, second = _lch(L, chroma, hue), _lch(L, chroma * u(0.7, 1.2), hue - u(0, 35))
    elif kind == "dark":
        hue, L = u(80, 150), np.array([0.5, 2.0, 6.0, u(10, 26)])
        first, second = _lch(L, u(2, 14), hue), _lch(L, u(2, 14), hue + u(-60, 60))
    elif kind == "soil":
        hue, L = u(50, 82), np.linspace(u(6, 18), u(38, 68), 4)
        first, second = _lch(L, u(10, 26), hue), _lch(L, u(6, 24), hue + u(-15, 25))
    elif kind == "sky":
        hue, low = u(255, 282), u(45, 72)
        L, chroma = np.array([low, low + 8, low + 18, 94]), np.array([42, 36, 22, 4])
        first = _lch(L, chroma * u(0.4, 1), hue)
        second = first * u(0.85, 1.1)
    else:  # a wall, cloth, water, far flowers: any colour
        hue, L = u(0, 360), np.linspace(u(8, 50), u(40, 85), 4)
        first, second = _lch(L, u(4, 42), hue), _lch(L, u(4, 36), hue + u(-50, 50))
    return np.stack([first, second], axis=1).astype(np.float32)


def _ground(rng, kind=None, near=False):
    """A backdrop, in focus where it is near: input of `_backdrop`."""
    kinds, shares = ["foliage", "dark", "soil", "sky", "any"], [0.45, 0.23, 0.1, 0.03, 0.19]
    kind = kind or rng.choice(kinds, p=shares)
    if near:  # soil, litter, the dark floor of a meadow
        roughness, gain, ramp = rng.uniform(0.75, 0.95), rng.uniform(0.07, 0.14), 0.0
    elif kind == "sky":  # paler towards the horizon
        roughness, gain, ramp = 0.6, rng.uniform(0.02, 0.2), rng.uniform(0, 0.8)
    else:
        roughness, gain, ramp = rng.uniform(0.25, 0.6), rng.uniform(0.08, 0.26), rng.normal(0, 0.3)
    octaves = (3, 6, 12, 24, 48, 96)
    grids = [rng.normal(0, 1, (cells, cells, 2)).astype(np.float32) for cells in octaves]
    gains = [gain * roughness**k for k in range(len(octaves))]
    return grids, gains, _palette(rng, kind), ramp


def _scatter(rng, n, radius, low=0.05, high=0.95):
    """`n` centres that keep their distance: the best of eight tries for each."""
    chosen = np.empty((n, 2))
    enough = rng.uniform(0.5, 1.2)  # of the sum of two radii; below 1 they overlap
    for i in range(n):
        tries = rng.uniform(low, high, (8, 2))
        if i:
            gaps = np.linalg.norm(tries[:, None] - chosen[:i], axis=2) / (radius[:i] + radius[i])
            tries = tries[[np.argmax(np.minimum(gaps.min(axis=1), enough))]]
        chosen[i] = tries[0]
    return chosen


def _upward(rng, n, spread=0.5):
    return rng.normal(-np.pi / 2, spread, n)


def _undergrowth(rng, dry, hue, blur, sparse=1.0):
    """Grass or leaves filling the frame."""
    dim = rng.uniform(-10, 6)
    lightness = (22 + dim, 60 + dim)
    if rng.random() < 0.6:
        n = int(rng.integers(160, 380) * sparse)
        foot = rng.uniform([-0.1, 0.1], [1.1, 1.35], (n, 2))
        length, width = rng.uniform(0.2, 0.55), rng.uniform(0.004, 0.013)
        wind = rng.normal(0, 0.25)
        return Layer(_blades(rng, n, foot, length, width, dry, hue, wind, lightness), blur)
    n = int(rng.integers(90, 260) * sparse)
    place = rng.uniform(-0.05, 1.05, (n, 2))
    return Layer(_leaves(rng, n, place, rng.uniform(0.1, 0.3), dry, hue, lightness), blur)


def _portrait(rng, sun, cast):
    """One flower, large."""
    u = rng.uniform
    layers = []
    hue = u(106, 132)
    if u() < 0.4:
        layers.append(_undergrowth(rng, u(0, 0.25), hue, u(0.008, 0.05), 0.7))
    n = 1 + int(u() < 0.35) * int(rng.integers(1, 4))
    kinds = _kinds(rng, n)
    if n > 1:
        m = n - 1
        at, ground = u(0, 1, (m, 2)), u([0, 1.1], [1, 1.3], (m, 2))
        size, lean = u(0.1, 0.25, m), u(0.2, 1.3, m)
        far = _flowers(rng, at, size, lean, _upward(rng, m), kinds[1:], sun, ground)
        layers.append(Layer(far, u(0.006, 0.03)))
    radius = np.array([u(0.26, 0.5) * (1 + 0.6 * u() ** 2)])
    centre = rng.normal(0.5, 0.05 + 0.12 * radius, (1, 2))
    lean = np.array([np.abs(rng.normal(0, 0.6))]).clip(0, 1.5)
    ground = centre + [[u(-0.3, 0.3), 1.2]]
    flower = _flowers(rng, centre, radius, lean, _upward(rng, 1, 0.8), kinds[:1], sun, ground)
    layers.append(Layer(flower))  # too far from its background to cast a shadow
    return _ground(rng), layers


def _group(rng, sun, cast):
    """Some flowers at middle distance among grass or leaves."""
    u = rng.uniform
    n = int(rng.integers(9, 17) if u() < 0.18 else rng.integers(2, 9))
    blur = 0.0 if u() < 0.55 else u(0.004, 0.03)
    hue = u(106, 134)
    layers = [_undergrowth(rng, u(0, 0.2), hue, blur + 0.004)]
    if u() < 0.5:
        layers.append(_undergrowth(rng, u(0, 0.2), hue + u(-8, 8), blur, 0.5))
    radius = np.sort(rng.uniform(0.09, 0.24, n) * max(1.25 - 0.06 * n, 0.75))
    centre = _scatter(rng, n, radius)
    lean = np.abs(rng.normal(0.1, 0.55, n)).clip(0, 1.45)
    ground = centre + np.stack([rng.normal(0, 0.15, n), rng.uniform(0.4, 0.9, n)], axis=1)
    flowers = _flowers(rng, centre, radius, lean, _upward(rng, n), _kinds(rng, n), sun, ground)
    layers.append(Layer(flowers, 0.0, (*cast, 0.2 if blur else 0.5)))
    if u() < 0.3:
        m = int(rng.integers(5, 25))
        foot = rng.uniform([-0.1, 0.9], [1.1, 1.3], (m, 2))
        layers.append(Layer(_blades(rng, m, foot, u(0.3, 0.7), 0.01, 0.1, hue), u(0.002, 0.02)))
    kind = "foliage" if blur else rng.choice(["dark", "foliage"])
    return _ground(rng, kind, near=not blur), layers


def _field(rng, sun, cast):
    """A meadow to the horizon, or seen from above it."""
    u = rng.uniform
    horizon = u(-0.6, 0.45)
    n = int(rng.integers(18, 85))
    hue, dry, wind = u(104, 132), u(0, 0.4) ** 1.5 * 1.3, rng.normal(0, 0.2)
    kinds = _kinds(rng, n)
    close = u(0.05, 0.12)
    top = max(horizon, -0.1)
    y = np.sort(top + (1.1 - top) * rng.random(n) ** u(0.8, 1.5))
    scale = (y - horizon + 0.04) / (1.1 - horizon)
    layers = []
    if horizon > 0.1:
        m = 70
        trees = rng.uniform([-0.1, horizon - u(0, 0.1)], [1.1, horizon + 0.06], (m, 2))
        far, near = _lch([u(40, 66), u(14, 40)], u(15, 42), hue - u(0, 12))
        down = dict(start=[0.5, horizon], along=[0, 1.2 - horizon], across=[0.7, 0])
        floor = _ribbons(1, **down, root=far, tip=near, turn=0.6, blunt=30.0)
        ridge = _leaves(rng, m, trees, 0.12, 0.05, hue, (14, 42))
        layers.append(Layer(np.concatenate([ridge, floor]), 0.01))
    lean = np.abs(rng.normal(0.25 + 0.5 * (horizon > 0), 0.4, n)).clip(0, 1.45)
    radius = close * (0.15 + 0.85 * scale) * rng.uniform(0.8, 1.2, n)
    centre = np.stack([rng.uniform(-0.05, 1.05, n), y], axis=1)
    stalk = np.stack([rng.normal(0, 0.2, n), rng.uniform(1.5, 4, n)], axis=1)
    ground = centre + stalk * radius[:, None]
    focus = u(0.3, 0.9)
    edges = np.linspace(max(horizon, -0.15), 1.15, 4)
    for k in range(3):
        low, high = edges[k], edges[k + 1]
        depth = (0.5 * (low + high) - horizon) / (1.1 - horizon)
        blur = 0.012 * abs(depth - focus) ** 2 * u(0.3, 3) if u() < 0.7 else 0.0
        m = int(rng.integers(90, 190))
        foot = rng.uniform([-0.05, low], [1.05, high + 0.12], (m, 2))
        size = 0.06 + u(0.15, 0.4) * depth
        width = 0.003 + 0.008 * depth
        layers.append(Layer(_blades(rng, m, foot, size, width, dry, hue, wind), blur))
        own = (y >= low) & (y < high)
        if own.any():
            placed = (centre[own], radius[own], lean[own], _upward(rng, own.sum(), 0.4))
            flowers = _flowers(rng, *placed, kinds[own], sun, ground[own])
            layers.append(Layer(flowers, blur, (0.4 * cast[0], 0.4 * cast[1], 0.4)))
    kind = "sky" if horizon > 0.1 else rng.choice(["dark", "foliage"])
    return _ground(rng, kind, near=horizon <= 0.1), layers


def _camera(rng):
    temperature, tint = rng.normal(0.01, 0.1), rng.normal(0.01, 0.045)
    balance = np.exp([temperature, tint, -1.3 * temperature])
    return {
        "gain": (balance * 2 ** np.clip(rng.normal(0.15, 0.4), -1.2, 0.8)).astype(np.float32),
        "vignette": np.float32(rng.uniform(0, 0.6)),
        "veil": np.float32(rng.exponential(0.004)),
        "saturation": np.float32(np.exp(rng.normal(-0.14, 0.34))),
        "contrast": np.float32(rng.normal(0.7, 0.4)),
        "noise": np.float32(rng.uniform(0.002, 0.014)),
        "softness": np.float32(rng.uniform(0.03, 0.2)),
    }


def _scene(rng):
    """All random choices of one picture, none of which depends on its size."""
    compose = rng.choice(np.array([_portrait, _group, _field]), p=[0.45, 0.35, 0.2])
    from_side, height = rng.uniform(-1, 1), rng.uniform(0.3, 1)
    sun = _unit(np.array([from_side, -height, rng.uniform(0.35, 1.2)]))
    cast = -sun[:2] / sun[2] * 0.035
    clear = rng.uniform(0.3, 0.85)  # share of direct light: low under cloud
    backdrop, layers = compose(rng, sun, cast)
    warm = rng.uniform(0, 0.18)
    return Scene(
        backdrop,
        layers,
        (clear * np.array([1 + warm, 1, 1 - 1.2 * warm])).astype(np.float32),
        ((1 - clear) * np.array([1 - 0.2 * warm, 1, 1 + 0.4 * warm])).astype(np.float32),
        _camera(rng),
    )


# ---------------------------------------------------------------------------------------------
# Chroma bandwidth


def _into_gamut(lab):
    """Scale the chroma of each pixel of `lab` (..., 3), never its L or hue, until sRGB holds it."""
    outside = ~_in_gamut(lab)
    pixels = lab[outside]
    low, high = np.zeros(len(pixels)), np.ones(len(pixels))
    for _ in range(12):
        middle = (low + high) / 2
        fits = _in_gamut(pixels * np.stack([np.ones_like(middle), middle, middle], axis=-1))
        low, high = np.where(fits, middle, low), np.where(fits, high, middle)
    lab = lab.copy()
    lab[outside, 1:] = pixels[:, 1:] * low[:, None]
    return lab


def _in_gamut(lab, slack=1e-6):
    linear = _lab_to_linear(lab)
    return np.all((linear >= -slack) & (linear <= 1 + slack), axis=-1)


def _limit_chroma(rgb, bandwidth, rounds=16):
    """See `draw`.

    Pictures of limited bandwidth and pictures that sRGB holds at the given L are two sets with at
    least the grey picture in common: steps into the one and the other, by turns, approach both.
    The last step is into the gamut, for L must be exact.
    """
    lab = rgb2lab(rgb.astype(np.float64))
    cycles = np.arange(len(rgb)) / 2  # of a cosine transform, which mirrors: no colour wraps
    radius = (np.hypot(cycles[:, None], cycles) / bandwidth)[..., None]
    # The first pass rolls off over its last quarter, else edges would ring; the others only cut.
    gain = 0.5 + 0.5 * np.cos(np.pi * np.clip(4 * radius - 3, 0, 1))
    for _ in range(rounds):
        spectrum = dctn(lab[..., 1:], axes=(0, 1), norm="ortho") * gain
        lab[..., 1:] = idctn(spectrum, axes=(0, 1), norm="ortho")
        lab = _into_gamut(lab)
        gain = radius <= 1
    return np.clip(_encode(np.clip(_lab_to_linear(lab), 0, 1)), 0, 1).astype(np.float32)


# ---------------------------------------------------------------------------------------------
# Public


def _whole(name, value, low, high=None):
    """`value` as an int within [low, high], or a ValueError that names it."""
    bounds = f"an integer of at least {low}" if high is None else f"an integer in [{low}, {high}]"
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole or value < low or (high is not None and value > high):
        raise ValueError(f"{name} must be {bounds}, got {value!r}")
    return int(value)


def draw(index: int, size: int, seed: int = 0, chroma_bandwidth: float | None = None) -> np.ndarray:
    """Draw one picture of daisies.

    Parameters
    ----------
    index : int
        Number of the picture in the set of this seed, at least 0. The picture does not depend on
        which others are drawn.
    size : int
        Side in pixels, in [16, 512]. The scene is the same at every size; only the sensor noise
        is drawn anew.
    seed : int
        Number of the set, at least 0.
    chroma_bandwidth : float, optional
        Cycles per image, above 0: a and b of CIE Lab are low-passed and L is kept. The gain is
        one below 3/4 of this radial frequency and nothing above it; the picture is mirrored at
        its borders. Where sRGB cannot hold the smoothed colour at the pixel's L, its chroma is
        scaled down and the smoothing repeated: L is exact, chroma falls (by a sixth at 8
        cycles), and under 1 % of the power above the limit remains in the mean. None: as drawn.

    Returns
    -------
    ndarray (size, size, 3)
        float32 sRGB in [0, 1].

    Raises
    ------
    ValueError
        If an argument is out of its range.
    """
    index, seed = _whole("index", index, 0), _whole("seed", seed, 0)
    size = _whole("size", size, MIN_SIZE, MAX_SIZE)
    limit = chroma_bandwidth
    if limit is not None and not (isinstance(limit, Real) and limit > 0):
        raise ValueError(
            f"chroma_bandwidth must be None or above 0 cycles per image, got {limit!r}"
        )
    scene = _scene(np.random.default_rng([seed, index, 0]))
    picture = _render(scene, size, np.random.default_rng([seed, index, 1, size]))
    return picture if limit is None else _limit_chroma(picture, limit)
