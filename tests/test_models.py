"""The networks against the published facts and against PyTorch's own modules."""

import copy
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from bench import plain_network
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from poolae import data
from poolae.data import daisies
from poolae.models import (
    BlurPool,
    Op,
    build,
    build_for,
    convolve_upsampled,
    effective_receptive_field,
    fold,
    gradient_map,
    published_ops,
)
from poolae.settings import CONTROLS, DEPTHS, PROFILES, UserError, from_name
from poolae.train import loop

MATCHED = [*(f"matched{depth}" for depth in DEPTHS), *CONTROLS]
OPERATORS = [f"matched{k}-{o}" for k in (1, 2, 3) for o in ("max2", "max5", "average", "blur")]
UPSAMPLED = ["matched3-bilinear", "matched3-transposed"]
VARIANTS = [
    *(f"pool3-{kind}" for kind in ("average", "strided", "blur", "c4", "bilinear", "transposed")),
    *OPERATORS,
    *UPSAMPLED,
]

# Parameters, receptive field, values at the bottleneck: published study, 128 x 128, width 64.
PUBLISHED = {
    0: (297_794, 11, 128 * 128 * 128, 5),
    1: (1_627_202, 31, 256 * 64 * 64, 9),
    2: (6_940_226, 71, 512 * 32 * 32, 13),
    3: (28_183_106, 151, 1024 * 16 * 16, 17),
}


