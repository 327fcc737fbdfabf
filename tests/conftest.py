"""Tests write to folders of their own, never to the checkout's results."""

import csv
import os
from pathlib import Path

import pytest
from hypothesis import settings
from pictures import fill

import poolae.paper.page  # noqa: F401 - before nbformat, which would compile a grammar

# PyTorch's threads, which wait by spinning: a process of tests needs one.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The examples of a property are the same in every run: --hypothesis-profile=default draws others.
settings.register_profile("repeated", derandomize=True)
settings.load_profile("repeated")


def pytest_addoption(parser):
    parser.addoption(
        "--faults",
        type=Path,
        metavar="FILE",
        help="write the faults that the tests tried, and their outcomes, as CSV (-m fault)",
    )


def pytest_configure(config):
    config.addinivalue_line("markers", "fault(fault, outcome): what is done to it, what it does")
    if path := config.getoption("faults"):
        config.pluginmanager.register(FaultTable(path))


def pytest_collection_modifyitems(items):
    """Begin with the files that take long, so that no process is left alone with one at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


class FaultTable:
    """Gathers the `fault` markers of tests that passed, in the order in which they ran."""

    def __init__(self, path):
        self.path, self.passed = path, {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item, call):
        report = yield
        if call.when == "call":
            for marker in item.iter_markers("fault"):
                self.passed.setdefault(marker.args, []).append(report.passed)
        return report

    def pytest_sessionfinish(self):
        rows = [fault for fault, passed in self.passed.items() if all(passed)]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([("fault", "outcome"), *rows])


@pytest.fixture(scope="session", autouse=True)
def build(tmp_path_factory):
    """Send caches and results elsewhere."""
    folder = tmp_path_factory.mktemp("build")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POOLAE_BUILD", str(folder))
        patch.setenv("JOBS", str(os.cpu_count()))  # a thread for each training
        yield folder


@pytest.fixture
def folder(tmp_path):
    """Six photographs."""
    return fill(tmp_path / "photographs", [f"{k}.jpg" for k in range(6)])


@pytest.fixture
def cache(tmp_path):
    """Where decoded images go, still absent."""
    return tmp_path / "cache"
