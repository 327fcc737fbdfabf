"""Drawn daisies: the data set that lets every notebook run offline.

A picture is a *scene* (every random choice, in units of the picture's side) that is rendered at
some size, so the same index gives the same scene at every size. What occurs stands in tables:
colours of petals, backdrops, plants, and `VIEWS`, each a list of planes from far to near. Petals,
florets, stems, leaves and blades of grass are all one primitive, a `RIBBON`: a quadratic centre
line with a width profile, two colours and a few shading terms. A plane of ribbons is painted back
to front by scattering points denser than pixels, blurred by its distance from the focal plane,
shadowed onto what is behind and composited in linear light. A camera follows: vignetting, white
balance, exposure, a tone curve, noise.

Held against 300 of the 764 photographs of the original study (128 px, a and b in [0, 1]), four
runs of 300 drawn pictures give a mean absolute error of .047 for constant grey (photographs: .051)
and of .035 for a table from lightness to the median a and b (.038). Power in radial bands agrees
within a factor of 1.2.
"""

from __future__ import annotations

import functools
from numbers import Real
from typing import NamedTuple

import numpy as np
from scipy.fft import dctn, idctn
from scipy.ndimage import map_coordinates
from skimage.color import lab2rgb, rgb2lab
from skimage.color.colorconv import rgb_from_xyz

MIN_SIZE, MAX_SIZE = 16, 512
KNEE = np.float32(0.6)  # linear light above which the camera compresses
GOLDEN_ANGLE = np.pi * (3 - np.sqrt(5))
WHITE_POINT = np.array([0.95047, 1.0, 1.08883])  # D65, 2 degrees, as in skimage.color

# In all tables a pair is a range that a picture draws from evenly; colours are CIE LCh, with hues
# in degrees.

# Petals: share of flowers, chance of a dark disc, then L, chroma, hue, and the root's chroma
# relative to the tip's. Coloured ones overlap in L with each other and with white in the shade, so
# lightness alone does not tell the colour.
PETALS = {
    "white": (0.61, 0.08, (90, 97), (0, 5), (60, 320), (0.5, 1.5)),
    "cream": (0.06, 0.0, (84, 94), (12, 32), (85, 100), (0.6, 1.6)),
    "yellow": (0.10, 0.3, (70, 90), (55, 88), (78, 98), (0.85, 1.2)),
    "pink": (0.13, 0.3, (62, 86), (20, 55), (-25, 18), (0.4, 1.3)),
    "violet": (0.07, 0.55, (48, 84), (20, 52), (294, 325), (0.5, 1.3)),
    "red": (0.03, 0.5, (40, 66), (50, 82), (22, 62), (0.8, 1.2)),
}

# Backdrops: L of the dark and of the light end, chroma, hue, and how far the hue of the other
# half turns.
BACKDROPS = {
    "foliage": ((1, 16), (36, 84), (8, 56), (104, 138), (-35, 0)),
    "dark": ((0, 1), (7, 20), (2, 14), (80, 150), (-60, 60)),
    "soil": ((6, 18), (38, 68), (10, 26), (50, 82), (-15, 25)),
    "sky": ((45, 72), (94, 94), (4, 40), (255, 282), (-6, 6)),
    "any": ((8, 50), (40, 85), (4, 42), (0, 360), (-50, 50)),  # a wall, cloth, water
}

# Plants around the flowers: number and length relative to what a plane asks for, half width
# relative to length, spread of the direction in radians, `RIBBON`'s ends, brightness of the root,
# light at the bottom of the heap.
PLANTS = {
    "grass": (1.0, 1.0, (0.008, 0.035), 0.35, (0.3, 0.6), 0.3, 0.8),
    "leaves": (0.65, 0.5, (0.1, 0.3), 3.0, (0.7, 0.7), 0.8, 0.25),
}


