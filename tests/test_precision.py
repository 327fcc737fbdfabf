"""Which precision training takes, on processors and GPUs that are not here."""

import pytest
import torch

from poolae import make_settings
from poolae.__main__ import main
from poolae.train import loop, precision, runs

CPU = torch.device("cpu")


@pytest.fixture
def processor(monkeypatch):
    """Pretend a processor: what cpuinfo finds, what oneDNN uses, what PyTorch dispatches to."""

    def pretend(*found, onednn=True, level="AVX512"):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(found, True))
        monkeypatch.setattr(precision, "onednn_multiplies_bfloat16", lambda: onednn)
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: level)

    return pretend


@pytest.mark.parametrize(
    ("found", "level", "chosen"),
    [
        (["avx2"], "AVX2", "float32"),
        (["avx2", "avx512_f"], "AVX512", "float32"),
        (["avx512_f", "avx512_bf16"], "AVX512", "bfloat16"),
        (["avx512_bf16", "amx_bf16"], "AVX512", "bfloat16"),
        (["avx512_bf16"], "AVX2", "float32"),  # switched off by ATEN_CPU_CAPABILITY
        (["neon", "bf16"], "SVE256", "bfloat16"),
        (["neon", "bf16"], "DEFAULT", "bfloat16"),
        (["neon"], "DEFAULT", "float32"),
    ],
)
def test_bfloat16_is_for_processors_that_multiply_it(processor, found, level, chosen):
    processor(*found, level=level)
    choice = precision.choose(CPU)
    assert choice.precision == chosen and choice.layout == torch.channels_last
    assert ("has no bfloat16" in choice.why) == (chosen == "float32")


def test_what_onednn_does_not_use_is_not_there(processor):
    processor("avx512_bf16", onednn=False)
    assert precision.choose(CPU).precision == "float32"


@pytest.mark.parametrize("wanted", ["float32", "bfloat16"])
def test_what_is_asked_for_is_taken(processor, wanted):
    processor("avx2", level="AVX2")
    choice = precision.choose(CPU, wanted)
    assert choice.precision == wanted
    assert ("as PRECISION asks" in choice.why) == (wanted == "bfloat16")


@pytest.mark.parametrize("native", [True, False])
def test_accelerators_are_asked_themselves(monkeypatch, native):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native)
    monkeypatch.setattr(torch.backends.mps, "is_macos_or_newer", lambda *version: native)
    for kind in ("cuda", "mps"):
        chosen = precision.choose(torch.device(kind)).precision
        assert chosen == ("bfloat16" if native else "float32")
    assert precision.choose(torch.device("xpu")).precision == "float32"


def test_the_resolved_precision_is_the_runs(tmp_path, monkeypatch):
    tiny = dict(profile="smoke", size=16, steps=4, base_width=2, images=12)
    monkeypatch.setattr(precision, "choose", lambda *_: precision.Choice("bfloat16", None, ""))
    first = runs.train(make_settings(0, **tiny), tmp_path)
    assert first.about["settings"]["precision"] == "bfloat16"
    assert "bfloat16" in first._repr_html_()
    losses = first.losses["loss"].tolist()
    # "auto" takes what is there; another precision is another run.
    monkeypatch.setattr(precision, "choose", lambda *_: precision.Choice("float32", None, ""))
    again = runs.train(make_settings(0, **tiny), tmp_path)
    assert again.about["fingerprint"] == first.about["fingerprint"]
    other = runs.train(make_settings(0, precision="float32", **tiny), tmp_path)
    assert other.about["fingerprint"] != first.about["fingerprint"]
    assert other.losses["loss"].tolist() != losses


def test_an_unknown_precision_is_named(capsys):
    assert main(["train", "pool1-seed0", "--precision", "float16"]) == 2
    assert "precision is 'float16': choose auto, float32 or bfloat16" in capsys.readouterr().err


@pytest.mark.fault("PyTorch built for CUDA on a machine without a GPU", "the CPU trains")
def test_an_accelerator_that_is_not_there_is_not_taken(monkeypatch):
    def compiled_for(check_available=False):
        return None if check_available else torch.device("cuda")

    monkeypatch.setattr(torch.accelerator, "current_accelerator", compiled_for)
    assert loop.device() == torch.device("cpu")
