"""The page's tools: what is exported, and what Chromium makes of it, held against PyTorch."""

import base64
import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from browsing import chromium  # noqa: F401 - a fixture
from PIL import Image
from torch.nn import functional as F

from poolae import metrics
from poolae.data import Part
from poolae.data.colour import lab01_to_rgb, rgb_to_lab01
from poolae.files import build_folder
from poolae.models import build_for
from poolae.paper import facts
from poolae.paper.page import tools as page_tools
from poolae.paper.page.export import render
from poolae.settings import UserError, make_settings
from poolae.train.runs import Run, seal

# Found before the tests are given a build folder of their own.
REPORT = build_folder() / "synthetic-quick" / "report.html"
PACKAGE = Path(page_tools.__file__).parent
MADE_WITH = [PACKAGE / "number.py", PACKAGE / "export.py", *(PACKAGE / "template").iterdir()]
SAMPLE_SIDE = 8
HEAD = {"title": "A title", "authors": ["A. Author"], "provenance": {}}


def make_run(folder, profile="smoke", change=None, **options):
    """A run whose network is not trained, but answers to what it sees and has scales below 0."""
    from safetensors.torch import save_file

    settings = make_settings(profile=profile, **options)
    network = build_for(settings).train()
    size = (settings.size, settings.size)
    photographs = map(facts.photograph, facts.PHOTOGRAPHS.values())
    pixels = [np.asarray(photograph.resize(size)) for photograph in photographs]
    lightness = torch.from_numpy(rgb_to_lab01(np.stack(pixels))[0])
    generator = torch.Generator().manual_seed(settings.pool_depth)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 1  # take the statistics of the photographs
                module.weight.normal_(0.7, 0.5, generator=generator)
                module.bias.normal_(0, 0.2, generator=generator)
        network(lightness)
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_var *= 2  # calmer: deep random networks magnify any rounding
        # Outputs like those of trained networks: a and b vary, but seldom leave the gamut, at
        # whose edge sRGB magnifies rounding.
        output = network.layers[-1]
        y = network.eval()(lightness) - output.bias[:, None, None]
        scale = 0.02 / y.std((0, 2, 3))
        output.weight *= scale[:, None, None, None]
        output.bias.copy_(0.53 - y.mean((0, 2, 3)) * scale)
        if change:
            change(network)
    folder = folder / settings.name
    folder.mkdir(parents=True)
    weights = {key: value.contiguous() for key, value in network.state_dict().items()}
    save_file(weights, folder / "weights.safetensors")
    about = {"settings": settings.asdict()}
    seal(folder, about, "weights.safetensors")
    return Run(folder, about)