class Plane(NamedTuple):
    """What stands at one distance of a view; lengths in picture sides."""

    chance: float = 1  # that it is there
    plants: tuple = (0, 0)  # how many
    leafy: float = 0  # chance of leaves in place of grass
    length: tuple = (0.2, 0.55)  # of the plants
    flowers: tuple = (0, 0)  # how many, the upper end excluded
    radius: tuple = (0, 0)  # of the flowers
    columns: tuple = (-0.05, 1.05)  # x of all that
    rows: tuple = (0, 1)  # y of all that, from the horizon, or the upper border, to the lower
    blur: tuple = (0, 0)  # standard deviation; below zero is in focus
    shadow: float = 0  # strength of what the flowers cast on what is behind


UNDERGROWTH = Plane(plants=(160, 380), leafy=0.4, blur=(-0.025, 0.025))
SWARD = Plane(plants=(90, 190), flowers=(6, 26), blur=(-0.006, 0.006), shadow=0.4)
MEADOW = [
    SWARD._replace(length=(0.08, 0.14), radius=(0.02, 0.04), rows=(0, 0.33)),
    SWARD._replace(length=(0.12, 0.27), radius=(0.035, 0.07), rows=(0.33, 0.67)),
    SWARD._replace(length=(0.18, 0.4), radius=(0.05, 0.11), rows=(0.67, 1)),
]
GROUPS = [
    UNDERGROWTH,
    UNDERGROWTH._replace(chance=0.5, plants=(80, 190)),
    Plane(
        flowers=(2, 12), radius=(0.09, 0.22), columns=(0.05, 0.95), rows=(0.05, 0.85), shadow=0.4
    ),
    Plane(0.3, plants=(5, 25), length=(0.3, 0.7), rows=(0.9, 1), blur=(0.002, 0.02)),
]
PORTRAIT = [
    Plane(0.4, plants=(110, 270), leafy=0.4, blur=(0.008, 0.05)),
    Plane(0.35, flowers=(1, 4), radius=(0.1, 0.25), blur=(0.006, 0.03)),
    Plane(flowers=(1, 2), radius=(0.26, 0.66), columns=(0.33, 0.67), rows=(0.3, 0.6)),
]

# Views: share of pictures, backdrops of equal share, roughness of the backdrop (what an octave
# keeps of the amplitude of the one below), y of the horizon, spread of the flowers' lean in
# radians, planes from far to near.
VIEWS = [
    (0.3, ["foliage", "dark"], (0.1, 0.4), (0, 0), 0.6, PORTRAIT),
    (0.15, ["any", "any", "soil"], (0.1, 0.4), (0, 0), 0.6, PORTRAIT),
    (0.35, ["foliage", "dark"], (0.5, 0.95), (0, 0), 0.55, GROUPS),
    (0.13, ["foliage", "dark"], (0.75, 0.95), (-0.1, 0), 0.5, MEADOW),
    (0.07, ["sky"], (0.4, 0.6), (0.1, 0.45), 0.9, MEADOW),
]

# Points of a ribbon lie s in [0, 1] along it and t in [-1, 1] across it:
# start + along s + bend s^2 + across width(s) t.
RIBBON = np.dtype(
    [
        ("start", "f4", 2),
        ("along", "f4", 2),
        ("bend", "f4", 2),
        ("across", "f4", 2),
        ("ends", "f4", 2),  # width is s^p (1 - s)^q, scaled to 1 at its widest: 1/2, 1/2 is a disc
        ("root", "f4", 3),  # linear RGB at s = 0
        ("tip", "f4", 3),  # linear RGB at s = 1
        ("light", "f4", 2),  # share of the sun received at s = 0 and s = 1
        ("edge", "f4"),  # darkening of the margins
        ("rib", "f4"),  # brightness of a midrib, with a furrow on either side
    ]
)


def _lab_to_linear(lab):
    """CIE Lab (..., 3) to linear sRGB, unclipped: the inverse of `skimage.color.rgb2lab`."""
    fy = (lab[..., 0] + 16) / 116
    f = np.stack([fy + lab[..., 1] / 500, fy, fy - lab[..., 2] / 200], axis=-1)
    xyz = np.where(f > 6 / 29, f**3, (f - 16 / 116) / 7.787) * WHITE_POINT
    return xyz @ rgb_from_xyz.T


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


