"""JupyterLab as `make lab` starts it: notebooks are run by hand, and the explorer answers."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import unquote

import pytest
from browsing import CHROMIUM, chromium  # noqa: F401 - chromium is a fixture

from poolae.paper import facts

ROOT = Path(__file__).parents[1]
# Of what runs around this test.
HIDDEN = ("MAKE", "MFLAGS", "JUPYTER", "POOLAE", "IPYTHON", "CONDA_PREFIX")
TOKEN = "none-of-yours"
PATIENCE = 120  # seconds for what takes a few where nothing else runs

# Idle, every cell was asked for, and none of them waits or runs.
FINISHED = """() => {
    const status = document.querySelector(".jp-Notebook-ExecutionIndicator").dataset.status;
    const prompts = [...document.querySelectorAll(".jp-CodeCell .jp-InputPrompt")];
    const texts = prompts.map(prompt => prompt.textContent);
    return status === "idle" && texts.some(text => /\\d/.test(text))
        && !texts.some(text => text.includes("*"));
}"""

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"{CHROMIUM} is not installed"),
    pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed"),
]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Start JupyterLab on a copy of the notebooks, without a user's settings; yield its address."""
    folder = tmp_path_factory.mktemp("lab [x] (1)")
    ignored = shutil.ignore_patterns(".ipynb_checkpoints")
    shutil.copytree(ROOT / "notebooks", folder / "notebooks", ignore=ignored)
    shutil.copy(ROOT / "Makefile", folder)
    (folder / ".venv").symlink_to(sys.prefix)
    samples = folder / "notebooks" / "04_samples.ipynb"
    text = samples.read_text()
    assert text.count("depths = [0, 1, 2, 3]") == 1
    # What 02_train trains, and another to compare with.
    samples.write_text(text.replace("depths = [0, 1, 2, 3]", "depths = [1, 3]"))
    environment = {k: v for k, v in os.environ.items() if not k.startswith(HIDDEN)}
    environment["POOLAE_BUILD"] = str(folder / "build")
    for name in ("CONFIG", "DATA", "RUNTIME"):
        environment[f"JUPYTER_{name}_DIR"] = str(folder / "home" / name.lower())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = f"--no-browser --port={port} --ServerApp.port_retries=0"
    flags += f" --IdentityProvider.token={TOKEN}"
    made = ["make", "lab", "-o", ".venv/.poolae-ready", "JOBS=2", f"LABFLAGS={flags}"]
    log = folder / "server.log"
    with log.open("w") as said:
        server = subprocess.Popen(
            made,
            cwd=folder,
            env=environment | {"HOME": str(folder / "home")},
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for_server(server, f"{address}/api/status?token={TOKEN}", log)
        yield address
    finally:
        os.killpg(server.pid, signal.SIGTERM)  # it ends its kernels too
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def wait_for_server(server, address, log):
    until = time.monotonic() + PATIENCE
    while True:
        assert server.poll() is None and time.monotonic() < until, log.read_text()
        try:
            with urllib.request.urlopen(address):
                return
        except urllib.error.URLError:
            time.sleep(0.2)


@pytest.fixture
def run_all(lab, chromium):  # noqa: F811
    """Open a notebook and run all of its cells from the menu, as a person does."""
    tab = chromium.new_page(viewport={"width": 1440, "height": 1000})
    tab.set_default_timeout(1000 * PATIENCE)

    def run(name):
        tab.goto(f"{lab}/lab/tree/{name}.ipynb?reset&token={TOKEN}")
        tab.get_by_role("button", name="Python 3 (ipykernel)", exact=True).wait_for()
        tab.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").wait_for()
        assert tab.locator(".jp-Dialog").count() == 0
        for item in ("Run", "Run All Cells"):
            tab.get_by_role("menuitem", name=item, exact=True).click()
        tab.wait_for_function(FINISHED)
        assert tab.locator("[data-mime-type='application/vnd.jupyter.error']").count() == 0
        cells = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text())["cells"]
        count = sum(cell["cell_type"] == "code" for cell in cells)
        prompts = tab.locator(".jp-CodeCell .jp-InputPrompt").all_text_contents()
        assert prompts == [f"[{k + 1}]:" for k in range(count)]
        return tab

    yield run
    tab.close()


