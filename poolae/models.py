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

from poolae.settings import POOLINGS, check_choice

__all__ = ["Autoencoder", "Op", "Stage", "build", "published_ops"]


@dataclass(frozen=True)
class Op:
    """One step of an architecture: what it does and how many channels it yields."""

    kind: str  # "conv" (encoder), "deconv" (decoder), "pool", "up" or "output"
    out_channels: int


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


def published_ops(pool_depth: int, base_width: int = 64) -> list[Op]:
    """Return the published architecture with `pool_depth` pooling layers.

    Every level doubles the channels: the encoder runs w-2w, pool, 2w-4w, ...
    and the decoder mirrors it, with nearest-neighbour upsampling in between.
    """
    level = [2 * base_width * 2**i for i in range(pool_depth + 1)]  # channels after level i
    ops = [Op("conv", base_width), Op("conv", level[0])]
    for inner, outer in zip(level, level[1:], strict=False):
        ops += [Op("pool", inner), Op("conv", inner), Op("conv", outer)]
    for channels in reversed(level):
        ops += [Op("deconv", channels), Op("deconv", channels // 2), Op("up", channels // 2)]
    ops[-1] = Op("output", 2)  # nothing to upsample after the outermost level
    return ops


class StrideOneDeconv(nn.Conv2d):
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
    y = F.conv2d(x, kernels, bias.repeat(4), padding=1)  # (N, 4 O, H + 1, W + 1)
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
def fold(network: Autoencoder) -> nn.Sequential:
    """Return the trained network for inference only, with every normalisation folded away.

    The result agrees with `network.eval()` to rounding. A normalisation before
    a pooling layer folds into the convolution behind it, since a maximum
    commutes with a positive scale; where a scale is not positive it stays.
    """
    steps: list[nn.Module] = []
    one = next(network.parameters())
    norm, scale, shift = nn.Identity(), one.new_ones(1), one.new_zeros(1)
    for layer, stage in zip(network.layers, network.stages, strict=True):
        if stage.kind == "pool":
            if (scale <= 0).any():
                steps.append(norm)
                scale, shift = torch.ones_like(scale), torch.zeros_like(shift)
            steps.append(layer)
        elif stage.kind == "output":
            steps.append(FoldedConv(layer, scale, shift, relu=False))
        elif stage.kind != "up":
            conv, _, norm = layer
            steps.append(FoldedConv(conv, scale, shift, relu=True))
            scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
            shift = norm.bias - norm.running_mean * scale
    return nn.Sequential(*steps).eval()


def _pooling(name: str) -> nn.Module:
    if name == "max5":  # the published code
        return nn.MaxPool2d(5, stride=2, padding=2)
    return nn.MaxPool2d(2, stride=2)  # the published figure


class Autoencoder(nn.Module):
    """A network built from `ops`, with its record in `stages`.

    Parameters
    ----------
    ops
        The architecture, input to output.
    pooling
        "max5": kernel 5, stride 2, padding 2, as in the published code;
        "max2": kernel 2, stride 2, as in the published figure.

    Notes
    -----
    A convolution block is convolution, ReLU, batch normalisation, in that
    order. The output has no activation: `predict` clips it to [0, 1], and the
    published recipe clips it in training too.
    """

    def __init__(self, ops: list[Op], pooling: str = "max5") -> None:
        super().__init__()
        check_choice("pooling", pooling, POOLINGS)
        self.stages: list[Stage] = []
        layers: list[nn.Module] = []
        channels, reduction, receptive_field = 1, 1, 1
        for op in ops:
            macs = 0.0
            if op.kind == "pool":
                module = _pooling(pooling)
                receptive_field += (module.kernel_size - 1) * reduction
                reduction *= 2
            elif op.kind == "up":
                module = nn.Identity()  # the convolution behind it upsamples
                reduction //= 2
            else:
                after_up = bool(self.stages) and self.stages[-1].kind == "up"
                conv = (
                    nn.Conv2d if op.kind == "conv" else (StrideOneDeconv, UpsampledDeconv)[after_up]
                )
                module = conv(channels, op.out_channels, 3, padding=1)
                macs = module.weight.numel() / reduction**2
                receptive_field += 2 * reduction
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
        self.layers = nn.Sequential(*layers)

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
        encoder = [s for s in self.stages if s.kind in ("conv", "pool")]
        return encoder[-1]

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
        lightness = lightness.contiguous(memory_format=torch.channels_last)
        return torch.cat([folded(part).clamp_(0, 1) for part in lightness.split(batch_size)])

    def predict_array(self, lightness: np.ndarray) -> np.ndarray:
        """`predict` for arrays: chroma (N, 2, H, W) for lightness (N, 1, H, W)."""
        place = next(self.parameters()).device
        return self.predict(torch.from_numpy(lightness).to(place)).cpu().numpy()


def build(
    pool_depth: int, base_width: int = 64, pooling: str = "max5", seed: int = 0
) -> Autoencoder:
    """Build a published network, initialised as PyTorch does from `seed` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Autoencoder(published_ops(pool_depth, base_width), pooling)
