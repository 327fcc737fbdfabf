"""Tests write to folders of their own, never to the checkout's results."""

import pytest
from pictures import fill


@pytest.fixture(scope="session", autouse=True)
def build(tmp_path_factory):
    """Send caches and results elsewhere."""
    folder = tmp_path_factory.mktemp("build")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POOLAE_BUILD", str(folder))
        yield folder


@pytest.fixture
def folder(tmp_path):
    """Six photographs."""
    return fill(tmp_path / "photographs", [f"{k}.jpg" for k in range(6)])


@pytest.fixture
def cache(tmp_path):
    """Where decoded images go, still absent."""
    return tmp_path / "cache"
