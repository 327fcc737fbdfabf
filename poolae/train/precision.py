"""Which precision and memory layout training takes on the machine at hand, and why."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch

from poolae.settings import Settings

__all__ = ["Choice", "choose", "resolve"]

# What cpuinfo calls the instructions that multiply bfloat16: x86's two, Arm's two.
NATIVE = {"amx_bf16": "AMX", "avx512_bf16": "AVX-512", "sve_bf16": "SVE", "bf16": "Arm's bf16"}


class Choice(NamedTuple):
    """A precision, "float32" or "bfloat16", the layout of the maps, and the reason."""

    precision: str
    layout: torch.memory_format
    why: str


def choose(place: torch.device, wanted: str = "auto") -> Choice:
    """Choose the precision that is fast on this device, unless one is wanted.

    bfloat16 where the device multiplies it, else float32: emulated, it takes ten times as long.
    The layout is channels last everywhere. In bfloat16 it has always been the faster. In float32
    on AVX2 (one thread of an AMD EPYC) it is so with the convolutions of `winograd`: at base
    width 16 and 64 px by 1.3 times or more at each depth against the contiguous layout with
    oneDNN's; at 64 and 128 px pool0 takes 4.0 to 4.9 s a step, the plain contiguous loop 6.8 s.

    Parameters
    ----------
    place
        Where the network is trained.
    wanted
        "float32", "bfloat16", or "auto".
    """
    native, why = _native_bfloat16(place)
    fits = "bfloat16" if native else "float32"
    if wanted not in ("auto", fits):
        return Choice(wanted, torch.channels_last, f"as PRECISION asks, though {why}")
    return Choice(fits, torch.channels_last, why)


def resolve(settings: Settings) -> Settings:
    """Return the settings with the precision that training takes here in place of "auto"."""
    from poolae.train.loop import device

    return replace(settings, precision=choose(device(), settings.precision).precision)


def onednn_multiplies_bfloat16() -> bool:
    """Tell whether oneDNN, which computes convolutions, takes bfloat16 as it is set up here."""
    return torch.ops.mkldnn._is_mkldnn_bf16_supported()


def _native_bfloat16(place: torch.device) -> tuple[bool, str]:
    if place.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return native, f"the GPU has {'' if native else 'no '}bfloat16"
    if place.type == "mps":
        native = torch.backends.mps.is_macos_or_newer(14, 0)
        return native, f"this is macOS {'14 or later' if native else 'before 14'}"
    if place.type != "cpu":
        return False, f"nothing is known of {place.type}"
    # x86's may be there and switched off, by ATEN_CPU_CAPABILITY or for oneDNN.
    there = torch.cpu.get_capabilities()
    found = [name for key, name in NATIVE.items() if there.get(key)]
    level = torch.backends.cpu.get_cpu_capability()
    if found and onednn_multiplies_bfloat16() and level != "AVX2":
        return True, f"the processor has bfloat16 ({found[0]})"
    return False, f"the processor has no bfloat16 in use ({level})"
