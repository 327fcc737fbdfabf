"""Convolutions for training in float32 on a CPU: fewer operations than oneDNN takes.

oneDNN's convolutions of channels-last maps run at the processor's peak, but for the gradient of
the weights, which reaches a half of it on small maps and a fifth on large ones (AMD EPYC with AVX2,
one thread, 64 to 128 channels: 42 to 17 of 80 GFLOP/s). Here that gradient is a few large matrix
products, and a 3 x 3 convolution is computed on transformed rows, which halves its operations.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

__all__ = ["Phases", "Rows", "takes"]

# Winograd's F(4, 3), along the rows only: 6 products make 4 outputs of a kernel of 3, for which 12
# are needed otherwise. Matrices of Lavin and Gray 2016 (1509.09308), section 4.4.
FROM_INPUT = torch.tensor(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    dtype=torch.float32,
)
FROM_KERNEL = torch.tensor(
    [[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]], dtype=torch.float32
) / torch.tensor(24.0)
TO_OUTPUT = torch.tensor(
    [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]],
    dtype=torch.float32,
)
TILE, PRODUCTS = TO_OUTPUT.shape
CONSTANT = 1  # the product whose share of all four outputs is 1: the bias goes into it alone
WIDE = 64  # channels from which transformed rows pay for the memory that they pass through


def takes(x: torch.Tensor, weight: torch.Tensor) -> bool:
    """Tell whether these convolutions are for such a map and kernel: else use PyTorch's.

    They are for training in float32 on a CPU, for 16 channels or more on either side, and for
    heights that are multiples of 4.
    """
    return (
        x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and min(weight.shape[:2]) >= 16
        and x.shape[-2] % TILE == 0
        and len(x) > 0
    )


class Rows(torch.autograd.Function):
    """The 3 x 3 convolution as six convolutions 1 x 3 of transformed rows.

    `Rows.apply` is given x (N, I, H, W), weight (O, I, 3, 3) and bias, for a padding of 1; see
    `takes`. What it returns, (N, O, H, W) in channels last, equals `conv2d` up to about 1e-6 of
    its greatest value. Below `WIDE` channels only the gradient of the weights is computed so.

    A map lies in memory as (rows, columns, channels). Transformed, each row has a column of zeros
    at its end, which pads it and the next: so one matrix product over all rows, shifted by a
    column, gives the gradient of a column of the kernel.
    """

    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.narrow = min(weight.shape[:2]) < WIDE
        if ctx.narrow:
            ctx.save_for_backward(x, weight)
            return F.conv2d(x, weight, bias, padding=1)
        n, channels, height, width = x.shape
        tiles = _tiles(x)
        kernels = _kernels(weight)
        biases = [bias if i == CONSTANT else None for i in range(PRODUCTS)]
        each = zip(tiles, kernels, biases, strict=True)
        products = [F.conv2d(_maps(t), k, b, padding=(0, 1)) for t, k, b in each]
        products = torch.stack([p.permute(0, 2, 3, 1) for p in products])  # (6, N, H/4, W + 1, O)
        y = torch.empty((n, len(weight), height, width), memory_format=torch.channels_last)
        _combine(TO_OUTPUT, products[..., :width, :], y.permute(0, 2, 3, 1))
        ctx.save_for_backward(tiles, weight)
        return y

    @staticmethod
    def backward(ctx, gradient):
        saved, weight = ctx.saved_tensors
        tiles = _tiles(saved) if ctx.narrow else saved
        n, quarter, width, channels = (*tiles.shape[1:3], tiles.shape[3] - 1, tiles.shape[4])
        rows = gradient.permute(0, 2, 3, 1).contiguous()  # (N, H, W, O)
        products = rows.new_empty(PRODUCTS, n, quarter, width + 1, rows.shape[3])
        products[..., width, :] = 0
        fours = rows.view(-1, TILE, width * rows.shape[3])
        out = products[..., :width, :].flatten(3).flatten(1, 2).transpose(0, 1)
        torch.bmm(TO_OUTPUT.t().expand(len(fours), -1, -1), fours, out=out)
        for_kernels = rows.new_empty(PRODUCTS, len(weight), 3, channels)
        for p, t, g in zip(products.flatten(1, 3), tiles.flatten(1, 3), for_kernels, strict=True):
            torch.mm(p[1:].t(), t[:-1], out=g[:, 0])
            torch.mm(p.t(), t, out=g[:, 1])
            torch.mm(p[:-1].t(), t[1:], out=g[:, 2])
        by_kernel = FROM_KERNEL.t().expand(len(weight), -1, -1)
        for_weight = torch.bmm(by_kernel, for_kernels.flatten(2).transpose(0, 1))
        for_weight = for_weight.unflatten(2, (3, channels)).permute(0, 3, 1, 2)
        for_bias = products[CONSTANT].sum((0, 1, 2)) if ctx.needs_input_grad[2] else None
        if not ctx.needs_input_grad[0]:
            return None, for_weight, for_bias
        if ctx.narrow:
            return _input_gradient(gradient, saved, weight, (1, 1)), for_weight, for_bias
        for_tiles = torch.stack(
            [
                _input_gradient(_maps(p), _maps(t), k, (0, 1)).permute(0, 2, 3, 1)
                for p, t, k in zip(products, tiles, _kernels(weight), strict=True)
            ]
        )[..., :width, :]
        x = rows.new_empty(n, quarter * TILE, width, channels)
        # A tile sees a row before and one after its own four, which belong to its neighbours.
        _combine(FROM_INPUT.t()[1:-1], for_tiles, x)
        inner = x.unflatten(1, (quarter, TILE))
        inner[:, :-1, -1] += FROM_INPUT[0, 0] * for_tiles[0, :, 1:]
        inner[:, 1:, 0] += FROM_INPUT[-1, -1] * for_tiles[-1, :, :-1]
        return x.permute(0, 3, 1, 2), for_weight, for_bias


def _tiles(x: torch.Tensor) -> torch.Tensor:
    """Transform rows 4 t - 1 to 4 t + 4 of (N, I, H, W), for each tile t: (6, N, H/4, W + 1, I)."""
    n, channels, height, width = x.shape
    rows = x.permute(0, 2, 3, 1).contiguous().flatten(2)  # (N, H, W I)
    tiles = rows.new_empty(PRODUCTS, n, height // TILE, width + 1, channels)
    tiles[..., width, :] = 0
    out = tiles[..., :width, :].flatten(3)
    for t in range(height // TILE):
        first, last = max(0, TILE * t - 1), min(height, TILE * t + TILE + 1)
        there = FROM_INPUT[:, first - (TILE * t - 1) :][:, : last - first]  # beyond the border: 0
        torch.bmm(there.expand(n, -1, -1), rows[:, first:last], out=out[:, :, t].transpose(0, 1))
    return tiles


def _maps(rows: torch.Tensor) -> torch.Tensor:
    return rows.permute(0, 3, 1, 2)


def _kernels(weight: torch.Tensor) -> torch.Tensor:
    """Transform the columns of (O, I, 3, 3): (6, O, I, 1, 3), each channels last."""
    o, i = weight.shape[:2]
    kernels = weight.new_empty(PRODUCTS, o, 3 * i)
    columns = weight.permute(0, 2, 3, 1).contiguous().flatten(2)  # (O, 3, 3 I)
    torch.bmm(FROM_KERNEL.expand(o, -1, -1), columns, out=kernels.transpose(0, 1))
    return kernels.view(PRODUCTS, o, 1, 3, i).permute(0, 1, 4, 2, 3)


def _combine(matrix: torch.Tensor, parts: torch.Tensor, out: torch.Tensor) -> None:
    """Give each four rows of `out` (N, 4 T, W, C) `matrix` (4, 6) times `parts` (6, N, T, W, C)."""
    tiles = out.view(-1, TILE, out.shape[2] * out.shape[3])
    parts = parts.flatten(3).flatten(1, 2).transpose(0, 1)
    torch.bmm(matrix.expand(len(tiles), -1, -1), parts, out=tiles)


def _input_gradient(gradient, x, weight, padding) -> torch.Tensor:
    return torch.ops.aten.convolution_backward(
        gradient, x, weight, None, (1, 1), padding, (1, 1), False, (0, 0), 1, (True, False, False)
    )[0]


class Phases(torch.autograd.Function):
    """A convolution 2 x 2 whose weight gradient is four matrix products.

    `Phases.apply` is given x (N, I, H, W), weight (O, I, 2, 2) and bias, for a padding of 1, and
    returns (N, O, H + 1, W + 1), channels last. The map is laid out with a row of zeros before
    each image and a column of zeros after each row, so that a tap of the kernel is a shift of
    the whole.
    """

    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight, bias, padding=1)

    @staticmethod
    def backward(ctx, gradient):
        x, weight = ctx.saved_tensors
        n, channels, height, width = x.shape
        rows = gradient.permute(0, 2, 3, 1).contiguous().flatten(0, 2)  # (N (H+1) (W+1), O)
        length = width + 1
        padded = rows.new_empty(len(rows) + length + 2, channels)
        padded[0], padded[1 + len(rows) :] = 0, 0
        inner = padded[1 : 1 + len(rows)].view(n, height + 1, length, channels)
        inner[:, 0], inner[:, 1:, width] = 0, 0
        inner[:, 1:, :width] = x.permute(0, 2, 3, 1)
        for_weight = rows.new_empty(rows.shape[1], 2, 2, channels)
        for row in (0, 1):
            for column in (0, 1):
                shifted = padded[row * length + column :][: len(rows)]
                torch.mm(rows.t(), shifted, out=for_weight[:, row, column])
        for_x = None
        if ctx.needs_input_grad[0]:
            for_x = _input_gradient(gradient, x, weight, (1, 1))
        return for_x, for_weight.permute(0, 3, 1, 2), rows.sum(0)