def decode_picture(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


# What is exported


def run_description(described, lightness):
    """Run an exported network on (1, S, S) by PyTorch's functions, one op after another."""
    values = np.frombuffer(base64.b64decode(described["weights"]), "<f2").astype(np.float32)
    values = torch.from_numpy(values)

    def take(*shape):
        nonlocal values
        n = int(np.prod(shape))
        taken, values = values[:n], values[n:]
        return taken.reshape(shape)

    x = torch.from_numpy(lightness)[None]
    for op in described["ops"]:
        if op["kind"] == "up":
            x = F.interpolate(x, scale_factor=2, mode="nearest")
        elif op["kind"] == "pool":
            x = F.max_pool2d(x, 5, 2, 2)
        else:
            x = F.conv2d(
                x,
                take(op["outputs"], op["inputs"], 3, 3),
                take(op["outputs"]),
                padding=1,
            )
            if op["normalised"]:
                shape = (op["outputs"], 1, 1)
                x = F.relu(x) * take(*shape) + take(*shape)
    assert len(values) == 0
    return x[0].numpy()


@pytest.mark.parametrize("pool_depth", [0, 1, 3])
def test_an_exported_network_is_the_network(tmp_path, pool_depth):
    run = make_run(tmp_path, pool_depth=pool_depth)
    described = page_tools.describe_network(run)
    assert described["name"] == f"pool{pool_depth}"
    assert described["size"] == 32
    lightness = np.random.default_rng(0).random((1, 32, 32), dtype=np.float32)
    expected = run.network().predict_array(lightness[None])[0]
    assert np.ptp(expected) > 0.1 and described["mirrored"]
    one, other = (run_description(described, x) for x in (lightness, lightness[..., ::-1].copy()))
    mean = ((one + other[..., ::-1]) / 2).clip(0, 1)
    np.testing.assert_allclose(mean, expected, atol=1 / 255)


@pytest.mark.parametrize("options", [{"pooling": "max2"}, {"pooling": "strided"}])
def test_a_network_with_other_steps_is_refused(tmp_path, options):
    run = make_run(tmp_path, pool_depth=1, **options)
    with pytest.raises(UserError, match=f"{run.name} has a step .* choose runs of pool0 to pool3"):
        page_tools.describe_network(run)


def test_weights_beyond_half_precision_are_refused(tmp_path):
    def inflate(network):
        network.layers[0][0].bias[0] = 1e6

    run = make_run(tmp_path, pool_depth=0, change=inflate)
    with pytest.raises(UserError, match=r"pool0-seed0 has weights up to 1e\+06"):
        page_tools.describe_network(run)


def test_curves_are_means_over_seeds_and_only_baselines_lack_a_colour():
    two = np.stack([np.zeros(len(metrics.BOUNDS)), np.linspace(0, 1, len(metrics.BOUNDS))])
    described = page_tools.describe_curves({"pool1": two}, {"grey": two[1:]})
    assert described["bounds"][20] == 0.02
    pool, grey = described["lines"]
    assert (pool["name"], pool["colour"], pool["dash"]) == ("pool1", "#E69F00", "")
    assert pool["accuracy"][20] == 0.1
    assert (grey["name"], grey["colour"], grey["accuracy"][20]) == ("grey", None, 0.2)
    json.dumps(described)


def test_errors_of_a_sample_are_thousandths_rounded_up():
    lightness, chroma = np.full((1, 1, 4), 0.5), np.full((2, 1, 4), 0.5)
    predicted = chroma + np.array([[[0, 0.02, -0.02, 0.0201]], [[0.0009, 0.4, 0.001, -0.0011]]])
    described = page_tools.describe_sample("x", lightness, chroma, {"pool1": predicted})
    assert (described["width"], described["height"]) == (4, 1)
    (network,) = described["networks"]
    errors = np.frombuffer(base64.b64decode(network["errors"]), np.uint8)
    assert errors.tolist() == [0, 20, 20, 21, 1, 255, 1, 2]
    expected = np.rint(255 * lab01_to_rgb(lightness, predicted))
    np.testing.assert_array_equal(decode_picture(network["picture"]), expected)


def test_shares_from_thousandths_are_those_of_the_metric():
    rng = np.random.default_rng(0)
    lightness = rng.random((1, 16, 16), dtype=np.float32)
    chroma, predicted = 0.4 + 0.1 * rng.random((2, 2, 16, 16), dtype=np.float32)
    described = page_tools.describe_sample("x", lightness, chroma, {"pool1": predicted})
    errors = np.frombuffer(base64.b64decode(described["networks"][0]["errors"]), np.uint8)
    shares = [(errors <= round(1000 * bound)).mean() for bound in metrics.BOUNDS]
    np.testing.assert_allclose(shares, metrics.accuracy_curve(predicted[None], chroma[None])[0])


def test_tools_gather_everything_from_runs(tmp_path):
    rng = np.random.default_rng(0)
    lightness = rng.random((6, 1, 32, 32), dtype=np.float32)
    grey = np.full((6, 2, 32, 32), 0.5, np.float32)
    test = Part(lightness, grey, tuple(f"{k}.jpg" for k in range(6)))
    found = [make_run(tmp_path, pool_depth=depth) for depth in (0, 1)]
    errors = [0.03, 0.01, 0.05, 0.02, 0.04, 0.06]
    for run, shift in zip(found, (0.0, 0.01), strict=True):
        np.save(run.folder / "predictions.npy", (test.chroma + shift).astype(np.float16))
        scores = pd.DataFrame({"image": test.names, "mean_absolute_error": errors})
        scores.to_csv(run.folder / "scores.csv", index=False)
        seal(run.folder, run.about, "predictions.npy", "scores.csv")
    curve = np.linspace(0, 1, len(metrics.BOUNDS))[None]
    gathered = page_tools.tools(found, test, {"pool0": curve, "pool1": curve}, {"grey": curve})
    assert list(gathered) == ["curves", "samples", "networks", "photographs"]
    assert [line["name"] for line in gathered["curves"]["lines"]] == ["pool0", "pool1", "grey"]
    kept = [(network["of"], network["name"]) for network in gathered["networks"]]
    of_record = [("record", f"pool{depth}") for depth in range(4)]
    assert kept == [*of_record, ("report", "pool0"), ("report", "pool1")]
    first = gathered["samples"][0]  # the best predicted
    assert first["name"] == "test image 1"
    np.testing.assert_array_equal(
        decode_picture(first["truth"]), np.rint(255 * lab01_to_rgb(lightness[1], test.chroma[1]))
    )
    for network, thousandths in zip(first["networks"], (0, 10), strict=True):
        values = np.frombuffer(base64.b64decode(network["errors"]), np.uint8)
        assert abs(values.astype(int) - thousandths).max() <= 1  # predictions are half precision
    json.dumps(gathered)


def test_photographs_are_small_jpegs():
    described = page_tools.photographs()
    assert [photograph["name"] for photograph in described] == list(facts.PHOTOGRAPHS)
    for photograph in described:
        assert photograph["picture"].startswith("data:image/jpeg;base64,")
        assert len(photograph["picture"]) < 100_000
        assert max(decode_picture(photograph["picture"]).shape) == page_tools.PHOTOGRAPH_SIDE


# In a browser: pages with the four networks; those of `quick` where their numbers and time count


def gather(runs):
    rng = np.random.default_rng(0)
    side, arms = SAMPLE_SIDE, ["pool0", "pool1", "pool2", "pool3"]
    samples = []
    for name in ("first <picture>", "second"):
        lightness = rng.random((1, side, side), dtype=np.float32)
        chroma = 0.4 + 0.2 * rng.random((2, side, side), dtype=np.float32)
        predicted = {arm: chroma + 0.05 * rng.standard_normal((2, side, side)) for arm in arms}
        samples.append(page_tools.describe_sample(name, lightness, chroma, predicted))
    rising = np.linspace(0, 1, len(metrics.BOUNDS))[None]
    curves = {arm: rising ** (1 - depth / 8) for depth, arm in enumerate(arms)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page_tools, "PHOTOGRAPH_SIDE", 160)
        photographs = page_tools.photographs()
    return {
        "curves": page_tools.describe_curves(curves, {"lightness table": rising}),
        "samples": samples,
        "networks": [page_tools.describe_network(run) for run in runs],
        "photographs": photographs,
    }


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return [make_run(folder, "quick", pool_depth=depth) for depth in range(4)]


@pytest.fixture(scope="module")
def tools(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small-runs")
    return gather([make_run(folder, pool_depth=depth) for depth in range(4)])


@pytest.fixture(scope="module")
def page(tools, tmp_path_factory):
    return render([], tmp_path_factory.mktemp("page") / "index.html", tools=tools, **HEAD)


@pytest.fixture
def open_page(chromium):  # noqa: F811
    """Open a page from disk without a network; in the end it must have asked for and said nothing.

    Blobs and data are the page's own.
    """
    contexts, requests, complaints = [], [], []

    def open_(path, **options):
        contexts.append(chromium.new_context(offline=True, **options))
        tab = contexts[-1].new_page()
        tab.on("request", lambda request: requests.append(request.url))
        tab.on("console", lambda message: complaints.append(message.text))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.goto(path.as_uri())
        requests.remove(path.as_uri())
        return tab

    yield open_
    for context in contexts:
        context.close()
    assert [url for url in requests if not url.startswith(("data:", "blob:"))] == []
    assert complaints == []


def wait_until_coloured(tab):
    status = tab.locator("#photograph-status", has_text="Coloured in")
    status.wait_for(timeout=20_000)
    return float(status.inner_text().split()[2])


def shown_pictures(tab):
    """The canvases as arrays (H, W, 3), by the first word below them, and the errors below."""
    items = tab.locator("#photograph-results li").evaluate_all(
        "items => items.map(i => ['span', 'canvas'].map(part => i.querySelector(part)))"
        ".map(([span, canvas]) => [span.textContent, canvas.toDataURL()])"
    )
    pictures = {text.split(",")[0]: decode_picture(uri)[..., :3] for text, uri in items}
    errors = {t.split(",")[0]: float(t.split()[-1]) for t, _ in items if "error" in t}
    return pictures, errors


def coloured_by_pytorch(run, photograph):
    """Expected picture and error for a photograph (H, W, 3) uint8."""
    size = run.settings.size
    height, width = photograph.shape[:2]
    bilinear = Image.Resampling.BILINEAR
    small = np.asarray(Image.fromarray(photograph).resize((size, size), bilinear))
    lightness, true = rgb_to_lab01(small)
    chroma = run.network().predict_array(lightness[None])[0]
    planes = [Image.fromarray(plane).resize((width, height), bilinear) for plane in chroma]
    picture = lab01_to_rgb(rgb_to_lab01(photograph)[0], np.stack([np.asarray(p) for p in planes]))
    return 255 * picture, np.abs(chroma - true).mean()


@pytest.mark.browser
def test_photographs_are_coloured_as_pytorch_does_and_fast(open_page, runs, tmp_path):
    tools = gather(runs)
    tab = open_page(render([], tmp_path / "index.html", tools=tools, **HEAD))
    seconds = []
    for k, photograph in enumerate(tools["photographs"]):
        tab.locator(".choices button").nth(k).press("Enter")
        tab.locator("#photograph-results li", has_text="pool3").wait_for(timeout=20_000)
        seconds.append(wait_until_coloured(tab))
        pictures, errors = shown_pictures(tab)
        assert list(pictures) == ["photograph", "lightness", *(run.arm for run in runs)]
        original = decode_picture(photograph["picture"])
        np.testing.assert_array_equal(pictures["photograph"], original)
        assert np.ptp(pictures["lightness"], axis=-1).max() <= 1
        for run in runs:
            expected, error = coloured_by_pytorch(run, original)
            assert np.ptp(expected, axis=-1).mean() > 10  # colours that can be wrong
            assert np.abs(pictures[run.arm] - expected).max() <= 2
            assert errors[run.arm] == pytest.approx(error, abs=0.001)
    assert min(seconds) < 3  # of a machine that may be busy with other things


@pytest.mark.browser
def test_a_file_is_taken_from_the_dialogue_shrunk_and_laid_over_white(page, open_page, tmp_path):
    file = tmp_path / "wide.png"
    Image.new("RGBA", (1000, 250), (255, 0, 0, 0)).save(file)
    tab = open_page(page)
    tab.set_input_files("#photograph-file", file)
    wait_until_coloured(tab)
    pictures, _ = shown_pictures(tab)
    assert pictures["pool3"].shape == (120, 480, 3)
    assert (pictures["photograph"] == 255).all()


@pytest.mark.browser
def test_networks_of_record_are_chosen_first_and_those_of_the_report_on_demand(
    tools, open_page, tmp_path
):
    # The same networks in other places, so that a picture tells which coloured it.
    kept = [
        {**network, "of": of, "name": name}
        for of, networks in {"record": tools["networks"][::-1], "report": tools["networks"]}.items()
        for network, name in zip(networks, ("pool0", "pool1", "pool2", "pool3"), strict=True)
    ]
    page = render([], tmp_path / "index.html", tools=tools | {"networks": kept}, **HEAD)
    tab = open_page(page)
    tab.get_by_role("button", name="cat").click()
    wait_until_coloured(tab)
    of_record, _ = shown_pictures(tab)
    tab.get_by_label("By the networks").select_option("report")
    wait_until_coloured(tab)
    of_report, _ = shown_pictures(tab)
    assert list(of_record) == list(of_report)
    np.testing.assert_array_equal(of_record["pool0"], of_report["pool3"])
    assert np.abs(of_record["pool0"].astype(float) - of_report["pool0"]).mean() > 1


@pytest.mark.browser
@pytest.mark.fault(
    "a large photograph, downloaded from the page", "its own size, up to 12 megapixels"
)
def test_each_networks_picture_can_be_saved_at_its_own_size(page, open_page, runs, tmp_path):
    rng = np.random.default_rng(5)
    coarse = Image.fromarray(rng.integers(60, 200, (6, 8, 3), dtype=np.uint8))
    tab = open_page(page)
    for size, saved in (((800, 600), (600, 800)), ((5200, 2600), (2449, 4899))):
        photograph = coarse.resize(size, Image.Resampling.BICUBIC)
        file = tmp_path / f"my.photo of {size[0]}.png"
        photograph.save(file, compress_level=1)
        tab.set_input_files("#photograph-file", file)
        wait_until_coloured(tab)
        button = tab.get_by_role("button", name="Download the photograph as pool2 colours it")
        with tab.expect_download(timeout=60_000) as waiting:
            button.click()
        assert waiting.value.suggested_filename == f"{file.stem}-pool2.png"
        with Image.open(waiting.value.path()) as opened:
            found = np.asarray(opened.convert("RGB"))
        assert found.shape[:2] == saved
        if size[0] == 800:
            # The page's own network saw a smaller version, shrunk twice.
            expected = 255 * runs[2].colourise(np.asarray(photograph))
            assert np.abs(found - expected).mean() < 5
            assert np.abs(found - found.mean(2, keepdims=True)).mean() > 10  # it has colours
            greys = [rgb_to_lab01(x)[0] for x in (found, np.asarray(photograph))]
            assert np.abs(greys[0] - greys[1]).mean() < 0.005


@pytest.mark.browser
def test_a_file_is_taken_when_it_is_dropped(page, open_page):
    tab = open_page(page)
    file = io.BytesIO()
    Image.new("RGB", (40, 30), (200, 120, 40)).save(file, "PNG")
    transfer = """content => {
        const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
        const transfer = new DataTransfer();
        transfer.items.add(new File([bytes], "mine.png"));
        return transfer;
    }"""
    content = base64.b64encode(file.getvalue()).decode()
    dropped = {"dataTransfer": tab.evaluate_handle(transfer, content)}
    tab.dispatch_event("h2", "drop", dropped)  # beside the area: nothing
    assert tab.inner_text("#photograph-status") == ""
    tab.dispatch_event("#photograph .drop", "drop", dropped)
    wait_until_coloured(tab)
    pictures, _ = shown_pictures(tab)
    assert pictures["photograph"][0, 0].tolist() == [200, 120, 40]


@pytest.mark.browser
def test_a_file_that_is_no_image_is_named(page, open_page, tmp_path):
    (tmp_path / "notes.txt").write_text("no image")
    tab = open_page(page)
    tab.set_input_files("#photograph-file", tmp_path / "notes.txt")
    tab.locator("#photograph-status", has_text="notes.txt is not an image").wait_for()
    assert tab.locator("#photograph-results li").count() == 0


@pytest.mark.browser
def test_the_explorer_follows_its_controls(page, open_page, tools):
    tab = open_page(page)

    def expected(sample, network, bound):
        errors = tools["samples"][sample]["networks"][network]["errors"]
        within = np.frombuffer(base64.b64decode(errors), np.uint8) <= bound
        return f"{100 * within.mean():.1f}\xa0% within", within.reshape(2, -1).all(0)

    def opaque():
        uri = tab.locator("#explorer-within").evaluate("canvas => canvas.toDataURL()")
        return decode_picture(uri)[..., 3].ravel() > 200

    def check(sample, network, bound):
        text, both = expected(sample, network, bound)
        assert tab.inner_text("#explorer-bound-value") == f"{bound / 1000:.3f}"
        assert tab.inner_text("#explorer-share") == text
        np.testing.assert_array_equal(opaque(), both)

    check(0, 0, 20)
    tab.press("#explorer-bound", "ArrowRight")
    check(0, 0, 21)
    tab.press("#explorer-network", "End")
    assert tab.inner_text("#explorer-prediction-name") == "pool3"
    check(0, 3, 21)
    assert tab.get_attribute("#explorer-truth", "src") == tools["samples"][0]["truth"]
    tab.select_option("#explorer-sample", label="second")
    check(1, 3, 21)
    picture = tools["samples"][1]["networks"][3]["picture"]
    assert tab.get_attribute("#explorer-prediction", "src") == picture
    tab.press("#explorer-bound", "End")
    check(1, 3, 100)


@pytest.mark.browser
def test_curves_show_the_values_under_the_pointer_and_can_be_hidden(page, open_page, tools):
    tab = open_page(page)
    curves = tab.locator("#explorer-curves svg")
    curves.scroll_into_view_if_needed()
    area = curves.bounding_box()
    mark = curves.locator(".mark")
    before = float(mark.get_attribute("x1"))
    tab.mouse.move(area["x"] + area["width"] * 0.6, area["y"] + area["height"] / 2)
    assert float(mark.get_attribute("x1")) == pytest.approx(640 * 0.6, abs=4)
    assert float(mark.get_attribute("x1")) > before
    index = int(tab.input_value("#explorer-bound"))
    values = tab.locator("#explorer-legend .value").all_inner_texts()
    lines = tools["curves"]["lines"]
    assert values == [f"{100 * line['accuracy'][index]:.1f}\xa0%" for line in lines]

    tab.get_by_label("pool1").press("Space")
    shown = [line.is_visible() for line in curves.locator(".line").all()]
    assert shown == [line["name"] != "pool1" for line in lines]
    tab.set_viewport_size({"width": 390, "height": 800})  # drawn anew, with legible labels
    tab.locator("#explorer-curves svg[viewBox='0 0 360 280']").wait_for()
    shown = [line.is_visible() for line in curves.locator(".line").all()]
    assert shown == [line["name"] != "pool1" for line in lines]
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.browser
def test_without_scripts_the_tools_give_way_to_still_pictures(page, open_page):
    tab = open_page(page, java_script_enabled=False)
    assert tab.locator("#fig-explorer .still img").count() == 5
    assert tab.locator("#fig-explorer .still img").first.is_visible()
    assert tab.locator("#fig-photograph .still").is_visible()
    assert not tab.locator("#explorer-bound").is_visible()
    assert not tab.locator("#photograph").is_visible()


@pytest.fixture(scope="module")
def axe():
    module = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed"
    )
    return module.Axe()


def serious(axe, tab):
    """What axe-core finds that is serious or critical, with the beginnings of its elements."""
    found = axe.run(tab).response["violations"]
    bad = [violation for violation in found if violation["impact"] in ("serious", "critical")]
    return [(v["id"], [node["html"][:200] for node in v["nodes"]]) for v in bad]


@pytest.mark.browser
@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (390, "dark")])
def test_axe_finds_nothing_serious(page, open_page, axe, width, scheme):
    tab = open_page(page, viewport={"width": width, "height": 800}, color_scheme=scheme)
    tab.locator(".choices button").first.click()
    wait_until_coloured(tab)
    assert serious(axe, tab) == []


