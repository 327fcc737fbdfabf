"""Do two checkouts train the same networks, to the last digit?

    python tests/same_code.py OTHER_CHECKOUT [RUN ...]

Every kind of network takes five steps by the code of each. Who moves lines of the code that decides
a run, without changing what it computes, adds its new digest to `files.EQUAL` when this says
that all are equal, so that the record goes on.
"""

import contextlib
import hashlib
import io
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from itertools import product
from pathlib import Path

ROOT = Path(__file__).parents[1]
SMALL = {"steps": 5, "size": 32, "batch_size": 8}
VARIED = ({}, {"crops": 0.5}, {"early": True})
OTHERS = ("pool1-published", "pool1-cleared", "pool3-c4")


def print_digests(names: list[str]) -> None:
    """Train by the code that Python finds; print a digest of the weights and history of each."""
    import numpy as np
    import torch

    from poolae.settings import CONTROLS, DEPTHS, POOLINGS, UPSAMPLERS, from_name
    from poolae.train import loop

    torch.set_num_threads(1)
    images = np.random.default_rng(0).random((20, 3, 32, 32), dtype=np.float32)
    lightness, chroma = images[:, :1], images[:, 1:]
    arms = [f"{family}{depth}" for family in ("pool", "matched") for depth in DEPTHS]
    arms += [*CONTROLS, *OTHERS, *(f"matched2-{kind}" for kind in (*POOLINGS, *UPSAMPLERS))]
    names = names or [f"{arm}-seed1" for arm in arms]
    for name, precision, more in product(names, ("float32", "bfloat16"), VARIED):
        settings = from_name(name, profile="smoke", precision=precision)
        settings = replace(settings, **SMALL, **more)
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            path = Path(folder) / "checkpoint.pt"
            validation = lightness[:4], chroma[:4]
            network, history = loop.fit(
                settings, lightness, chroma, lightness[0], path, validation=validation
            )
        weights = [weight.contiguous().numpy() for weight in network.state_dict().values()]
        seen = [history[key] for key in sorted(history.keys() - {"seconds"})]
        digest = hashlib.sha256(b"".join(array.tobytes() for array in (*weights, *seen)))
        print(name, precision, *more, digest.hexdigest(), flush=True)


def main(other: str, *names: str) -> int:
    """Compare this checkout with another; return 1 if anything differs."""
    found = []
    for checkout in (ROOT, Path(other).resolve()):
        environment = {**os.environ, "PYTHONPATH": str(checkout)}
        command = [sys.executable, __file__, "--print", *names]
        done = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, text=True, check=True
        )
        lines = (line.rpartition(" ") for line in done.stdout.splitlines())
        found.append({training: digest for training, _, digest in lines})
    here, there = found
    differing = [training for training in there if here.get(training) != there[training]]
    for training in differing:
        print(f"differs: {training}")
    equal = len(there) - len(differing)
    print(f"{equal} of {len(there)} trainings are equal to the last digit.")
    return bool(differing)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--print"]:
        print_digests(sys.argv[2:])
    else:
        sys.exit(main(*sys.argv[1:]))
