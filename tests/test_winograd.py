"""The convolutions of training in float32, against PyTorch's own."""

import pytest
import torch
from torch.nn import functional as F

from poolae.models import Conv, build, winograd

LAST = dict(memory_format=torch.channels_last)


def gradients(convolve, x, weight, bias, padding):
    """Return the output and the gradients of input, weight and bias, for a fixed loss."""
    inputs = [t.clone().contiguous(**LAST) if t.ndim == 4 else t.clone() for t in (x, weight, bias)]
    for one in inputs:
        one.requires_grad_()
    y = convolve(*inputs, padding)
    factor = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape)
    return [y.detach(), *torch.autograd.grad((y * factor).sum(), inputs)]


@pytest.mark.parametrize("shape", [(2, 3, 5, 4, 7), (3, 16, 17, 8, 8), (1, 64, 80, 16, 12)])
@pytest.mark.parametrize("kernel", [3, 2])
def test_they_are_pytorchs_to_rounding(shape, kernel):
    n, channels, outputs, height, width = shape
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, channels, height, width, generator=generator)
    weight = torch.randn(outputs, channels, kernel, kernel, generator=generator)
    bias = torch.randn(outputs, generator=generator)
    ours = winograd.Rows.apply if kernel == 3 else winograd.Phases.apply
    found = gradients(lambda *a: ours(*a[:3]), x, weight, bias, 1)
    expected = gradients(
        lambda x, w, b, p: F.conv2d(x, w, b, padding=p),
        x.double(),
        weight.double(),
        bias.double(),
        1,
    )
    for one, other in zip(found, expected, strict=True):
        scale = other.abs().max()
        assert (one - other).abs().max() <= 3e-6 * scale
        assert one.is_contiguous(**LAST) if one.ndim == 4 and kernel == 3 else True


def test_no_gradient_is_computed_that_nobody_asks_for():
    x, weight = torch.randn(1, 16, 8, 8), torch.randn(16, 16, 3, 3, requires_grad=True)
    y = winograd.Rows.apply(x, weight, torch.zeros(16))
    y.sum().backward()
    assert x.grad is None and weight.grad is not None


def test_they_are_taken_for_training_in_float32_only():
    x, weight = torch.randn(2, 16, 8, 8), torch.randn(16, 16, 3, 3)
    assert winograd.takes(x, weight)
    assert not winograd.takes(x.double(), weight.double())
    assert not winograd.takes(x[:0], weight)  # a share of nothing
    assert not winograd.takes(x[:, :, :6], weight)
    assert not winograd.takes(x[:, :8], weight[:, :8])
    with torch.no_grad():
        assert not winograd.takes(x, weight)
    with torch.autocast("cpu", torch.bfloat16):
        assert not winograd.takes(x, weight)


@pytest.mark.parametrize("family", ["published", "matched", "dilated", "narrow", "lossless"])
def test_a_network_trains_as_it_does_without_them(family, monkeypatch):
    depth = 3 if family in ("published", "matched", "narrow", "lossless") else 0
    network = build(depth, 16, family=family, seed=1).to(**LAST).train()
    x = torch.rand(4, 1, 32, 32, generator=torch.Generator().manual_seed(0)).to(**LAST)

    def step(dtype):
        network.to(dtype).zero_grad()
        network(x.to(dtype)).square().mean().backward()
        return [p.grad.double().clone() for p in network.parameters()]

    taken = []
    takes = winograd.takes
    monkeypatch.setattr(winograd, "takes", lambda *a: taken.append(takes(*a)) or taken[-1])
    ours = step(torch.float32)
    assert any(taken)
    monkeypatch.setattr(winograd, "takes", lambda *_: False)
    plain, exact = step(torch.float32), step(torch.float64)

    def distance(gradients):
        pairs = zip(gradients, exact, strict=True)
        return torch.stack([(one - other).norm() / other.norm() for one, other in pairs])

    # A ReLU at its kink may fall to either side in any of them: no farther than float32 itself.
    assert distance(ours).median() <= 3 * distance(plain).median() + 1e-6


def test_which_convolutions_are_plain():
    assert Conv(4, 4, 3, padding=1).plain
    for other in (dict(stride=2), dict(dilation=2), dict(groups=2), dict(kernel_size=1)):
        assert not Conv(4, 4, **{"kernel_size": 3, "padding": 1, **other}).plain