def copy_weights(reference: nn.Sequential, network: nn.Module) -> None:
    """Give `network` the weights of `reference`, kernels of transposed convolutions turned."""
    theirs = [m for m in reference.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    ours = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    with torch.no_grad():
        for one, other in zip(theirs, ours, strict=True):
            turned = isinstance(one, nn.ConvTranspose2d)
            weight = one.weight.transpose(0, 1).flip(2, 3) if turned else one.weight
            other.weight.copy_(weight)
            other.bias.copy_(one.bias)


@pytest.mark.parametrize("depth", DEPTHS)
def test_published_numbers(depth):
    network = build(depth, 64)
    parameters, receptive_field, values, convolutions = PUBLISHED[depth]
    assert network.parameter_count == parameters
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert network.receptive_field == receptive_field
    assert network.bottleneck.values(128) == values
    assert sum(isinstance(m, nn.Conv2d) for m in network.modules()) == convolutions


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("pooling", ["max5", "max2"])
def test_agrees_with_the_network_written_by_hand(depth, pooling):
    torch.manual_seed(0)
    # In double precision, so that rounding does not decide which value of a pool is the greatest.
    reference, network = (
        plain_network(depth, 4, pooling).double(),
        build(depth, 4, pooling=pooling if depth else "").double(),
    )
    copy_weights(reference, network)
    x = torch.rand(2, 1, 16, 24, dtype=torch.float64)
    for modules in (reference, network):
        modules.train()
    expected, found = reference(x), network(x)
    torch.testing.assert_close(found, expected)

    for modules, out in ((reference, expected), (network, found)):
        (out**2).sum().backward()
        assert all(p.grad.abs().sum() > 0 for p in modules.parameters())
    first = next(iter(reference.parameters())).grad
    torch.testing.assert_close(next(iter(network.parameters())).grad, first)


@pytest.mark.parametrize("depth", DEPTHS)
def test_receptive_field_is_where_the_gradient_reaches(depth):
    network = build(depth, 2, pooling="max2" if depth else "").eval()
    seen, size = network.receptive_field, 192
    # Positive weights and inputs: no path from input to output can vanish or cancel.
    with torch.no_grad():
        for p in network.parameters():
            p.abs_()
    x = torch.rand(1, 1, size, size, requires_grad=True)
    # A pooled network sees a little more or less by where a pixel lies in its block: take all.
    middle = slice(size // 2, size // 2 + network.reduction)
    network(x)[0, :, middle, size // 2].sum().backward()
    reached = x.grad[0, 0].abs().sum(1).nonzero().ravel()
    width = int(reached.max() - reached.min()) + 1
    if depth == 0:
        assert width == seen
    else:  # max pooling lets only the greatest of its inputs through
        assert seen - 2 * network.reduction <= width <= seen + 2 * network.reduction


@pytest.mark.parametrize(
    ("depth", "upsampler"), [*((depth, "nearest") for depth in DEPTHS), (3, "transposed")]
)
def test_multiply_accumulates_are_those_that_run(depth, upsampler):
    network, counted = build(depth, 4, upsampler=upsampler), []

    def count(module, inputs, output):
        each = module.kernel_size[0] * module.kernel_size[1]
        # A transposed convolution multiplies each pixel that it is given.
        transposed = isinstance(module, nn.ConvTranspose2d)
        pixels = (inputs[0] if transposed else output)[0, 0].numel()
        counted.append(each * module.in_channels * module.out_channels * pixels)

    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.register_forward_hook(count)
    network(torch.rand(2, 1, 32, 32))
    assert network.macs(32) == sum(counted)


def test_stages_record_what_flows(depth=2):
    network, shapes = build(depth, 4).eval(), []
    x = torch.rand(1, 1, 32, 32)
    for layer in network.layers:
        x = layer(x)
        shapes.append(tuple(x.shape[1:]))
    for stage, shape in zip(network.stages, shapes, strict=True):
        if stage.kind != "up":  # done by the convolution behind it
            assert shape == (stage.out_channels, 32 // stage.reduction, 32 // stage.reduction)
            assert stage.values(32) == np.prod(shape)


def test_decoder_starts_like_a_transposed_convolution():
    ours, theirs = build(0, 64), nn.ConvTranspose2d(128, 64, 3)
    decoder = ours.layers[3][0]  # 128 -> 64
    assert decoder.weight.shape == (64, 128, 3, 3)
    # Uniform within 1/sqrt(fan): the fan that PyTorch takes for a transposed kernel is the output.
    limit = 1 / np.sqrt(64 * 9)
    for weight in (decoder.weight, theirs.weight):
        assert weight.abs().max() <= limit
        assert weight.abs().max() > 0.99 * limit


def test_a_seed_decides_the_initial_weights_and_leaves_the_global_state_alone():
    before = torch.random.get_rng_state()
    one, same, other = build(1, 4, seed=3), build(1, 4, seed=3), build(1, 4, seed=4)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert not torch.equal(next(one.parameters()), next(other.parameters()))


def disturb(network, negative):
    """Give every normalisation other values than those it starts with."""
    torch.manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, -1.5 if negative else 0.5, 1.5)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)


@pytest.mark.parametrize("arm", [*MATCHED, *VARIANTS])
@pytest.mark.parametrize("negative", [False, True])
def test_folding_changes_nothing_in_any_arm(arm, negative):
    network = build_for(from_name(f"{arm}-seed0", profile="smoke")).eval()
    disturb(network, negative)
    x = torch.rand(2, 1, 16, 24)
    with torch.no_grad():
        torch.testing.assert_close(fold(network)(x), network(x), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("negative", [False, True])
def test_folding_changes_nothing(depth, negative):
    network = build(depth, 4).eval()
    disturb(network, negative)
    x = torch.rand(2, 1, 16, 24)
    with torch.no_grad():
        expected = network(x)
        found = fold(network)(x)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    kept = sum(isinstance(m, nn.BatchNorm2d) for m in fold(network).modules())
    assert kept == (depth if negative else 0)


def test_upsampling_and_convolving_at_once_is_the_same():
    torch.manual_seed(0)
    x, weight, bias = torch.rand(2, 3, 4, 5), torch.randn(6, 3, 3, 3), torch.randn(6)
    for tensor in (x, weight, bias):
        tensor.requires_grad_()
    plain_way = F.conv2d(F.interpolate(x, scale_factor=2), weight, bias, padding=1)
    found = convolve_upsampled(x, weight, bias)
    torch.testing.assert_close(found, plain_way, atol=1e-5, rtol=1e-5)
    upstream = torch.randn_like(found)
    expected = torch.autograd.grad(plain_way, (x, weight, bias), upstream)
    gradients = torch.autograd.grad(found, (x, weight, bias), upstream)
    torch.testing.assert_close(gradients, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("depth", DEPTHS)
def test_bfloat16_is_as_near_to_float32_as_its_number_format_allows(depth):
    """A training step under autocast strays no further than one from rounded weights does.

    Deep normalised networks magnify any rounding, so that a fixed tolerance
    would be far too wide for the shallow ones or too narrow for the deep: the
    yardstick is the same network in float32 with its weights and its input
    rounded to bfloat16 once.
    """
    lightness, chroma = data.rgb_to_lab01(np.stack([daisies.draw(k, 32) for k in range(8)]))
    x, y = torch.from_numpy(lightness), torch.from_numpy(chroma)
    network = build(depth, 8).to(memory_format=torch.channels_last).train()
    rounded = copy.deepcopy(network)
    with torch.no_grad():
        for p in rounded.parameters():
            p.copy_(p.bfloat16())

    def step(network, x, low):
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            out = network(x).float()
        gradients = torch.autograd.grad((out - y).abs().mean(), list(network.parameters()))
        return out.detach(), torch.cat([g.ravel() for g in gradients])

    exact, low = step(network, x, False), step(network, x, True)
    yardstick = step(rounded, x.bfloat16().float(), False)
    for name, a, b, c in zip(("output", "gradient"), exact, low, yardstick, strict=True):
        assert (b - a).norm() < 2.5 * (c - a).norm(), name
    assert torch.corrcoef(torch.stack([exact[0].ravel(), low[0].ravel()]))[0, 1] > 0.9
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(m.running_var.dtype == torch.float32 for m in norms)


class Layouts(TorchDispatchMode):
    """Notes the operations that are given maps in two layouts: ten times slower, if not more."""

    def __init__(self):
        self.mixed = []

    def __torch_dispatch__(self, operation, types, arguments=(), options=None):
        last = {
            tensor.is_contiguous(memory_format=torch.channels_last)
            for tensor in arguments
            if isinstance(tensor, torch.Tensor) and tensor.ndim == 4 and min(tensor.shape[1:]) > 1
        }
        if len(last) > 1 and re.search("batch_norm|threshold|pool", operation.name()):
            self.mixed.append(operation.name())
        return operation(*arguments, **(options or {}))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("arm", [*(f"pool{depth}" for depth in DEPTHS), *MATCHED, *VARIANTS])
def test_maps_and_gradients_stay_in_one_layout(arm, precision):
    settings = from_name(f"{arm}-seed0", profile="smoke", precision=precision)
    settings = replace(settings, size=16, base_width=4)
    network = loop.make_network(settings, torch.device("cpu"))
    optimisers = loop.make_optimisers(network, settings)
    x, y = (torch.rand(3, c, 16, 16).to(memory_format=torch.channels_last) for c in (1, 2))
    with Layouts() as layouts:
        loop.training_step(network, optimisers, settings, x, y)
    assert not layouts.mixed


def test_starting_from_grey():
    network = build(2, 4)
    network.start_from(0.5)
    assert torch.all(network.predict(torch.rand(2, 1, 16, 16)) == 0.5)


def test_predictions_stay_in_range_and_do_not_depend_on_the_batch():
    network = build(1, 4)
    with torch.no_grad():
        network.layers[-1].bias += torch.tensor([5.0, -5.0])
    x = torch.rand(5, 1, 16, 16)
    whole = network.predict(x)
    assert whole.min() == 0 and whole.max() == 1
    torch.testing.assert_close(network.predict(x, batch_size=2), whole)
    np.testing.assert_allclose(network.predict_array(x.numpy()), whole.numpy(), atol=1e-6)


@pytest.mark.parametrize("width", [p["base_width"] for p in PROFILES.values()])
def test_the_matched_family_is_equal_in_depth_and_parameters(width):
    made = {arm: from_name(f"{arm}-seed0") for arm in (*MATCHED, *OPERATORS, *UPSAMPLED)}
    networks = {arm: build_for(replace(s, base_width=width)) for arm, s in made.items()}
    reference = networks["matched0"].parameter_count
    for arm, network in networks.items():
        convolutions = (nn.Conv2d, nn.ConvTranspose2d)
        assert sum(isinstance(m, convolutions) for m in network.modules()) == 14
        excess = network.parameter_count / reference - 1
        if arm == "lossless":  # biases and normalisations of its sub-pixel convolutions
            weights = [
                sum(m.weight.numel() for m in n.modules() if isinstance(m, nn.Conv2d))
                for n in (network, networks["matched0"])
            ]
            assert weights[0] == weights[1]
            assert width < 16 or excess < 0.0105
        elif arm == "lossless-ungrouped":  # 64 channels at 1/8 of the side are too many for 8
            assert width < 16 or abs(excess) < 0.01
        else:
            assert abs(excess) < (0.01 if width >= 16 else 0.05), arm


def test_controls_hold_still_what_they_say():
    networks = {arm: build_for(from_name(f"{arm}-seed0")) for arm in MATCHED}
    seen = {arm: network.receptive_field for arm, network in networks.items()}
    assert [seen[f"matched{depth}"] for depth in DEPTHS] == [29, 49, 73, 89]
    assert (
        seen["dilated"] == seen["skip"] == seen["matched3"] and networks["dilated"].reduction == 1
    )
    assert seen["narrow"] == seen["matched0"] and networks["narrow"].reduction == 8
    for arm in ("lossless", "lossless-ungrouped"):
        narrowest = min(s.values(64) for s in networks[arm].stages[:-1])
        assert narrowest >= 64 * 64  # as many values as the picture has pixels
    groups = [m.groups for m in networks["lossless-ungrouped"].modules() if hasattr(m, "groups")]
    assert set(groups) == {1}
    # The bottleneck's area alone: from the whole side to an eighth of it.
    areas = [networks[arm] for arm in ("dilated", "area2", "area4", "matched3")]
    assert [network.bottleneck.reduction for network in areas] == [1, 2, 4, 8]
    assert {network.receptive_field for network in areas} == {89}
    assert len({network.parameter_count for network in areas}) == 1
    assert min(s.values(64) for s in networks["matched3"].stages[:-1]) < 64 * 64


@pytest.mark.parametrize(
    "arm",
    [
        *("matched0", "dilated", "area4", "lossless", "lossless-ungrouped", "pool2-strided"),
        *("pool2-blur", "matched2-average", "pool1-bilinear", "pool1-transposed"),
    ],
)
def test_receptive_fields_of_the_arms_are_where_the_gradient_reaches(arm):
    network = build_for(from_name(f"{arm}-seed0", profile="smoke")).eval()
    with torch.no_grad():
        for p in network.parameters():
            p.abs_()
    reached = gradient_map(network, np.random.default_rng(0).random((1, 1, 192, 192), np.float32))
    width = np.ptp(np.flatnonzero(reached.sum(1) > 0)) + 1
    slack = 0 if network.reduction == 1 else 2 * network.reduction
    assert abs(width - network.receptive_field) <= slack
    assert reached.max() == 1 and 0 < effective_receptive_field(reached) <= width


@pytest.mark.parametrize("depth", (1, 2, 3))
def test_halving_operators_change_the_operator_alone(depth):
    """What a pooling sees beside the pixels that it keeps: its window less one, at each level."""
    plain = build(depth, 4, family="matched")
    for pooling, window in {"max2": 2, "max5": 5, "average": 2, "blur": 4}.items():
        network = build(depth, 4, family="matched", pooling=pooling)
        wider = sum((window - 1) * 2**level for level in range(depth))
        assert network.receptive_field == plain.receptive_field + wider
        assert network.parameter_count == plain.parameter_count
        assert network.bottleneck.reduction == plain.bottleneck.reduction
        weights = zip(network.parameters(), plain.parameters(), strict=True)
        assert all(torch.equal(one, other) for one, other in weights)


def test_a_stride_is_a_convolution_of_which_pixels_are_dropped():
    x = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    strided, pooled = (build(1, 4, family="matched", pooling=p).eval() for p in ("", "max2"))
    pooled.layers[2] = nn.MaxPool2d(1, 2)  # the first of each four
    with torch.no_grad():
        torch.testing.assert_close(strided(x), pooled(x), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("family", ["published", "matched"])
def test_upsamplers_are_pytorchs_and_have_as_many_weights(family):
    x = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    nearest, bilinear, transposed = (
        build(3, 4, family=family, upsampler=u).eval()
        for u in ("nearest", "bilinear", "transposed")
    )
    counts = {network.parameter_count for network in (nearest, bilinear, transposed)}
    assert len(counts) == 1
    assert nearest.receptive_field < bilinear.receptive_field
    layers = [m for m in bilinear.layers if isinstance(m, nn.Upsample)]
    assert [m.mode for m in layers] == ["bilinear"] * 3
    with torch.no_grad():  # the weights are those of nearest: with its upsampling, so is the answer
        for layer in layers:
            layer.mode = "nearest"
        torch.testing.assert_close(bilinear(x), nearest(x), atol=1e-5, rtol=1e-4)
    doubling = [m for m in transposed.modules() if isinstance(m, nn.ConvTranspose2d)]
    assert len(doubling) == 3 and {m.stride for m in doubling} == {(2, 2)}
    assert transposed.macs(64) < nearest.macs(64)


def test_the_effective_receptive_field_of_a_known_map():
    gradients = np.zeros((9, 9))
    gradients[2:5, 3:6] = [[0.05, 0.5, 0.05], [0.5, 1, 0.5], [0.04, 0.5, 0.05]]
    assert effective_receptive_field(gradients) == pytest.approx(8**0.5)  # .04 is below .0455


def test_skips_add_the_map_of_their_own_resolution():
    network = build_for(from_name("skip-seed0", profile="smoke")).eval()
    kinds = [stage.kind for stage in network.stages]
    assert kinds.count("keep") == kinds.count("add") == 3
    open_ = []
    for stage in network.stages:
        if stage.kind == "keep":
            open_.append(stage.reduction)
        elif stage.kind == "add":
            assert stage.reduction == open_.pop()
    x = torch.rand(1, 1, 16, 16)
    kept = [m for m in network.layers if type(m).__name__ == "Add"]
    with torch.no_grad():
        whole = network(x)
        for module in kept:
            module.__class__ = nn.Identity
        assert not torch.allclose(network(x), whole)


def test_blur_pooling_by_hand():
    x = torch.zeros(1, 1, 8, 8)
    x[0, 0, 3, 3] = 1  # the maximum spreads it to rows and columns 2 and 3
    y = BlurPool()(x)[0, 0]
    # Row 1 of the output is centred on row 2: half of row 2 and a quarter of row 3.
    assert y.shape == (4, 4) and y[1, 1] == 0.75**2 and y[1, 2] == 0.75 * 0.25 and y[2, 2] == 1 / 16


def test_bad_sizes_and_poolings_are_named():
    with pytest.raises(ValueError, match=r"\(20, 16\).*multiples of 8"):
        build(3, 2)(torch.rand(1, 1, 20, 16))
    with pytest.raises(UserError, match="pooling is 'max3'"):
        build(1, 2, pooling="max3")


def test_published_ops_spell_out_the_table():
    def spelled(depth):
        return " ".join(f"{op.kind}{op.out_channels}" for op in published_ops(depth))

    assert spelled(0) == "conv64 conv128 deconv128 deconv64 output2"
    assert spelled(1) == (
        "conv64 conv128 pool128 conv128 conv256 deconv256 deconv128 up128 "
        "deconv128 deconv64 output2"
    )
    assert published_ops(0)[0] == Op("conv", 64)


def test_a_mirrored_prediction_is_the_mean_of_two():
    network = build(1, 4, seed=1, mirrored=True).eval()
    x = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        network.layers[-1].weight.mul_(20)  # so that something is clipped
        one, other = network(x), network(x.flip(-1)).flip(-1)
    assert (one < 0).any() and not torch.allclose(one, other)
    found = network.predict(x)
    torch.testing.assert_close(found, ((one + other) / 2).clamp(0, 1), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(network.predict(x.flip(-1)), found.flip(-1), atol=1e-5, rtol=1e-5)
