"""The layers that networks are built from, in the forms that are fastest to compute."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product

import torch
from torch import nn
from torch.nn import functional as F

from poolae.models import winograd
from poolae.models.architectures import Op


class Conv(nn.Conv2d):
    """`nn.Conv2d`, by way of `winograd` in training where that is the faster.

    Its rounding reaches beyond the receptive field, which shows where gradients are looked at.
    """

    upsampled = False  # by the convolution, before it

    @property
    def plain(self) -> bool:
        """Whether it is a 3 x 3 convolution that keeps the size, without dilation or groups."""
        shape = (self.kernel_size, self.stride, self.padding, self.dilation, self.groups)
        return shape == ((3, 3), (1, 1), (1, 1), (1, 1), 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training and self.plain and winograd.takes(x, self.weight):
            return winograd.Rows.apply(x, self.weight, self.bias)
        return super().forward(x)


class Deconv(Conv):
    """A 3x3 transposed convolution of stride 1 and padding 1, run as a convolution.

    With stride 1 the transposed convolution *is* a convolution whose kernel is
    flipped and whose channel axes are swapped; the convolution is the faster of
    the two. Only PyTorch's initialisation differs, because it takes the fan-in
    of a transposed weight from its second axis, the *output* channels; that is
    kept here.

    Where it is `upsampled`, nearest-neighbour upsampling by 2 comes before it, in one:
    an output pixel sees a 3x3 patch of the upsampled map, in which at most 2x2
    values differ. Where it sees them depends on whether its row and column are
    even or odd, so that four 2x2 kernels on the small map give the same result
    with 4/9 of the multiply-accumulates.
    """

    def reset_parameters(self) -> None:
        bound = 1 / math.sqrt(self.out_channels * self.kernel_size[0] * self.kernel_size[1])
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (
            convolve_upsampled(x, self.weight, self.bias) if self.upsampled else super().forward(x)
        )


def convolve_upsampled(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Convolve the twofold upsampled `x` (N, I, H, W) with `weight` (O, I, 3, 3), padding 1.

    Returns
    -------
    Tensor
        (N, O, 2H, 2W), channels last.
    """
    # For an even row of the output: the first tap falls on the row above, the others coincide.
    taps = weight.new_tensor([[[1, 0, 0], [0, 1, 1]], [[1, 1, 0], [0, 0, 1]]])  # phase, tap, row
    kernels = torch.einsum("pty,qsx,oiyx->pqoits", taps, taps, weight).flatten(0, 2)
    kernels = kernels.contiguous(memory_format=torch.channels_last)  # (4 O, I, 2, 2)
    if winograd.takes(x, weight):
        y = winograd.Phases.apply(x, kernels, bias.repeat(4))  # (N, 4 O, H + 1, W + 1)
    else:
        y = F.conv2d(x, kernels, bias.repeat(4), padding=1)
    return Interleaved.apply(y)


class Interleaved(torch.autograd.Function):
    """The four phases of an upsampled convolution, each put where its rows and columns belong.

    `Interleaved.apply` is given (N, 4 O, H + 1, W + 1), channels last, and returns
    (N, O, 2 H, 2 W), channels last. It could be written as slices, stacked, whose gradient takes
    a map of zeros for each.
    """

    @staticmethod
    def forward(ctx, phases):
        n, channels, height, width = phases.shape
        size = (n, channels // 4, 2 * (height - 1), 2 * (width - 1))
        like = {"dtype": phases.dtype, "device": phases.device}
        y = torch.empty(size, **like, memory_format=torch.channels_last)
        for phase, place in _places(phases, y):
            place.copy_(phase)
        return y

    @staticmethod
    def backward(ctx, gradient):
        n, channels, height, width = gradient.shape
        rows = gradient.new_empty(n, height // 2 + 1, width // 2 + 1, 2, 2, channels)
        for phase, beyond in ((0, -1), (1, 0)):  # where no output pixel saw it
            rows[:, beyond, :, phase] = 0
            rows[:, :, beyond, :, phase] = 0
        phases = rows.flatten(3).permute(0, 3, 1, 2)
        for phase, place in _places(phases, gradient):
            phase.copy_(place)
        return phases


def _places(phases: torch.Tensor, y: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield each phase of (N, 4 O, H + 1, W + 1) with its place in (N, O, 2 H, 2 W), as views."""
    phases = phases.permute(0, 2, 3, 1).unflatten(3, (2, 2, -1))  # (N, H + 1, W + 1, 2, 2, O)
    y = y.permute(0, 2, 3, 1).unflatten(2, (-1, 2)).unflatten(1, (-1, 2))  # (N, H, 2, W, 2, O)
    height, width = y.shape[1], y.shape[3]
    for p, q in product((0, 1), repeat=2):
        yield phases[:, p : p + height, q : q + width, p, q], y[:, :, p, :, q]


class FoldedConv(nn.Module):
    """A convolution that has taken in the normalisation before it, and its own ReLU.

    The normalisation's scale goes into the kernel and its shift into the bias.
    At the border the kernel sees padding, which is not shifted; what the bias
    holds too much is taken off there again.
    """

    def __init__(self, conv: nn.Conv2d, scale: torch.Tensor, shift: torch.Tensor, relu: bool):
        super().__init__()
        self.upsampled, self.relu = conv.upsampled, relu
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

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(F.pad(x, (0, 1, 0, 1), mode="replicate"), 2, stride=1)
        row = x.new_tensor([0.25, 0.5, 0.25])
        blur = torch.outer(row, row).expand(x.shape[1], 1, 3, 3)
        return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), blur, stride=2, groups=len(blur))


def layer(op: Op, channels: int) -> nn.Module:
    """Return the module of one step of an architecture, for maps of so many channels.

    A convolution block is convolution, ReLU, batch normalisation, in that order. The output is
    a convolution alone.
    """
    match op.kind, op.pooling:
        case "pool", "average":
            return nn.AvgPool2d(2)
        case "pool", "blur":
            return BlurPool()
        case "pool", _:
            return nn.MaxPool2d(op.kernel, 2, padding=(op.kernel - 1) // 2)
        case "up", _:
            return nn.Identity() if op.merged else nn.Upsample(scale_factor=2)
        case "bilinear", _:
            return nn.Upsample(scale_factor=2, mode="bilinear")
        case "unshuffle", _:
            return nn.PixelUnshuffle(2)
        case "shuffle", _:
            return nn.PixelShuffle(2)
        case "keep", _:
            return Keep()
        case "add", _:
            return Add()
    if op.stride < 1:
        convolution = nn.ConvTranspose2d(channels, op.out_channels, 3, 2, 1, output_padding=1)
    else:
        size = (op.kernel, op.stride, op.dilation * (op.kernel // 2), op.dilation, op.groups)
        convolution = (Conv if op.kind == "conv" else Deconv)(channels, op.out_channels, *size)
        convolution.upsampled = op.merged
    if op.kind == "output":
        return convolution
    return nn.Sequential(convolution, nn.ReLU(inplace=True), nn.BatchNorm2d(op.out_channels))
