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
from poolae.models.layers import Conv, FoldedConv, Steps, layer
from poolae.settings import Settings, make_settings


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
    for module, stage in zip(network.layers, network.stages, strict=True):
        conv = next((m for m in module.modules() if isinstance(m, Conv)), None)
        foldable = conv is not None and conv.plain
        commutes = stage.kind in ("up", "bilinear") or (
            stage.kind == "pool" and bool((scale > 0).all())
        )
        if not (commutes or foldable):
            steps.append(norm)
            norm, scale, shift = nothing
        if foldable:
            steps.append(FoldedConv(conv, scale, shift, relu=stage.kind != "output"))
        else:
            steps += [module] if conv is None else [conv, nn.ReLU(inplace=True)]
        if conv is not None and stage.kind != "output":
            norm = module[-1]
            scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
            shift = norm.bias - norm.running_mean * scale
    return Steps(*steps).eval()


class Autoencoder(nn.Module):
    """A network built from `ops`, with its record in `stages`.

    Parameters
    ----------
    ops
        The architecture, input to output.
    mirrored
        Let `predict` average the answers to a picture and to its mirror image.

    Attributes
    ----------
    stages
        What each step yields.
    reduction
        Largest factor by which a map is smaller than the input; must divide its side.
    receptive_field
        Side of the square of input pixels that one output pixel can see.
    parameter_count
        Trainable parameters.
    bottleneck
        The last stage of the encoder: what the decoder is given.

    Notes
    -----
    The output has no activation: `predict` clips it to [0, 1], and the published recipe clips it
    in training too.
    """

    def __init__(self, ops: list[Op], mirrored: bool = False) -> None:
        super().__init__()
        self.mirrored = mirrored
        self.stages: list[Stage] = []
        self.layers = Steps()
        channels, reduction, receptive_field = 1, 1, 1
        for op in ops:
            module = layer(op, channels)
            before, reduction = reduction, int(reduction * op.stride)
            receptive_field += (op.kernel - 1) * op.dilation * min(before, reduction)
            parameters = sum(p.numel() for p in module.parameters())
            kernels = [p.numel() for p in module.parameters() if p.ndim == 4]
            macs = sum(kernels) / max(before, reduction) ** 2
            sizes = (channels, op.out_channels, reduction, receptive_field)
            self.stages.append(Stage(op.kind, *sizes, parameters, macs))
            self.layers.append(module)
            channels = op.out_channels
        self.reduction = max(stage.reduction for stage in self.stages)
        self.receptive_field = receptive_field
        self.parameter_count = sum(stage.parameters for stage in self.stages)
        self.bottleneck = [stage for stage in self.stages if stage.kind == "conv"][-1]

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


def build(pool_depth: int, base_width: int = 64, mirrored: bool = False, **settings) -> Autoencoder:
    """`build_for` the settings that `settings.make_settings` makes of these.

    Raises
    ------
    UserError
        As `settings.make_settings`.
    """
    given = {"base_width": base_width, "mirrored": mirrored, **settings}
    return build_for(make_settings(pool_depth, **given))


def build_for(settings: Settings) -> Autoencoder:
    """Build the network of a run as it is before training, initialised from its seed alone.

    The matched family's constant width is twice the base width.
    """
    s = settings
    if s.family == "published":
        ops = published_ops(s.pool_depth, s.base_width, s.pooling, s.bottleneck, s.upsampler)
    else:
        ops = matched_ops(s.family, s.pool_depth, 2 * s.base_width, s.pooling, s.upsampler)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(s.seed)
        return Autoencoder(ops, s.mirrored)


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
