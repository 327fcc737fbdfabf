"""Adam as published, AdamW, and Muon for the kernels of convolutions."""

from __future__ import annotations

import math

import torch
from torch import nn

from poolae.settings import Settings

ORTHOGONALISATIONS = 5  # steps of Muon's iteration


def make_optimisers(network: nn.Module, settings: Settings) -> list[torch.optim.Optimizer]:
    """Return the optimisers, each with the peak learning rate in `initial_lr` of its groups."""
    rate, decay = settings.learning_rate, settings.weight_decay
    rest, betas = list(network.parameters()), (0.9, 0.99)
    if settings.optimiser == "adam":
        made = [torch.optim.Adam(rest, rate, betas, weight_decay=decay, fused=True)]
    else:
        made = []
        if settings.optimiser == "muon":
            kernels = [p for p in rest if p.ndim == 4 and min(p.shape[:2]) > 2]
            rest = [p for p in rest if not any(p is k for k in kernels)]
            made.append(KernelMuon(kernels, rate, decay, getattr(torch, settings.precision)))
        made.append(torch.optim.AdamW(rest, rate, betas, weight_decay=decay, fused=True))
    for optimiser in made:
        for group in optimiser.param_groups:
            group["initial_lr"] = group["lr"]
    return made


class KernelMuon(torch.optim.Optimizer):
    """Muon for convolution kernels, each seen as the matrix (out, height * width * in).

    As PyTorch's, with Nesterov momentum .95 and `match_rms_adamw`, which takes one matrix at a
    time and always bfloat16; here kernels of one shape are orthogonalised together, in `dtype`.
    """

    def __init__(
        self, kernels: list[nn.Parameter], rate: float, decay: float, dtype: torch.dtype
    ) -> None:
        self.dtype = dtype
        super().__init__(kernels, {"lr": rate, "weight_decay": decay, "momentum": 0.95})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            alike: dict[tuple[int, ...], list[tuple[nn.Parameter, torch.Tensor]]] = {}
            for p in group["params"]:
                momentum = self.state[p].setdefault("momentum", torch.zeros_like(p))
                momentum.lerp_(p.grad, 1 - group["momentum"])
                update = p.grad.lerp(momentum, group["momentum"]).permute(0, 2, 3, 1).flatten(1)
                alike.setdefault(update.shape, []).append((p, update))
            for shape, pairs in alike.items():
                updates = orthogonalise(torch.stack([update for _, update in pairs]), self.dtype)
                size = group["lr"] * 0.2 * math.sqrt(max(shape))
                for (p, _), update in zip(pairs, updates, strict=True):
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    view = update.view(len(p), *p.shape[2:], p.shape[1]).permute(0, 3, 1, 2)
                    p.add_(view, alpha=-size)


def orthogonalise(matrices: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Bring the singular values of each matrix near 1, to within .7 and 1.2 or so.

    Five steps of the Newton-Schulz iteration of Jordan et al. 2024, in `dtype`.

    Parameters
    ----------
    matrices : (K, M, N) tensor
    dtype
        In float32 a step multiplies M x M matrices only: the products of all its polynomials are
        gathered and applied to the matrix once, which takes .4 of the operations at N = 9 M. In
        bfloat16 that would lose the small singular values, and each step is applied as it comes.

    Returns
    -------
    (K, M, N) tensor of `dtype`
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrices.shape[1] > matrices.shape[2]
    x = (matrices.mT if tall else matrices).to(dtype)
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    gram, gathered = x @ x.mT, None
    for step in range(ORTHOGONALISATIONS):
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        if dtype == torch.float32:
            factor.diagonal(dim1=1, dim2=2).add_(a)
            gathered = factor if gathered is None else factor @ gathered
            if step < ORTHOGONALISATIONS - 1:
                gram = factor @ gram @ factor
        else:
            x = torch.baddbmm(x, factor, x, beta=a)
            gram = x @ x.mT
    x = x if gathered is None else gathered @ x
    return x.mT if tall else x