def _resample(image, side, blur, shift=(0.0, 0.0)):
    """Image (n, n, channels) to (side, side, channels), blurred and shifted by (x, y).

    `blur` is the standard deviation of a Gaussian, in sides.
    """
    n = len(image)
    inner = (np.arange(n, dtype=np.float32) + 0.5) / n
    outer = (np.arange(side, dtype=np.float32) + 0.5) / side
    scale = np.float32(np.sqrt(2) * max(blur, 0.5 / n))
    for by in reversed(shift):  # rows, then columns, which change places each time
        # Places beyond the border take the colour of the border. Half an input pixel at least,
        # else magnified pixels would show as squares.
        distance = (np.clip(outer - np.float32(by), 0, 1)[:, None] - inner) / scale
        weights = np.exp(-np.minimum(distance * distance, 60))  # denormal numbers are slow
        weights /= weights.sum(axis=1, keepdims=True)
        image = (weights @ image.reshape(n, -1)).reshape(side, *image.shape[1:]).swapaxes(0, 1)
    return image


def _spread(counts):
    """For groups of the given sizes: the group of each member, and its place in [0, 1]."""
    group = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    first = (np.cumsum(counts) - counts).astype(np.int32)
    place = np.arange(len(group), dtype=np.int32) - first[group]
    return group, (place + np.float32(0.5)) * (1 / np.maximum(counts, 1)).astype(np.float32)[group]


def _paint(ribbons, side, sun, sky):
    """Ribbons, back to front, as premultiplied linear RGB and coverage (side, side, 4)."""
    field = {name: np.ascontiguousarray(ribbons[name]) for name in RIBBON.names}
    start, along, bend, across = (np.float32(side) * field[name] for name in RIBBON.names[:4])
    density = np.float32(1.45)  # points closer than 1/sqrt(2) pixels leave no pixel unpainted
    reach = np.hypot(*along.T) + np.hypot(*bend.T)
    owner, s = _spread(np.ceil(density * reach).astype(int) + 1)

    p, q = field["ends"].T
    widest = p**p * q**q / (p + q) ** (p + q)
    across = across[owner] * (s ** p[owner] * (1 - s) ** q[owner] / widest[owner])[:, None]
    centre = start[owner] + s[:, None] * (along[owner] + s[:, None] * bend[owner])
    pixels = 2 * np.hypot(*across.T)
    n_across = np.ceil(density * pixels).astype(int)
    # Points spread over w - 1 pixels touch w of them. Rows under a pixel wide are drawn as often
    # as they are wide.
    thin = pixels < 1
    n_across[thin] = pixels[thin] > np.flatnonzero(thin) * 0.618034 % 1
    n_across[np.abs(2 * centre - side).max(axis=1) > pixels + side] = 0  # out of the picture
    across *= ((1 - 1 / np.maximum(pixels, 1)) / (1 - 1 / np.maximum(n_across, 2)))[:, None]
    row, t = _spread(n_across)
    t = 2 * t - 1
    x, y = (centre[:, k][row] + t * across[:, k][row] for k in (0, 1))
    inside = np.flatnonzero((x >= 0) & (x < side) & (y >= 0) & (y < side)).astype(np.int32)
    pixel = y[inside].astype(np.int32) * side + x[inside].astype(np.int32)
    top = np.full(side * side, -1, np.int32)
    top[pixel] = inside  # of repeated pixels numpy keeps the last, which is the nearest

    seen = np.flatnonzero(top >= 0)
    row, t = row[top[seen]], t[top[seen]]
    owner, s = owner[row], s[row]
    root, light = field["root"][owner], field["light"][owner]
    colour = root + s[:, None] * (field["tip"][owner] - root)
    light = light[:, 0] + s * (light[:, 1] - light[:, 0])
    shade = 1 - field["edge"][owner] * (t * t) ** 2
    shade *= 1 + field["rib"][owner] * np.cos(2 * np.float32(np.pi) * t)
    canvas = np.zeros((side * side, 4), np.float32)
    canvas[seen, :3] = colour * shade[:, None] * (sky + sun * np.clip(light, 0, 1.2)[:, None])
    canvas[seen, 3] = 1
    return canvas.reshape(side, side, 4)


