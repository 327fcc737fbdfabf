"""Architectures as data: lists of steps, which `autoencoder` builds into networks.

The published family (`published_ops`) has 297,794, 1,627,202, 6,940,226 and
28,183,106 parameters for 0 to 3 pooling layers at `base_width=64`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

WINDOWS = {"max5": 5, "max2": 2, "average": 2, "blur": 4}  # pixels that a pooling sees, one axis


@dataclass(frozen=True)
class Op:
    """One step of an architecture: what it does and how many channels it yields.

    Convolutions are "conv" (of the encoder), "deconv" (of the decoder) and
    "output"; "pool" halves and "up" (nearest neighbour) or "bilinear" doubles the
    side of the maps; "unshuffle" moves 2 x 2 pixels into channels and "shuffle"
    moves them back; "keep" puts the map aside for the matching "add".
    """

    kind: str
    out_channels: int
    kernel: int = 3  # pixels that it sees along one axis, on the finer side where sides differ
    stride: float = 1  # 2 halves the side, 1/2 doubles it
    dilation: int = 1
    groups: int = 1
    pooling: str = ""  # of a "pool": a key of `WINDOWS`
    merged: bool = False  # an "up" that is left to the convolution behind it, and that convolution


@dataclass(frozen=True)
class Stage:
    """What one step of a built network yields.

    `reduction` is the factor by which the side of the map is smaller than the
    input's; `macs_per_pixel` counts multiply-accumulates per *input* pixel, as
    the architecture is written, whatever shortcut computes it.
    """

    kind: str
    in_channels: int
    out_channels: int
    reduction: int
    receptive_field: int  # pixels of the input, along one axis
    parameters: int
    macs_per_pixel: float

    def values(self, size: int) -> int:
        """Numbers that this stage hands on for one image of `size` x `size` pixels."""
        return self.out_channels * (size // self.reduction) ** 2


def _pool(channels: int, pooling: str) -> Op:
    return Op("pool", channels, WINDOWS[pooling], stride=2, pooling=pooling)


def _doubled(convolution: Op, upsampler: str, channels: int, skip: bool = False) -> list[Op]:
    """Return the steps that double the side of maps of so many channels and convolve them.

    A "transposed" convolution of stride 2 does both, with as many weights as the convolution.
    With `skip` the map that was put aside is added in between.
    """
    if upsampler == "transposed":
        return [replace(convolution, stride=0.5)]
    if upsampler == "bilinear":
        return [Op("bilinear", channels, 3, 0.5), convolution]
    merged = convolution.kernel == 3 and not skip
    up = Op("up", channels, kernel=1, stride=0.5, merged=merged)
    return [up, *[Op("add", channels, kernel=1)] * skip, replace(convolution, merged=merged)]


def published_ops(
    pool_depth: int,
    base_width: int = 64,
    pooling: str = "max5",
    bottleneck: int = 0,
    upsampler: str = "nearest",
) -> list[Op]:
    """Return the published architecture with `pool_depth` pooling layers.

    Every level doubles the channels: the encoder runs w-2w, pool, 2w-4w, ...
    and the decoder mirrors it, with upsampling in between.

    Parameters
    ----------
    pool_depth, base_width
        As in `settings.Settings`.
    pooling
        What halves the maps. "max5": kernel 5, stride 2, padding 2, as in the published code;
        "max2": kernel 2, stride 2, as in the published figure; "average" of 2 x 2; "blur": see
        `layers.BlurPool`; "strided": the convolution behind takes steps of two pixels.
    bottleneck
        Channels that the encoder hands to the decoder, if not 0.
    upsampler
        What doubles the maps: "nearest" as published, "bilinear", or "transposed" convolutions of
        stride 2 in place of both upsampling and the convolution behind it.
    """
    level = [2 * base_width * 2**i for i in range(pool_depth + 1)]  # channels after level i
    ops = [Op("conv", base_width), Op("conv", level[0])]
    for inner, outer in zip(level, level[1:], strict=False):
        strided = pooling == "strided"  # the convolution behind, where the matched family's before
        ops += [] if strided else [_pool(inner, pooling)]
        ops += [Op("conv", inner, stride=1 + strided), Op("conv", outer)]
    if bottleneck:
        ops[-1] = Op("conv", bottleneck)
    ops.append(Op("deconv", level[-1]))
    for channels in reversed(level[:-1]):
        convolution = Op("deconv", channels)
        ops += [convolution, *_doubled(convolution, upsampler, channels)]
    return [*ops, Op("deconv", base_width), Op("output", 2)]


LEVELS = (1, 2, 3)  # of the matched skeleton: places where the map can be halved
# What `matched_ops` varies in one thing, and how deep it pools.
CONTROLS = {"dilated": 0, "area2": 1, "area4": 2, "narrow": 3}
CONTROLS |= {"lossless": 3, "lossless-ungrouped": 3, "skip": 3}


def matched_ops(
    family: str, pool_depth: int, width: int, pooling: str = "strided", upsampler: str = "nearest"
) -> list[Op]:
    """Return a network of the matched family: 14 convolutions, and weights alike in number.

    The skeleton: one convolution; at each of three levels two, of which the
    first halves the map if `pool_depth` reaches that level; at each level back
    two more, with upsampling before the second; the output. Convolutions are
    3 x 3 and have `width` channels, so that neither depth nor weights change
    with `pool_depth`. Where `pooling` is not "strided", the first convolution of
    a level keeps the side and what it yields is pooled, so that nothing but the
    operator changes; `upsampler` is as in `published_ops`. The controls change
    one thing each:

    dilated
        Nothing is halved; every convolution is dilated by what matched3 has
        halved there, which gives it matched3's receptive field at full resolution.
    area2, area4
        Halved once or twice, to 1/2 or 1/4 of the side, and dilated after that as
        dilated is: from dilated to matched3, only the bottleneck's area changes.
    narrow
        matched3's resolution with matched0's receptive field: six coarse
        convolutions are 1 x 1, and the channels between them are as many more
        as bring the weights back.
    lossless
        2 x 2 pixels move into channels where matched3 drops them, and back; at
        1/8 of the side there are at least 64 channels, one for each pixel that
        they stand for. Grouped convolutions keep the weights.
    lossless-ungrouped
        The same, every channel mixed with every other: 1 x 1 convolutions where the
        pixels move, and fewer channels above 1/8 of the side, keep the weights.
    skip
        matched3, with the map of each resolution added where the decoder comes
        back to it. Added, where a U-Net concatenates: that would cost weights.
    """
    if family == "lossless-ungrouped":
        weights = 27 * width + 108 * width**2

        def excess(base: int) -> int:
            c = [max(base, 4**level) for level in (0, *LEVELS)]
            inner = sum(8 * a * b + 18 * b**2 for a, b in zip(c, c[1:], strict=False))
            return abs(27 * base + inner - weights)

        width = min(range(min(8, width), 2 * width), key=excess)
    lossless, skip = family.startswith("lossless"), family == "skip"
    dilated = family in ("dilated", "area2", "area4")
    dilation = [2 ** max(0, level - pool_depth) if dilated else 1 for level in (0, *LEVELS)]
    kernel, channels = {}, {}
    if family == "narrow":
        # Channels h with equal weights, 3 for each channel's bias and normalisation included.
        # Above: w h of 1 x 1 and 9 h w of 3 x 3 for 18 w w. At the bottom 2 w h + 2 h h for 36 w w.
        w = width
        pair = round((18 * w**2 + 3 * w) / (10 * w + 3))
        b = 2 * w + 9
        quad = round((math.sqrt(b**2 + 8 * (36 * w**2 + 9 * w)) - b) / 4)
        kernel = dict.fromkeys(["in1", "in2", "in3", "back3", "up3", "back2"], 1)
        channels = {"in1": pair, "in2": pair} | dict.fromkeys(["in3", "back3", "up3"], quad)
    elif lossless:
        for level in LEVELS:
            inner = max(width, 4**level)
            channels |= dict.fromkeys([f"down{level}", f"in{level}", f"back{level}"], inner)
            channels[f"up{level}"] = 4 * max(width, 4 ** (level - 1))
            if family == "lossless-ungrouped":
                kernel |= {f"down{level}": 1, f"up{level}": 1}

    def convolution(kind: str, place: str, **changes) -> Op:
        inside, outside = ops[-1].out_channels, channels.get(place, width)
        groups = _groups(inside, outside, width) if family == "lossless" else 1
        return Op(kind, outside, kernel.get(place, 3), groups=groups, **changes)

    ops = [Op("conv", width)]
    for level in LEVELS:
        outer, inner = dilation[level - 1 : level + 1]
        ops += [Op("keep", width, kernel=1)] * skip
        ops += [Op("unshuffle", 4 * ops[-1].out_channels, 2, 2)] * lossless
        down = convolution("conv", f"down{level}", dilation=outer)
        halving = level <= pool_depth and not lossless
        ops.append(replace(down, stride=2) if halving and pooling == "strided" else down)
        ops += [_pool(width, pooling)] if halving and pooling != "strided" else []
        ops.append(convolution("conv", f"in{level}", dilation=inner))
    for level in reversed(LEVELS):
        outer, inner = dilation[level - 1 : level + 1]
        ops.append(convolution("deconv", f"back{level}", dilation=inner))
        up = convolution("deconv", f"up{level}", dilation=outer)
        if level <= pool_depth and not lossless:
            ops += _doubled(up, upsampler, ops[-1].out_channels, skip)
        else:
            ops.append(up)
        ops += [Op("shuffle", up.out_channels // 4, 1, 0.5)] * lossless
    return [*ops, Op("output", 2)]


def _groups(inside: int, outside: int, width: int) -> int:
    """Return how many groups bring the weights nearest to those of width x width channels."""
    most = math.gcd(inside, outside)
    fitting = [g for g in range(1, most + 1) if most % g == 0]
    excess = inside * outside / width**2
    return min(fitting, key=lambda g: abs(math.log(excess / g)))
