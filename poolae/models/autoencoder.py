"""Networks that predict chroma from lightness, built from a list of steps in one loop.

`Autoencoder` records a `Stage` for every step as it is built: channels, reduction,
receptive field, parameters, multiply-accumulates. Tables, diagrams and the
bench read that record and nothing else.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn

from poolae.models.architectures import Op, Stage, matched_ops, published_ops
from poolae.models.layers import (
    Add,
    Conv,
    FoldedConv,
    Keep,
    Steps,
    StrideOneDeconv,
    UpsampledDeconv,
    _pooling,
)
from poolae.settings import POOLINGS, Settings, check_choice

__all__ = ["Autoencoder", "Op", "Stage", "build", "build_for", "matched_ops", "published_ops"]


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