def _develop(rng, linear, noise):
    """Camera: linear scene light (size, size, 3) to sRGB in [0, 1]."""
    size, u, normal = len(linear), rng.uniform, rng.normal
    temperature, tint = normal(0.01, 0.1), normal(0.01, 0.045)
    balance = np.exp([temperature, tint, -1.3 * temperature])
    gain = np.float32(balance * 2 ** np.clip(normal(0.1, 0.4), -1.2, 0.8))
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5
    vignette = 1 - 2 * u(0, 0.6) * (axis[:, None] ** 2 + axis**2)
    linear = linear * (gain * vignette[..., None]) + rng.exponential(0.004)
    grey = linear.mean(axis=-1, keepdims=True)
    linear = np.maximum(grey + np.exp(normal(-0.2, 0.3)) * (linear - grey), 0)
    bright = np.maximum(linear - KNEE, 0)
    # A shoulder above the knee, so that bright petals keep their shading.
    linear += (1 - KNEE) * np.tanh(bright / (1 - KNEE)) - bright
    encoded = _encode(linear)
    encoded += normal(0.7, 0.4) * encoded * (1 - encoded) * (2 * encoded - 1)
    grain = noise.standard_normal((size, size, 4), dtype=np.float32)
    # Shot noise: its share of the signal falls with light, and part of it is common to R, G, B.
    amount = u(0.002, 0.014) * (0.5 + 0.5 * np.sqrt(np.clip(encoded, 0, 1)))
    encoded += amount * (0.6 * grain[..., :3] + 0.8 * grain[..., 3:])
    return np.clip(encoded, 0, 1).astype(np.float32)


def _ribbons(n, **fields):
    """`n` ribbons, plain strips unless told otherwise."""
    ribbons = np.zeros(n, RIBBON)
    for name, value in ({"light": 1.0} | fields).items():
        ribbons[name] = value
    return ribbons


def _unit(v):
    return v / np.linalg.norm(v, axis=-1, keepdims=True)


def _lit(normal, sun):
    """Share of the sun on a surface of this normal, softened: plants let light through."""
    normal = np.where(normal[..., 2:] < 0, -0.8, 1) * normal  # we see the underside
    return np.clip((_unit(normal) @ sun + 0.45) / 1.45, 0.05, 1)


def _kinds(rng, n):
    """Petal colours of `n` flowers: mostly of one kind, sometimes a mixed meadow."""
    main, guest = rng.choice(list(PETALS), size=2, p=[share for share, *_ in PETALS.values()])
    mixed = rng.random() < 0.22
    return np.where(mixed & (rng.random(n) < 0.35), guest, main)


def _petal_colours(rng, kinds):
    """For flowers of these kinds: root, tip and disc colours (n, 3)."""
    n, u, normal = len(kinds), rng.uniform, rng.normal
    # Flowers of one kind in one picture are siblings: one mean, small differences.
    means = {kind: [u(*pair) for pair in PETALS[kind][2:]] for kind in np.unique(kinds)}
    own = np.array([means[kind] for kind in kinds]) + normal(0, (2, 0, 4, 0), (n, 4))
    L, chroma, hue, fade = (own * normal(1, (0, 0.1, 0, 0), (n, 4))).T
    tip = _lch(L, chroma, hue)
    root = _lch(L + u(-5, 3), chroma * fade, hue + u(-8, 8))
    spread = normal(0, 3, n)
    yellow = _lch(u(64, 84) + spread, u(75, 95), u(74, 92))
    dark = _lch(u(10, 26) + spread, u(8, 30), u(-80, 60))
    eyes = u() < np.array([[PETALS[kind][1]] for kind in kinds])
    return root, tip, np.where(eyes, dark, yellow)


