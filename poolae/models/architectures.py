"""Architectures as data: lists of steps, which `autoencoder` builds into networks.

The published family (`published_ops`) has 297,794, 1,627,202, 6,940,226 and
28,183,106 parameters for 0 to 3 pooling layers at `base_width=64`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Op:
    """One step of an architecture: what it does and how many channels it yields.

    Convolutions are "conv" (of the encoder), "deconv" (of the decoder) and
    "output"; "pool" and "up" halve and double the side of the maps; "unshuffle"
    moves 2 x 2 pixels into channels and "shuffle" moves them back; "keep" puts
    the map aside for the matching "add".
    """

    kind: str
    out_channels: int
    kernel: int = 3
    stride: int = 1
    dilation: int = 1
    groups: int = 1


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


def published_ops(
    pool_depth: int, base_width: int = 64, strided: bool = False, bottleneck: int = 0
) -> list[Op]:
    """Return the published architecture with `pool_depth` pooling layers.

    Every level doubles the channels: the encoder runs w-2w, pool, 2w-4w, ...
    and the decoder mirrors it, with nearest-neighbour upsampling in between.

    Parameters
    ----------
    pool_depth, base_width
        As in `settings.Settings`.
    strided
        Let the convolution behind each pooling layer take steps of two pixels in its place.
    bottleneck
        Channels that the encoder hands to the decoder, if not 0.
    """
    level = [2 * base_width * 2**i for i in range(pool_depth + 1)]  # channels after level i
    ops = [Op("conv", base_width), Op("conv", level[0])]
    for inner, outer in zip(level, level[1:], strict=False):
        halving = (
            [Op("conv", inner, stride=2)] if strided else [Op("pool", inner), Op("conv", inner)]
        )
        ops += [*halving, Op("conv", outer)]
    if bottleneck:
        ops[-1] = Op("conv", bottleneck)
    for channels in reversed(level):
        ops += [Op("deconv", channels), Op("deconv", channels // 2), Op("up", channels // 2)]
    ops[-1] = Op("output", 2)  # nothing to upsample after the outermost level
    return ops


LEVELS = (1, 2, 3)  # of the matched skeleton: places where the map can be halved


def matched_ops(family: str, pool_depth: int, width: int) -> list[Op]:
    """Return a network of the matched family: 14 convolutions, and weights alike in number.

    The skeleton: one convolution; at each of three levels two, of which the
    first halves the map if `pool_depth` reaches that level; at each level back
    two more, with upsampling before the second; the output. Convolutions are
    3 x 3 and have `width` channels, so that neither depth nor weights change
    with `pool_depth`. The controls change one thing each:

    dilated
        Nothing is halved; every convolution is dilated by what matched3 has
        halved there, which gives it matched3's receptive field at full resolution.
    narrow
        matched3's resolution with matched0's receptive field: six coarse
        convolutions are 1 x 1, and the channels between them are as many more
        as bring the weights back.
    lossless
        2 x 2 pixels move into channels where matched3 drops them, and back; at
        1/8 of the side there are at least 64 channels, one for each pixel that
        they stand for. Grouped convolutions keep the weights.
    skip
        matched3, with the map of each resolution added where the decoder comes
        back to it. Added, where a U-Net concatenates: that would cost weights.
    """
    if family == "lossless":
        return _lossless_ops(width)
    halved = [1, *(2 ** min(level, pool_depth) for level in LEVELS)]  # after each level
    dilation = [2**level for level in (0, *LEVELS)] if family == "dilated" else [1] * 4
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

    def convolution(kind: str, place: str, **changes) -> Op:
        return Op(kind, channels.get(place, width), kernel.get(place, 3), **changes)

    ops = [Op("conv", width)]
    for level in LEVELS:
        outer, inner = dilation[level - 1 : level + 1]
        ops += [Op("keep", width)] * (family == "skip")
        step = halved[level] // halved[level - 1]
        ops.append(convolution("conv", f"down{level}", stride=step, dilation=outer))
        ops.append(convolution("conv", f"in{level}", dilation=inner))
    for level in reversed(LEVELS):
        outer, inner = dilation[level - 1 : level + 1]
        ops.append(convolution("deconv", f"back{level}", dilation=inner))
        if halved[level] > halved[level - 1]:
            ops.append(Op("up", ops[-1].out_channels))
        ops += [Op("add", width)] * (family == "skip")
        ops.append(convolution("deconv", f"up{level}", dilation=outer))
    return [*ops, Op("output", 2)]


def _lossless_ops(width: int) -> list[Op]:
    channels = [max(width, 4**level) for level in (0, *LEVELS)]

    def convolution(kind: str, inside: int, outside: int) -> Op:
        # As many groups as bring the weights nearest to those of width x width channels.
        most = math.gcd(inside, outside)
        fitting = [g for g in range(1, most + 1) if most % g == 0]
        excess = inside * outside / width**2
        return Op(kind, outside, groups=min(fitting, key=lambda g: abs(math.log(excess / g))))

    ops = [Op("conv", width)]
    for level in LEVELS:
        outer, inner = channels[level - 1 : level + 1]
        ops += [Op("unshuffle", 4 * outer), convolution("conv", 4 * outer, inner)]
        ops.append(convolution("conv", inner, inner))
    for level in reversed(LEVELS):
        outer, inner = channels[level - 1 : level + 1]
        ops += [convolution("deconv", inner, inner), convolution("deconv", inner, 4 * outer)]
        ops.append(Op("shuffle", outer))
    return [*ops, Op("output", 2)]
