"""The machine at hand: its memory, its processor, its cores; and the checkout's commit."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil

from poolae.settings import UserError

CGROUP = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")  # where this process is below it
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def available_memory() -> int | None:
    """Return the bytes of memory that processes can still have, or None if no one tells.

    As the system estimates it, and no more than what is left of the limit of a container, or of
    a job of SLURM. Of what these hold, files that nobody has looked at lately can be given up.
    """
    try:
        free = psutil.virtual_memory().available
    except (OSError, RuntimeError):
        return None
    own = CGROUP
    with suppress(OSError):  # "0::/slurm/job_7", or "0::/" in most containers
        own /= OWN_CGROUP.read_text().rpartition("::")[2].strip().strip("/")
    for group in (own, *own.parents):
        with suppress(OSError, ValueError):  # "max" is no limit
            limit = int((group / "memory.max").read_text())
            used = int((group / "memory.current").read_text())
            lines = (group / "memory.stat").read_text().splitlines()
            spare = int(dict(line.split() for line in lines).get("inactive_file", 0))
            free = min(free, max(0, limit - used + spare))
    return free


def check_memory(needed: int, purpose: str) -> None:
    """Refuse what does not fit into memory before it starts.

    Parameters
    ----------
    needed
        Bytes.
    purpose
        What they are for, such as "Training pool0-seed0".

    Raises
    ------
    UserError
        If fewer are available; the sentence holds both numbers.
    """
    free = available_memory()
    if free is not None and free < needed:
        raise UserError(
            f"{purpose} needs about {needed / 2**20:,.0f} MiB of memory, and "
            f"{free / 2**20:,.0f} MiB are free: close other programs, set JOBS=1 or choose a "
            "smaller PROFILE."
        )


def git(folder: Path, *arguments: str) -> str:
    """Return what git says in a folder; "" where it fails or is not there."""
    options = dict(cwd=folder, stderr=subprocess.DEVNULL, text=True)
    try:
        return subprocess.check_output(["git", *arguments], **options).strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def commit() -> str:
    """Return the checkout's short commit, with "+" when files differ from it."""
    described = "describe", "--always", "--dirty=+", "--abbrev=10", "--exclude=*"
    return git(Path(__file__).parent, *described) or "unknown"


def processor() -> str:
    """Return the processor's name, as far as the system tells."""
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        named = [line.partition(":")[2] for line in lines if line.startswith("model name")]
        if named:
            return named[0].strip()
    if sys.platform == "darwin":  # where all that `platform` says is "arm"
        with suppress(OSError, subprocess.CalledProcessError):
            asked = ["sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.check_output(asked, text=True).strip()
    return platform.processor() or platform.machine()


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def own_cores() -> int:
    """Return how many cores, and so threads, are this process's share.

    SLURM says how many cores its task has; otherwise `JOBS` runs share those that there are. The
    processes that torchrun starts for one run share what the run has.
    """
    own, jobs = cores(), int(os.environ.get("JOBS") or 1)
    if task := os.environ.get("SLURM_CPUS_PER_TASK"):
        own, jobs = min(own, int(task)), 1
    return max(1, own // jobs // int(os.environ.get("LOCAL_WORLD_SIZE") or 1))


def settle_in() -> int:
    """Prepare this process for training: keep its memory, and use its share of the cores.

    glibc returns every large tensor to the system when it is freed and takes
    it back page by page in the next step; keeping it saves about a fifth of a
    step at full width (2 cores, 128 px, no pooling: 1.55 s against 1.22 s).

    Returns
    -------
    int
        The threads that this process will use.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library
            libc = ctypes.CDLL("libc.so.6")
            libc.mallopt(M_MMAP_MAX, 0)
            libc.mallopt(M_TRIM_THRESHOLD, -1)
    import torch

    torch.set_num_threads(threads := own_cores())
    return threads