def _flowers(rng, centre, radius, lean, kinds, sun):
    """Ribbons of `n` flowers at `centre` (n, 2), far to near.

    `lean` is the angle between a flower's axis and the line of sight (0: seen from the front), and
    `sun` the unit vector towards the light; z points to the viewer.
    """
    n, u, normal = len(kinds), rng.uniform, rng.normal
    root, tip, disc = _petal_colours(rng, kinds)
    azimuth = normal(-np.pi / 2, 0.5, n)  # where to the axis leans
    toward = np.stack([np.cos(azimuth), np.sin(azimuth), 0 * azimuth], axis=1)
    axis = np.sin(lean)[:, None] * toward + np.cos(lean)[:, None] * [0, 0, 1]
    side = toward[:, [1, 0, 2]] * [-1, 1, 1]
    heart = radius * (u(0.18, 0.37) * normal(1, 0.07, n)).clip(0.14, 0.42)  # radius of the disc
    dome = u(0.1, 0.75)  # its height, relative to that

    # Petals, a disc and florets all grow outwards around an axis. Of each: its flower, direction,
    # foot (outwards, upwards), slope there, change of the slope, length, half width.
    number = np.rint(u(9, 34) * normal(1, 0.08, n)).astype(int).clip(8, 36)
    f, place = _spread(number)
    m = len(f)
    petals = [
        f,
        2 * np.pi * (place + normal(0, 0.2, m) / number[f] + rng.random(n)[f]),
        0.75 * heart[f],
        0.04 * radius[f] * u(0, 1, m),
        u(-0.1, 0.4) + normal(0, 0.12, n)[f] + normal(0, 0.08, m),
        -u(0, 0.55) + normal(0, 0.1, n)[f] + normal(0, 0.12, m),
        (radius - 0.75 * heart)[f] * normal(1, 0.07, m) * np.where(u(0, 1, m) < 0.04, 0.6, 1),
        np.minimum(1.95 / number[f] * u(0.75, 1.45) * normal(1, 0.09, m), 0.3) * radius[f],
    ]
    discs = [np.arange(n), azimuth, -heart, 0.4 * dome * heart, 0, 0, 2 * heart, heart]
    number = np.clip((160 * heart) ** 2, 1, 320).astype(int)
    g, place = _spread(number)
    r, k = np.sqrt(place), len(g)
    size = (0.95 * heart / np.sqrt(number))[g] * normal(1, 0.12, k)
    golden = GOLDEN_ANGLE * place * number[g] + normal(0, 0.08, k)  # a spiral (Vogel 1979)
    up = 0.96 * heart[g] * dome * (1 - r * r)
    florets = [g, golden, 0.96 * heart[g] * r, up, -1.6 * dome * r, 0, 2 * size, size]
    tint = disc[g] * normal(1, 0.13, (k, 1)).clip(0.5, 1.4)

    part = np.repeat([0, 1, 2], [m, n, k])
    columns = [np.array(np.broadcast_arrays(*rows)) for rows in (petals, discs, florets)]
    owner, angle, *lengths = np.concatenate(columns, axis=1)
    out_by, up_by, rise, droop, length, girth = np.array(lengths)[..., None]
    owner = owner.astype(int)
    cos, sin, axes = np.cos(angle)[:, None], np.sin(angle)[:, None], axis[owner]
    other = np.cross(axis, side)[owner]
    out, wide = cos * side[owner] + sin * other, cos * other - sin * side[owner]
    start = out_by * out + up_by * axes
    lit = np.stack([_lit(axes - slope * out, sun) for slope in (rise, rise + 2 * droop)], axis=1)
    looks = [
        [u(0.2, 0.5), u(0.12, 0.4), u(0.55, 0.9), 1, u(0.15, 0.5), u(0.02, 0.12)],
        [0.5, 0.5, 0.8, 1, 0.5, 0],
        [0.5, 0.5, 0.75, 1.15, 0.45, 0],
    ]
    looks = np.array(looks)[part]  # ends, light, edge, rib
    tone = normal(1, 0.04, (len(owner), 1))
    grown = _ribbons(
        len(owner),
        start=centre[owner] + start[:, :2],
        along=(length * (out + rise * axes))[:, :2],
        bend=(length * droop * axes)[:, :2],
        across=(girth * wide)[:, :2],
        ends=looks[:, :2],
        root=tone * np.concatenate([root[f], disc * 0.55, tint * [0.75, 0.6, 0.5]]),
        tip=tone * np.concatenate([tip[f], disc * 0.75, tint]),
        light=lit * looks[:, 2:4] * normal(1, 0.05, (len(owner), 1)),
        edge=looks[:, 4],
        rib=looks[:, 5],
    )
    # Florets on the far side of the dome are hidden.
    shown = np.flatnonzero((part < 2) | (axes[:, 2:] > rise * out[:, 2:])[:, 0])
    # Back to front: flower by flower its petals, its disc and its florets, each by its depth.
    depth = start[:, 2] + 0.5 * (length * out)[:, 2]
    shown = shown[np.lexsort([depth[shown], part[shown], owner[shown]])]

    span = radius[:, None] * np.stack([normal(0, 0.3, n), u(2.5, 5, n)], axis=1)
    first = 0.3 * span - 0.7 * axis[:, :2] * np.linalg.norm(span, axis=1, keepdims=True)
    green = _lch(u(30, 50) + normal(0, 3, n), u(24, 40), u(106, 126))
    stems = _ribbons(
        n,
        start=centre,
        along=first,
        bend=span - first,
        across=_unit(span)[:, ::-1] * [-1, 1] * radius[:, None] * u(0.03, 0.06, (n, 1)),
        root=green,
        tip=green * 0.6,
        light=[0.8, 0.5],
        edge=0.3,
    )
    return np.concatenate([stems, grown[shown]])


