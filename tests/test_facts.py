"""What the runs are held beside comes as its sources have it."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import imageio.v3
import numpy as np
import pytest
import skimage

from poolae.paper import facts


@pytest.mark.fault("an environment below a path with square brackets", "photographs are found")
def test_photographs_of_scikit_image_are_found_wherever_it_lies(tmp_path, monkeypatch):
    (data := tmp_path / "a [b] (c)" / "skimage" / "data").mkdir(parents=True)
    here = Path(skimage.__file__).parent / "data"
    for file in facts.PHOTOGRAPHS.values():
        shutil.copy(here / file, data)
    monkeypatch.setattr(
        facts, "find_spec", lambda _: SimpleNamespace(origin=str(data.parent / "__init__.py"))
    )
    for file in facts.PHOTOGRAPHS.values():
        expected = imageio.v3.imread(here / file)
        np.testing.assert_array_equal(np.asarray(facts.photograph(file)), expected)