def test_training_is_watched(run_all):
    tab = run_all("02_train")
    drawn = tab.locator(".jp-CodeCell", has_text="live_progress").locator(".jp-RenderedSVG img")
    svg = unquote(drawn.get_attribute("src"))
    assert svg.count("<image") == 4  # the truth and three samples


@pytest.mark.fault(
    "a picture of 12 MB in a JupyterLab that make lab did not start", "said above the explorer"
)
@pytest.mark.fault("JupyterLab below a path with square brackets", "the explorer is there")
def test_the_explorer_answers_to_every_control(run_all, tmp_path):
    tab = run_all("04_samples")
    beside = tab.locator(".jp-MarkdownCell", has_text="of more than 10 MB does not arrive")
    assert "make lab" in beside.text_content()
    explorers = tab.locator(".jp-OutputArea-output .widget-vbox")
    explorers.nth(1).wait_for(state="attached")  # the page draws after the kernel has ended
    of_record, widget = explorers.all()
    assert of_record.locator(".widget-html").last.text_content().strip().startswith("astronaut: ")
    arms = of_record.locator(".widget-dropdown", has_text="depth").locator("option")
    assert arms.all_text_contents() == ["pool0", "pool1", "pool2", "pool3", "skip"]
    pictures, caption = widget.locator("img"), widget.locator(".widget-html").last

    def shown():
        """Bytes by title, and the caption."""
        sources = pictures.evaluate_all("found => found.map(one => [one.alt, one.src])")
        return dict(sources), caption.text_content().strip()

    def changed(act, *arguments):
        """What is shown after something was done, as soon as it differs and stays."""
        before, now = shown(), None
        act(*arguments)
        until = time.monotonic() + PATIENCE
        while now in (None, before) or now != shown():
            assert time.monotonic() < until, f"nothing changes: {before[1]}"
            time.sleep(0.2)
            now = shown()
        return now

    def slider(label):
        return widget.locator(".widget-slider", has_text=label).get_by_role("slider")

    def choose_file(path):
        with tab.expect_file_chooser() as chooser:
            widget.locator("button", has_text="your own").click()
        chooser.value.set_files(path)

    def numbers(text):
        return re.search(r"mean absolute error (0\.\d{4}), accuracy (\d+\.\d) %", text).groups()

    first, said = shown()
    titles = ["truth", "a, truth", "b, truth", "prediction", "a, prediction", "b, prediction"]
    assert [title for title in first if not title.startswith(("error", "within"))] == titles
    assert len(first) == 8 and len(set(first.values())) == 8
    assert "within 0.050 " in said

    wider, said_wider = changed(slider("bound").press, "End")
    assert wider["prediction"] == first["prediction"]
    assert wider["within 0.100 (white: both)"] not in first.values()
    assert numbers(said_wider)[0] == numbers(said)[0]
    assert float(numbers(said_wider)[1]) > float(numbers(said)[1])

    deeper, said_deeper = changed(
        widget.locator(".widget-dropdown", has_text="depth").locator("select").select_option,
        "pool3",
    )
    assert deeper["truth"] == first["truth"] and deeper["prediction"] != first["prediction"]
    assert numbers(said_deeper)[0] != numbers(said)[0]

    second, said_second = changed(slider("image").press, "ArrowRight")
    assert second["truth"] != first["truth"] and second["prediction"] != deeper["prediction"]
    assert said_second.partition(":")[0] != said.partition(":")[0]

    large = facts.photograph("astronaut.png").resize((2048, 2048))
    large.save(tmp_path / "astronaut.bmp")  # 12 MiB: more than JupyterLab takes by itself
    own, said_own = changed(choose_file, tmp_path / "astronaut.bmp")
    assert said_own.startswith("astronaut.bmp: ")
    assert len(own) == 8 and not set(own.values()) & set(second.values())

    (tmp_path / "notes.png").write_text("no image")
    none, sentence = changed(choose_file, tmp_path / "notes.png")
    assert not none
    assert re.fullmatch(r"notes\.png cannot be shown \(not a JPEG, .*\): .*\.", sentence)

    third, said_third = changed(slider("image").press, "ArrowLeft")
    assert third == deeper and said_third == said_deeper