def _plants(rng, kind, place, length, hue, dry, shade):
    """Grass or leaves of about this length at `place` (n, 2), those in front last."""
    _, relative, girth, spread, ends, dark, floor = PLANTS[kind]
    n, u = len(place), rng.uniform
    angle = rng.normal(-np.pi / 2, spread, n)
    heading = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    length = relative * length * u(0.45, 1.15, (n, 1))
    L = u(22, 60, n) + shade
    green = _lch(L, u(0.75, 1.6) * u(24, 56, n) * (0.5 + L / 100), rng.normal(hue, 5, n))
    straw = _lch(L + 10, u(14, 36, n), rng.normal(82, 7, n))
    colour = np.where(rng.random((n, 1)) < dry, straw, green)
    return _ribbons(
        n,
        start=place,
        along=heading * length,
        bend=length * rng.normal([0, 0.15], [0.3, 0.1], (n, 2)),
        across=heading[:, ::-1] * [-1, 1] * length * u(*girth, (n, 1)),
        ends=ends,
        root=colour * dark,
        tip=colour * [1.1, 1.08, 0.9],
        light=np.linspace(floor, 1, n)[:, None] * u(0.3, 1.1, (n, 2)),
        edge=0.2,
    )


def _layers(rng, view, sun):
    """Layers of one of `VIEWS`, far to near: ribbons, blur, and shadow (x, y, strength)."""
    _, _, _, horizon, leaning, planes = view
    u = rng.uniform
    top, hue, dry, shade = u(*horizon), u(108, 138), u(0, 0.4) ** 1.5, u(-10, 6)
    kinds = _kinds(rng, 99)
    if top > 0:  # the ground, in one piece
        far, near = _lch([u(40, 66), u(14, 40)], u(15, 42), hue)
        place = {"start": [0.5, top], "along": [0, 1.2 - top], "across": [0.7, 0]}
        yield _ribbons(1, **place, root=far, tip=near), 0.01, (0, 0, 0)
    for plane in planes:
        if u() > plane.chance:
            continue
        blur = max(u(*plane.blur), 0)
        (left, right), (first, last) = plane.columns, top + (1.1 - top) * np.array(plane.rows)
        if n := int(u(*plane.plants)):
            kind = "leaves" if u() < plane.leafy else "grass"
            place = u([left, first], [right, last + 0.15], (int(PLANTS[kind][0] * n), 2))
            place = place[np.argsort(place[:, 1])]
            yield _plants(rng, kind, place, u(*plane.length), hue, dry, shade), blur, (0, 0, 0)
        if n := int(u(*plane.flowers)):
            # A sequence of low discrepancy (Roberts 2018): flowers keep their distance.
            place = (u(0, 1, 2) + np.outer(np.arange(n), [0.7549, 0.5698])) % 1
            place += rng.normal(0, 0.12 / np.sqrt(n), (n, 2))
            centre = [left, first] + place[np.argsort(place[:, 1])] * [right - left, last - first]
            radius = u(*plane.radius) * u(0.75, 1.25, n)
            lean = np.abs(rng.normal(0, leaning, n)).clip(0, 1.45)
            flowers = _flowers(rng, centre, radius, lean, kinds[-n:], sun)
            cast = -sun[:2] / sun[2] * 0.25 * radius.mean()
            yield flowers, blur, (*cast, plane.shadow)


