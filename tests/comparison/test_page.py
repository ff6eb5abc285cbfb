"""The page and pictures of a comparison: their content, and that they load nothing else."""

import base64
import itertools
import json
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from helpers.browser import Browser
from helpers.compared import MODELS, write, write_compared
from helpers.reading import Page, markdown_of, table_of, users_of

from recbole_lightgnn.comparison.figures import _look, degree_groups
from recbole_lightgnn.comparison.report import report
from recbole_lightgnn.comparison.results import Comparison


@pytest.fixture
def folder(tmp_path):
    return write_compared(tmp_path / "out", ("LightGNN", "LightGCN", "BPR", "Pop"))


def drawings(page):
    prefix = "data:image/svg+xml;base64,"
    assert all(one["src"].startswith(prefix) for one in page.pictures)
    return [base64.b64decode(one["src"].removeprefix(prefix)).decode() for one in page.pictures]


def test_the_page_loads_nothing_else(folder):
    report(folder)
    text = (folder / "index.html").read_text()
    page = Page(text)
    assert all(link.startswith("data:") for link in page.loads)
    assert not {"script", "iframe", "object", "embed", "base"} & set(page.tags)
    assert "http" not in re.sub(r'http-equiv="', "", text)
    assert "url(" not in text
    assert "@import" not in text
    assert "default-src 'none'" in text
    assert len(page.pictures) == 4
    for svg in drawings(page):
        ET.fromstring(svg)
        for link in re.findall(r'href="([^"]*)"', svg) + re.findall(r"url\(([^)]*)\)", svg):
            assert link.startswith("#")
        names = set(re.findall(r'"(https?://[^"]*)"', svg))
        assert names <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
        assert "<script" not in svg
        assert "<image" not in svg


@pytest.mark.parametrize("n_others", [3, 6, 7, 10])
def test_the_six_best_other_models_have_a_colour_each_and_the_rest_is_grey(tmp_path, n_others):
    out = write_compared(tmp_path / "out", tuple(MODELS)[: 1 + n_others])
    report(out)
    curves, groups = drawings(Page((out / "index.html").read_text()))[2:]
    compared = Comparison(out)
    best = sorted(compared.entries, key=lambda entry: -entry.mean("recall@20"))
    best = [entry.model for entry in best if entry.model != "LightGNN"]
    looks = {entry.model: _look(compared, entry)[0] for entry in compared.entries}
    coloured = [looks.pop(model) for model in ["LightGNN", *best[:6]]]
    assert len(set(coloured)) == len(coloured)
    assert set(looks.values()) <= {"#777777"}
    for drawing in (curves, groups):
        for colour in coloured:
            assert f"stroke: {colour.lower()}" in drawing
        faint = re.findall("stroke: #777777; stroke-opacity: 0.35", drawing)
        assert bool(faint) == bool(looks)


def test_groups_are_drawn_where_only_grey_models_have_users(tmp_path):
    grey = ("LightGCN", "BPR", "NeuMF", "Pop")
    without = tuple(model for model in MODELS if model not in grey)
    report(write_compared(tmp_path / "out", without_users=without))
    groups = Page((tmp_path / "out" / "index.html").read_text()).pictures[-1]["alt"]
    assert all(f"{model}: " in groups for model in grey)


def test_the_texts_of_pictures_have_the_numbers(folder):
    report(folder)
    size, time, curves, groups = (
        one["alt"] for one in Page((folder / "index.html").read_text()).pictures
    )
    exact = table_of(folder)
    for label, line in exact.items():
        mean = f"{float(line['recall@20_mean']):.4f}"[1:]
        assert f"{label} {mean} at " in size
        assert f"{label} {mean} at " in time
    assert "BPR .0" in size
    assert " at 17.8 MB" in size
    assert "LightGCN .0" in time
    assert " at 48 min" in time
    record = json.loads((folder / "runs/BPR-1/record.json").read_text())
    best = max(record["rows"][0]["curve"]["score"])
    assert f"BPR reaches {best:.4f}".replace("0.", ".") in curves
    arrays = np.load(folder / "runs/BPR-1/record.users.npz", allow_pickle=False)
    values, degree = users_of(folder, "BPR", "BPR", "recall@20"), arrays["train_interactions"]
    assert f"{values[degree == 1].mean():.4f} for 1,".replace("0.", ".") in groups


