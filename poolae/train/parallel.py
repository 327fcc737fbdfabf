"""One network, trained by several processes at once: data parallelism under torchrun.

Each process computes its share of every batch, and what depends on the whole batch is summed
over all of them: the loss, the statistics of batch normalisation, the gradients. So the weights
are those that one process gets from the same batches, up to the rounding of sums, and they are
the same in all processes. A process that is alone is spared all of it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.nn.functional import all_reduce

from poolae.settings import UserError

__all__ = ["adapt", "agree", "average_gradients", "first_ahead", "is_first", "mean"]
__all__ += ["processes", "share", "together"]

# What one process may keep the others waiting: decoding, evaluation. Torchrun ends the others
# of a process that has died, so that nobody waits for it.
PATIENCE = timedelta(days=2)


def processes() -> int:
    """Return how many processes train the network, 1 outside of `together`."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def is_first() -> bool:
    """Tell whether this is the process that speaks, writes and evaluates."""
    return processes() == 1 or dist.get_rank() == 0


@contextmanager
def together() -> Iterator[None]:
    """Be one of the processes that torchrun has started, if it has, until all end the block.

    The first that fails says why. The others then end without a word, for all that they have to
    say is that it is gone.

    Raises
    ------
    UserError
        If the processes cannot reach one another, or one of them was killed.
    """
    if int(os.environ.get("WORLD_SIZE") or 1) == 1:
        yield
        return
    store = _join()
    # So torchrun ends the others of a process that has died.
    signal.signal(signal.SIGTERM, _end)
    try:
        yield
        dist.barrier()
    except BaseException as error:
        # Torchrun ends the others of one that has died; who already speaks is not cut short.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if not _is_first_to_fail(store):
            raise SystemExit(1) from None
        if isinstance(error, dist.DistError) or "gloo" in str(error):
            raise UserError(
                "Another process of this training has ended or cannot be reached: the same "
                "command goes on from the last checkpoint."
            ) from error
        raise
    finally:
        dist.destroy_process_group()


def _end(*_) -> None:
    raise dist.DistError("SIGTERM")


def _join() -> dist.Store:
    place = None
    if torch.cuda.is_available():
        local, found = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
        if local >= found:
            raise UserError(f"--nproc-per-node is more than the {found} GPUs here: give {found}.")
        place = torch.device("cuda", local)
        torch.cuda.set_device(place)
    try:
        store, rank, size = next(dist.rendezvous("env://", timeout=PATIENCE))
        dist.init_process_group(
            "nccl" if place else "gloo",
            store=store,
            rank=rank,
            world_size=size,
            timeout=PATIENCE,
            device_id=place,
        )
    except (ValueError, RuntimeError) as error:
        raise UserError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']}, but the processes cannot be joined "
            f"({str(error).splitlines()[0]}): start them with torchrun, or unset WORLD_SIZE."
        ) from error
    return store


def _is_first_to_fail(store: dist.Store) -> bool:
    try:
        return store.add("poolae/failed", 1) == 1
    except RuntimeError:  # torchrun is gone, and with it all the others
        return is_first()


@contextmanager
def first_ahead() -> Iterator[None]:
    """Let the first process through the block before the others, which find what it left."""
    if processes() == 1:
        yield
        return
    if not is_first():
        dist.barrier()
    yield
    if is_first():
        dist.barrier()


def agree(what: str, value) -> None:
    """Raise a `UserError` that names `what`, unless all processes have the same `value`."""
    if processes() == 1:
        return
    values = [None] * processes()
    dist.all_gather_object(values, value)
    if any(other != values[0] for other in values):
        raise UserError(
            f"The processes of this training do not find the same {what}: give all of them the "
            "same checkout, data and results, on a file system that their machines share."
        )


def share(batch):
    """Return the consecutive part of a batch that is this process's own; it may be empty."""
    n = processes()
    if n == 1:
        return batch
    start, stop = (len(batch) * k // n for k in (dist.get_rank(), dist.get_rank() + 1))
    return batch[start:stop]


def mean(values: torch.Tensor) -> torch.Tensor:
    """Return the mean over the values of all processes, which may have unequally many.

    `all_reduce` adds up over the processes backwards too: each has the gradient of the sum of
    all losses, which are equal. `average_gradients` divides by their number again.
    """
    if processes() == 1:
        return values.mean()
    count = values.new_tensor(values.numel())
    total, count = all_reduce(torch.stack([values.sum(), count]))
    return total / count


def average_gradients(network: nn.Module) -> None:
    """Give every parameter the mean over the processes of its gradients."""
    if processes() == 1:
        return
    gradients = [p.grad for p in network.parameters()]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    parts = (flat / processes()).split([gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view(gradient.shape))


class GlobalBatchNorm(nn.BatchNorm2d):
    """Batch normalisation by the statistics of all processes' images.

    PyTorch's own, `SyncBatchNorm`, is for GPUs only.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return super().forward(x)
        # bfloat16 is too coarse for sums.
        values = x.to(torch.promote_types(x.dtype, torch.float32))  # (N, C, H, W); N may be 0
        count = values.new_tensor([values.numel() / values.shape[1]])
        total = all_reduce(torch.cat([values.sum((0, 2, 3)), count]))
        average, count = total[:-1] / total[-1], total[-1].detach()
        centred = values - average[:, None, None]
        variance = all_reduce(centred.square().sum((0, 2, 3))) / count
        with torch.no_grad():
            self.num_batches_tracked += 1
            rate = self.momentum or 1 / self.num_batches_tracked.item()  # None: a plain average
            self.running_mean.lerp_(average, rate)
            self.running_var.lerp_(variance * count / (count - 1), rate)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)


class OneAtLeast(nn.Module):
    """Of no images PyTorch's pixel shuffles get the shape wrong: give them one, and drop it."""

    def __init__(self, shuffle: nn.Module) -> None:
        super().__init__()
        self.shuffle = shuffle

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if len(x):
            return self.shuffle(x)
        return self.shuffle(torch.cat([x, x.new_zeros(1, *x.shape[1:])]))[:0]


def adapt(network: nn.Module) -> None:
    """Let the network train on shares: by the statistics of all images, and on none at all."""
    if processes() == 1:
        return
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                norm = GlobalBatchNorm(child.num_features, child.eps, child.momentum)
                norm.load_state_dict(child.state_dict())
                setattr(parent, name, norm)
            elif isinstance(child, (nn.PixelShuffle, nn.PixelUnshuffle)):
                setattr(parent, name, OneAtLeast(child))
