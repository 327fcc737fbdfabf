"""Autoencoders that predict chroma from lightness, built from data in one loop.

An architecture is a list of `Op`s. `Autoencoder` builds the list into modules
and records a `Stage` for every step as it is built: channels, reduction,
receptive field, parameters, multiply-accumulates. Tables, diagrams and the
bench read that record and nothing else.

The published family (`published_ops`) has 297,794, 1,627,202, 6,940,226 and
28,183,106 parameters for 0 to 3 pooling layers at `base_width=64`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from poolae import winograd
from poolae.settings import POOLINGS, Settings, check_choice

__all__ = ["Autoencoder", "Op", "Stage", "build", "build_for", "matched_ops", "published_ops"]


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


class Conv(nn.Conv2d):
    """`nn.Conv2d`, by way of `winograd` in training where that is the faster.

    Its rounding reaches beyond the receptive field, which shows where gradients are looked at.
    """

    @property
    def plain(self) -> bool:
        """Whether it is a 3 x 3 convolution that keeps the size, without dilation or groups."""
        shape = (self.kernel_size, self.stride, self.padding, self.dilation, self.groups)
        return shape == ((3, 3), (1, 1), (1, 1), (1, 1), 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training and self.plain and winograd.takes(x, self.weight):
            return winograd.convolve_3x3(x, self.weight, self.bias)
        return super().forward(x)


class StrideOneDeconv(Conv):
    """A 3x3 transposed convolution of stride 1 and padding 1, run as a convolution.

    With stride 1 the transposed convolution *is* a convolution whose kernel is
    flipped and whose channel axes are swapped; the convolution is the faster of
    the two. Only PyTorch's initialisation differs, because it takes the fan-in
    of a transposed weight from its second axis, the *output* channels; that is
    kept here.
    """

    def reset_parameters(self) -> None:
        bound = 1 / math.sqrt(self.out_channels * self.kernel_size[0] * self.kernel_size[1])
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)


class UpsampledDeconv(StrideOneDeconv):
    """Nearest-neighbour upsampling by 2 and `StrideOneDeconv` after it, in one.

    An output pixel sees a 3x3 patch of the upsampled map, in which at most 2x2
    values differ. Where it sees them depends on whether its row and column are
    even or odd, so that four 2x2 kernels on the small map give the same result
    with 4/9 of the multiply-accumulates.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return convolve_upsampled(x, self.weight, self.bias)


