"""What this machine and this checkout are: memory, processor, commit."""

from __future__ import annotations

import platform
import subprocess
from contextlib import suppress
from pathlib import Path

from poolae.settings import UserError


def available_memory() -> int | None:
    """Return the bytes of memory that processes can still have, or None if no one tells.

    As the kernel estimates it, within the limit of a container.
    """
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        fields = dict(line.split(":", 1) for line in lines)
        free = int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, LookupError, ValueError):
        return None
    with suppress(OSError, ValueError):  # "max" is no limit
        free = min(free, int(Path("/sys/fs/cgroup/memory.max").read_text()))
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


def commit() -> str:
    """Return the checkout's short commit, with "+" when files differ from it."""
    try:
        return subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--abbrev=10", "--exclude=*"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def processor() -> str:
    """Return the processor's name, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(s.split(":")[1].strip() for s in lines if s.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def processor_model() -> str:
    """Return what tells processors of one name apart, as "family-model", where the system tells.

    A virtual machine's "AMD EPYC" may be any of four generations, whose sums differ.
    """
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "unknown"
    fields = dict(map(str.strip, line.split(":", 1)) for line in lines if ":" in line)
    return "-".join(fields.get(key, "unknown") for key in ("cpu family", "model"))