# The report that `make report` made of the synthetic daisies, if it is there


@pytest.fixture(scope="module")
def report():
    if not REPORT.exists():
        pytest.skip(f"{REPORT} does not exist: `make report` makes it")
    newest = max(path.stat().st_mtime for path in MADE_WITH)
    if REPORT.stat().st_mtime < newest:
        pytest.skip(f"{REPORT} is older than the code that makes it: `make report`")
    return REPORT


DEAD_LINKS = """() => [...document.querySelectorAll("a[href^='#']")]
    .filter((link) => !document.getElementById(link.hash.slice(1)))
    .map((link) => link.outerHTML)"""


@pytest.mark.browser
@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (1440, "dark"), (390, "dark")])
def test_the_whole_report_works_without_a_network(report, open_page, axe, width, scheme):
    window = {"viewport": {"width": width, "height": 900}, "reduced_motion": "reduce"}
    tab = open_page(report, color_scheme=scheme, **window)
    assert tab.evaluate(DEAD_LINKS) == []
    empty = "a:not([href]), a[href=''], a[href='#'], #body a:empty"
    assert tab.locator(empty).count() == 0
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert tab.locator("img:not([alt])").count() == 0
    # Legible on a telephone too, where wide figures scroll in their boxes.
    assert tab.evaluate(
        "[...document.querySelectorAll('.scroll img')].every((image) =>"
        " image.closest('picture')"
        " || image.clientWidth >= Math.min(0.7 * image.getAttribute('width'), 500))"
    )

    stamps = tab.locator(".stamp")
    drawn = tab.locator("#main figure[id]:has(.stamp)")
    assert stamps.count() == drawn.count() > 10
    link = stamps.locator("a").first  # of the key figure
    link.click()
    assert tab.locator(link.get_attribute("href")).is_visible()
    if width > 1000:
        tab.locator("nav.contents a[href='#sec-how-this-was-made']").click()
        tab.wait_for_selector("nav.contents a[aria-current][href='#sec-how-this-was-made']")
    tab.press("#explorer-bound", "End")
    assert tab.inner_text("#explorer-bound-value") == "0.100"
    tab.locator(".choices button").first.click()
    wait_until_coloured(tab)
    assert serious(axe, tab) == []


@pytest.mark.browser
def test_the_report_prints_whole_and_light(report, open_page, tmp_path):
    tab = open_page(report, color_scheme="dark")
    tab.emulate_media(media="print")
    background = "getComputedStyle(document.body).backgroundColor"
    assert tab.evaluate(background) == "rgb(255, 255, 255)"
    for hidden in ("nav.contents", "button.theme", "details.code", "#explorer-bound"):
        assert not tab.locator(hidden).first.is_visible()
    assert tab.locator("#fig-explorer .still img").first.is_visible()
    tab.set_viewport_size({"width": 673, "height": 1000})  # A4 without its margins
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert tab.pdf(path=tmp_path / "report.pdf").startswith(b"%PDF")


def test_the_report_is_not_too_large(report):
    assert report.stat().st_size < 25_000_000  # two sets of networks, 6.2 MB each