def convolve_upsampled(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Convolve the twofold upsampled `x` (N, I, H, W) with `weight` (O, I, 3, 3), padding 1.

    Returns
    -------
    Tensor
        (N, O, 2H, 2W), channels last.
    """
    height, width = x.shape[-2:]
    # For an even row of the output: the first tap falls on the row above, the others coincide.
    taps = weight.new_tensor([[[1, 0, 0], [0, 1, 1]], [[1, 1, 0], [0, 0, 1]]])  # phase, tap, row
    kernels = torch.einsum("pty,qsx,oiyx->pqoits", taps, taps, weight).flatten(0, 2)
    kernels = kernels.contiguous(memory_format=torch.channels_last)  # (4 O, I, 2, 2)
    if winograd.takes(x, weight):
        y = winograd.convolve_phases(x, kernels, bias.repeat(4))  # (N, 4 O, H + 1, W + 1)
    else:
        y = F.conv2d(x, kernels, bias.repeat(4), padding=1)
    y = y.permute(0, 2, 3, 1).unflatten(3, (2, 2, len(weight)))  # (N, H + 1, W + 1, 2, 2, O)
    rows = [
        torch.stack([y[:, p : p + height, q : q + width, p, q] for q in (0, 1)], dim=3)
        for p in (0, 1)
    ]  # each (N, H, W, 2, O)
    y = torch.stack(rows, dim=2)  # (N, H, 2, W, 2, O)
    return y.reshape(len(x), 2 * height, 2 * width, len(weight)).permute(0, 3, 1, 2)


class FoldedConv(nn.Module):
    """A convolution that has taken in the normalisation before it, and its own ReLU.

    The normalisation's scale goes into the kernel and its shift into the bias.
    At the border the kernel sees padding, which is not shifted; what the bias
    holds too much is taken off there again.
    """

    def __init__(self, conv: nn.Conv2d, scale: torch.Tensor, shift: torch.Tensor, relu: bool):
        super().__init__()
        self.upsampled, self.relu = isinstance(conv, UpsampledDeconv), relu
        weight = conv.weight.detach()
        self.excess = torch.einsum("oiyx,i->oyx", weight, shift)  # (O, 3, 3), tap by tap
        self.bias = conv.bias.detach() + self.excess.sum((1, 2))
        self.weight = (weight * scale[:, None, None]).contiguous(memory_format=torch.channels_last)
        self.shifted = bool(shift.any())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.upsampled:
            y = convolve_upsampled(x, self.weight, self.bias)
        else:
            y = F.conv2d(x, self.weight, self.bias, padding=1)
        if self.shifted:
            for side in (0, -1):  # the first tap misses at the first row, the last at the last
                y[:, :, side] -= self.excess[:, side, :].sum(1)[:, None]
                y[:, :, :, side] -= self.excess[:, :, side].sum(1)[:, None]
                for other in (0, -1):
                    y[:, :, side, other] += self.excess[:, side, other]
        return y.relu_() if self.relu else y


@torch.no_grad()
def fold(network: Autoencoder) -> Steps:
    """Return the trained network for inference only, with every normalisation folded away.

    The result agrees with `network.eval()` to rounding. A normalisation before
    a pooling layer folds into the convolution behind it, since a maximum
    commutes with a positive scale; where a scale is not positive it stays.
    """
    steps: list[nn.Module] = []
    one = next(network.parameters())
    nothing = nn.Identity(), one.new_ones(1), one.new_zeros(1)
    norm, scale, shift = nothing
    for layer, stage in zip(network.layers, network.stages, strict=True):
        conv = next((m for m in layer.modules() if isinstance(m, nn.Conv2d)), None)
        commutes = stage.kind == "up" or (stage.kind == "pool" and bool((scale > 0).all()))
        if not (commutes or _foldable(conv)):
            steps.append(norm)
            norm, scale, shift = nothing
        if _foldable(conv):
            steps.append(FoldedConv(conv, scale, shift, relu=stage.kind != "output"))
        elif conv is not None:
            steps += [conv, nn.ReLU(inplace=True)]
        else:
            steps.append(layer)
        if conv is not None and stage.kind != "output":
            norm = layer[-1]
            scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
            shift = norm.bias - norm.running_mean * scale
    return Steps(*steps).eval()


def _foldable(conv: nn.Conv2d | None) -> bool:
    """Tell whether `FoldedConv` knows the shape of this convolution's border."""
    plain = ((3, 3), (1, 1), (1, 1), 1)
    return conv is not None and plain == (
        conv.kernel_size,
        conv.stride,
        conv.dilation,
        conv.groups,
    )


class Keep(nn.Identity):
    """Put the map aside for the `Add` that belongs to it."""


class Add(nn.Identity):
    """Add the map that the last open `Keep` put aside."""


class Steps(nn.Sequential):
    """`nn.Sequential` with `Keep` and `Add`, which nest like brackets."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept: list[torch.Tensor] = []
        for step in self:
            if isinstance(step, Keep):
                kept.append(x)
            x = x + kept.pop() if isinstance(step, Add) else step(x)
        return x


class BlurPool(nn.Module):
    """Max pooling with stride 1, then a binomial blur with stride 2: anti-aliased (Zhang 2019)."""

    kernel_size = 4  # 2 of the maximum and 3 of the blur see 4 pixels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(F.pad(x, (0, 1, 0, 1), mode="replicate"), 2, stride=1)
        row = x.new_tensor([0.25, 0.5, 0.25])
        blur = torch.outer(row, row).expand(x.shape[1], 1, 3, 3)
        return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), blur, stride=2, groups=len(blur))


def _pooling(name: str) -> nn.Module:
    if name == "max5":  # the published code
        return nn.MaxPool2d(5, stride=2, padding=2)
    if name == "max2":  # the published figure
        return nn.MaxPool2d(2, stride=2)
    return nn.AvgPool2d(2) if name == "average" else BlurPool()


class Autoencoder(nn.Module):
    """A network built from `ops`, with its record in `stages`.

    Parameters
    ----------
    ops
        The architecture, input to output.
    pooling
        What a "pool" does. "max5": kernel 5, stride 2, padding 2, as in the published
        code; "max2": kernel 2, stride 2, as in the published figure; "average" of 2 x 2;
        "blur": see `BlurPool`.
    mirrored
        Let `predict` average the answers to a picture and to its mirror image.

    Notes
    -----
    A convolution block is convolution, ReLU, batch normalisation, in that
    order. The output has no activation: `predict` clips it to [0, 1], and the
    published recipe clips it in training too.
    """

    def __init__(self, ops: list[Op], pooling: str = "max5", mirrored: bool = False) -> None:
        super().__init__()
        self.mirrored = mirrored
        check_choice("pooling", pooling, POOLINGS)
        self.stages: list[Stage] = []
        layers: list[nn.Module] = []
        channels, reduction, receptive_field = 1, 1, 1
        for op, following in zip(ops, [*ops[1:], None], strict=True):
            macs = 0.0
            if op.kind == "pool":
                module = _pooling(pooling)
                receptive_field += (module.kernel_size - 1) * reduction
                reduction *= 2
            elif op.kind == "up":
                reduction //= 2
                merged = following.kind in ("deconv", "output") and following.kernel == 3
                # Merged, the convolution behind it upsamples.
                module = nn.Identity() if merged else nn.Upsample(scale_factor=2)
            elif op.kind == "unshuffle":
                module = nn.PixelUnshuffle(2)
                receptive_field += reduction
                reduction *= 2
            elif op.kind == "shuffle":
                module = nn.PixelShuffle(2)
                reduction //= 2
            elif op.kind in ("keep", "add"):
                module = Keep() if op.kind == "keep" else Add()
            else:
                after_up = bool(layers) and type(layers[-1]) is nn.Identity
                conv = Conv if op.kind == "conv" else (StrideOneDeconv, UpsampledDeconv)[after_up]
                module = conv(
                    channels,
                    op.out_channels,
                    op.kernel,
                    op.stride,
                    padding=op.dilation * (op.kernel // 2),
                    dilation=op.dilation,
                    groups=op.groups,
                )
                receptive_field += (op.kernel - 1) * op.dilation * reduction
                reduction *= op.stride
                macs = module.weight.numel() / reduction**2
                if op.kind != "output":
                    module = nn.Sequential(
                        module, nn.ReLU(inplace=True), nn.BatchNorm2d(op.out_channels)
                    )
            layers.append(module)
            self.stages.append(
                Stage(
                    op.kind,
                    channels,
                    op.out_channels,
                    reduction,
                    receptive_field,
                    sum(p.numel() for p in module.parameters()),
                    macs,
                )
            )
            channels = op.out_channels
        self.layers = Steps(*layers)

    @property
    def reduction(self) -> int:
        """Largest factor by which a map is smaller than the input; must divide its side."""
        return max(stage.reduction for stage in self.stages)

    @property
    def receptive_field(self) -> int:
        """Side of the square of input pixels that one output pixel can see."""
        return self.stages[-1].receptive_field

    @property
    def parameter_count(self) -> int:
        """Trainable parameters."""
        return sum(stage.parameters for stage in self.stages)

    @property
    def bottleneck(self) -> Stage:
        """The last stage of the encoder: what the decoder is given."""
        return [s for s in self.stages if s.kind == "conv"][-1]

    def macs(self, size: int) -> int:
        """Multiply-accumulates of the convolutions for one image of `size` x `size` pixels."""
        return round(sum(stage.macs_per_pixel for stage in self.stages) * size**2)

    def start_from(self, value: float) -> None:
        """Make the untrained network answer `value` everywhere, whatever its input."""
        output = self.layers[-1]
        nn.init.zeros_(output.weight)
        nn.init.constant_(output.bias, value)

    def forward(self, lightness: torch.Tensor) -> torch.Tensor:
        """Map lightness (N, 1, H, W) to unclipped chroma (N, 2, H, W).

        Raises
        ------
        ValueError
            If H or W is not a multiple of `reduction`.
        """
        self._check(lightness)
        return self.layers(lightness)

    def _check(self, lightness: torch.Tensor) -> None:
        if any(side % self.reduction for side in lightness.shape[-2:]):
            raise ValueError(
                f"image of {tuple(lightness.shape[-2:])} pixels: "
                f"both sides must be multiples of {self.reduction}"
            )

    @torch.inference_mode()
    def predict(self, lightness: torch.Tensor, batch_size: int = 64) -> torch.Tensor:
        """Return chroma (N, 2, H, W) in [0, 1] for lightness (N, 1, H, W) in [0, 1].

        Raises
        ------
        ValueError
            If H or W is not a multiple of `reduction`.
        """
        self._check(lightness)
        folded = fold(self)
        answers = []
        for part in lightness.contiguous(memory_format=torch.channels_last).split(batch_size):
            answer = folded(part)
            if self.mirrored:
                answer = (answer + folded(part.flip(-1)).flip(-1)) / 2
            answers.append(answer.clamp(0, 1))
        return torch.cat(answers)

    def predict_array(self, lightness: np.ndarray) -> np.ndarray:
        """`predict` for arrays: chroma (N, 2, H, W) for lightness (N, 1, H, W)."""
        place = next(self.parameters()).device
        return self.predict(torch.from_numpy(lightness).to(place)).cpu().numpy()


def build(
    pool_depth: int,
    base_width: int = 64,
    pooling: str = "max5",
    seed: int = 0,
    family: str = "published",
    bottleneck: int = 0,
    mirrored: bool = False,
) -> Autoencoder:
    """Build a network, initialised as PyTorch does from `seed` alone.

    Parameters are those of `settings.Settings`; the matched family's constant
    width is twice the base width.
    """
    if family == "published":
        ops = published_ops(pool_depth, base_width, pooling == "strided", bottleneck)
    else:
        ops = matched_ops(family, pool_depth, 2 * base_width)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Autoencoder(ops, pooling, mirrored)


def build_for(settings: Settings) -> Autoencoder:
    """`build` the network of a run, as it is before training."""
    s = settings
    return build(s.pool_depth, s.base_width, s.pooling, s.seed, s.family, s.bottleneck, s.mirrored)


def gradient_map(network: Autoencoder, lightness: np.ndarray) -> np.ndarray:
    """Return how much the output's middle pixel depends on each pixel of the input.

    The mean absolute gradient over the images, both channels and the block of
    output pixels that share a place at the coarsest resolution (Luo et al. 2016
    measure the effective receptive field so).

    Parameters
    ----------
    lightness : (N, 1, S, S) array in [0, 1]

    Returns
    -------
    (S, S) float32 array
        Not negative; its greatest value is 1.
    """
    network = network.eval()
    x = torch.from_numpy(lightness).requires_grad_()
    first = x.shape[-1] // 2
    total = torch.zeros(x.shape[-2:])
    out = network(x)
    for channel in range(out.shape[1]):
        for row in range(first, first + network.reduction, max(1, network.reduction // 2)):
            single = out[:, channel, row, row].sum()
            (gradient,) = torch.autograd.grad(single, x, retain_graph=True)
            total += gradient.abs().sum((0, 1))
    return (total / total.max().clamp(min=1e-30)).numpy()


def effective_receptive_field(gradients: np.ndarray) -> float:
    """Return the side, in pixels, of a square as large as the area with 4.55 % of the peak.

    Parameters
    ----------
    gradients : (S, S) array
        From `gradient_map`. The threshold is that of Luo et al. 2016: two
        standard deviations of a Gaussian.
    """
    return math.sqrt(np.count_nonzero(gradients > (1 - 0.9545) * gradients.max()))
