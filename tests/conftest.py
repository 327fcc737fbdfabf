"""Tests write to folders of their own, never to the checkout's results."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def build(tmp_path_factory):
    """Send caches and results elsewhere."""
    folder = tmp_path_factory.mktemp("build")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POOLAE_BUILD", str(folder))
        yield folder