def test_groups_of_users_by_hand():
    degree = np.array([1, 1, 1, 1, 2, 2, 3, 4, 5, 50])
    groups = degree_groups(degree)
    # Quantiles 0, .2, .4, .6, .8 of ten users are 1, 1, 1, 2, 4.
    assert [label for label, _ in groups] == ["1", "2–3", "4–50"]
    assert [int(members.sum()) for _, members in groups] == [4, 3, 3]
    assert np.sum([members for _, members in groups], axis=0).tolist() == [1] * 10
    assert [label for label, _ in degree_groups(np.array([7, 7]))] == ["7"]


def test_the_curve_of_a_run_follows_its_stages(folder):
    comparison = Comparison(folder)
    parts = comparison.curve("LightGNN", 1)
    assert len(parts) == 13
    assert parts[0][0][-1] == pytest.approx(440)
    assert parts[1][0] == pytest.approx([440 + 88 * n / 5 for n in range(1, 6)])
    ends = [seconds[-1] for seconds, _ in parts]
    assert all(first < second for first, second in itertools.pairwise(ends))


def test_names_are_escaped(tmp_path):
    folder = write_compared(tmp_path, ("BPR",), seeds=(1,), failed=[("BPR", 1)])
    reason = "x_1 & <script>alert(1)</script> | 50%"
    write(folder / "runs/BPR-1/failed.json", {"reason": reason, "status": 1})
    report(folder)
    page = Page((folder / "index.html").read_text())
    assert page.rows[1][-1] == f"seed 1 failed: {reason}"
    assert "script" not in page.tags
    assert markdown_of(folder)["BPR"]["parameters"] == f"seed 1 failed: {reason}".replace(
        "|", r"\|"
    )
    assert r"x\_1 \& $<$script$>$" in (folder / "table.tex").read_text()


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1200])
def test_a_browser_shows_every_picture_and_asks_for_nothing(folder, tmp_path, width):
    report(folder)
    url = (folder / "index.html").as_uri()
    with Browser(tmp_path / "profile") as browser:
        size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 500}
        browser.ask("Emulation.setDeviceMetricsOverride", **size)
        browser.open(url)
        shown = browser.evaluate(
            "Array.from(document.images).map(i => {const box = i.getBoundingClientRect(); return "
            "[i.complete, i.naturalWidth, box.width, box.height, box.right]})"
        )
        wide = browser.evaluate("document.documentElement.scrollWidth")
        lines = browser.evaluate("document.querySelectorAll('tbody tr').length")
        said = [event for event in browser.events if event[0] != "Network.requestWillBeSent"]
        asked = [one["request"]["url"] for name, one in browser.events if name.startswith("Net")]
    assert not said
    assert url in asked
    assert {address.partition(":")[0] for address in asked} <= {"file", "data"}
    assert [address for address in asked if address.startswith("file")] == [url]
    assert len(shown) == 4
    for complete, natural, *box, right in shown:
        assert complete
        assert natural > 300
        assert min(box) > 250
        assert right <= width
    assert wide <= width, "the page scrolls sideways"
    assert lines == 6


@pytest.mark.slow
@pytest.mark.browser
def test_the_browser_reports_loads_and_errors(tmp_path):
    """The test above relies on it: loads and errors of a page are reported."""
    page = tmp_path / "page.html"
    page.write_text("<img src='absent.png'><script>console.error('no'); undefined.x</script>")
    with Browser(tmp_path / "profile") as browser:
        browser.open(page.as_uri())
        browser.evaluate("1")
        names = {name for name, _ in browser.events}
        asked = [one["request"]["url"] for name, one in browser.events if name.startswith("Net")]
    assert names >= {"Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"}
    assert any(address.endswith("absent.png") for address in asked)