def _backdrop(rng, kind, roughness, size):
    """What is far behind (size, size, 3): two fields of noise look up a palette of linear RGB."""
    dark, light, chroma, hue, turn = (rng.uniform(*pair) for pair in BACKDROPS[kind])
    L = np.linspace(dark, light, 4)
    chroma = chroma * (0.6 + L / 120) * np.array([[1], [rng.uniform(0.7, 1.2)]])
    palette = _lch(L, chroma, [[hue], [hue + turn]])
    f = np.hypot(*np.ogrid[:64, :64])[..., None]  # half cycles
    spectrum = rng.standard_normal((64, 64, 2)) * (3 + f) ** (np.log2(roughness) - 1)
    field = idctn(spectrum, axes=(0, 1))
    field *= rng.uniform(0.06, 0.2) / field.std()
    u, v = np.moveaxis(_resample(np.float32(field), size, 0.3 / size), 2, 0) + 0.5
    look_up = functools.partial(map_coordinates, coordinates=[3 * u, v], order=1, mode="nearest")
    return np.stack([look_up(plane) for plane in palette.T], axis=-1)


def _render(rng, noise, size):
    """A picture as sRGB (size, size, 3) float32 in [0, 1]; no draw of `rng` depends on its size."""
    u = rng.uniform
    view = VIEWS[rng.choice(len(VIEWS), p=[share for share, *_ in VIEWS])]
    sun = _unit(np.array([u(-1, 1), -u(0.3, 1), u(0.35, 1.2)]))
    clear, warm = u(0.3, 0.85), u(0, 0.18)  # share of direct light, low under cloud; its warmth
    sunlight = np.float32(clear * np.array([1 + warm, 1, 1 - 1.2 * warm]))
    skylight = np.float32((1 - clear) * np.array([1 - 0.2 * warm, 1, 1 + 0.4 * warm]))
    softness = u(0.35, 0.65)  # of lens and sensor, in pixels
    picture = _backdrop(rng, rng.choice(view[1]), u(*view[2]), size)
    for ribbons, blur, (*cast, strength) in _layers(rng, view, sun):
        # A blurred layer needs few pixels: about two to a standard deviation.
        side = (2 if size >= 48 else 4) * size
        while side > 32 and blur * side > 3:
            side //= 2
        paint = _paint(ribbons, side, sunlight, skylight)
        paint = _resample(paint, size, np.hypot(blur, softness / size))
        if strength:
            shadow = _resample(paint[::2, ::2, 3:], size, 0.012 + blur, cast)
            picture *= 1 - np.float32(strength) * shadow
        picture = picture * (1 - paint[..., 3:]) + paint[..., :3]
    return _develop(rng, picture, noise)


def _in_gamut(lab, slack=1e-6):
    linear = _lab_to_linear(lab)
    return np.all((linear >= -slack) & (linear <= 1 + slack), axis=-1)


def _into_gamut(lab):
    """Scale the chroma of each pixel of `lab` (..., 3), never its L or hue, until sRGB holds it."""
    outside = ~_in_gamut(lab)
    pixels = lab[outside]
    kept = np.zeros((len(pixels), 1))
    for step in 0.5 ** np.arange(1, 13):
        tried = np.append(pixels[:, :1], (kept + step) * pixels[:, 1:], axis=1)
        kept += step * _in_gamut(tried)[:, None]
    lab[outside, 1:] *= kept


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
        _into_gamut(lab)
        gain = radius <= 1
    return lab2rgb(lab).astype(np.float32)


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
    scene, noise = [seed, index, 0], [seed, index, 1, size]
    picture = _render(*map(np.random.default_rng, (scene, noise)), size)
    return picture if limit is None else _limit_chroma(picture, limit)
