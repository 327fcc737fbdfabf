"""What the runs are held beside comes as its sources have it."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import skimage.data

from poolae.paper import facts

IN_SKIMAGE = {"astronaut": "astronaut", "cat": "chelsea", "coffee": "coffee", "rocket": "rocket"}


@pytest.mark.fault("an environment below a path with square brackets", "photographs are found")
def test_photographs_of_scikit_image_are_found_wherever_it_lies(tmp_path, monkeypatch):
    (data := tmp_path / "a [b] (c)" / "skimage" / "data").mkdir(parents=True)
    here = Path(skimage.data.__file__).parent
    for file in facts.PHOTOGRAPHS.values():
        shutil.copy(here / file, data)
    monkeypatch.setattr(
        facts, "find_spec", lambda _: SimpleNamespace(origin=str(data.parent / "__init__.py"))
    )
    for name, file in facts.PHOTOGRAPHS.items():
        expected = getattr(skimage.data, IN_SKIMAGE[name])()
        np.testing.assert_array_equal(np.asarray(facts.photograph(file)), expected)
