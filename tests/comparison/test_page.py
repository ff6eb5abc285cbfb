"""The page and pictures of a comparison: their content, and that they load nothing else."""

import base64
import itertools
import json
import re
import xml.etree.ElementTree as ET
from hashlib import sha256

import numpy as np
import pytest
from helpers.browser import Browser
from helpers.compared import MODELS, write, write_compared
from helpers.reading import Page, markdown_of, table_of, users_of

from recbole_lightgnn.comparison.figures import _look, degree_groups, pictures
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
    assert not {"iframe", "object", "embed", "base"} & set(page.tags)
    assert "http" not in re.sub(r'http-equiv="', "", text)
    assert "url(" not in text
    assert "@import" not in text
    (script,) = re.findall("<script>(.*?)</script>", text, flags=re.DOTALL)
    digest = base64.b64encode(sha256(script.encode()).digest()).decode()
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
    assert f"content=\"{policy}script-src 'sha256-{digest}'\"" in text
    assert page.tags.count("script") == 1
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
    assert page.tags.count("script") == 1, "the page's own script alone"
    assert markdown_of(folder)["BPR"]["parameters"] == f"seed 1 failed: {reason}".replace(
        "|", r"\|"
    )
    assert r"x\_1 \& $<$script$>$" in (folder / "table.tex").read_text()


def test_lines_have_what_the_script_sorts_and_filters_by(folder):
    report(folder)
    text = (folder / "index.html").read_text()
    exact = table_of(folder)
    families = re.findall('<tr[^>]* data-family="([^"]*)">', text)
    assert families == [line["family"] for line in exact.values()]
    boxes = re.findall('<input type="checkbox" value="([^"]*)" checked>', text)
    assert boxes == ["training-free", "matrix factorization", "graph", "pruned"]
    lines = re.findall("<tr.*?</tr>", text)[1:]
    places = {name: place for place, name in enumerate(Page(text).rows[0])}
    for line, (label, row) in zip(lines, exact.items(), strict=True):
        cells = re.findall("<td[^>]*>", line)
        assert len(cells) == len(places)
        for name, key in (("size", "bytes"), ("N@40", "ndcg@40_mean"), ("p R@20", None)):
            (value,) = re.findall('data-value="(.*?)"', cells[places[name]])
            if key:
                assert float(value) == pytest.approx(float(row[key]), rel=1e-8)
            elif row["recall@20_p_holm"]:
                sign = 1 if float(row["recall@20_difference"]) > 0 else -1
                expected = sign * (1 - float(row["recall@20_p_holm"]))
                assert float(value) == pytest.approx(expected, abs=1e-8)
        assert "data-value" not in cells[places["model"]]
        assert ("data-value" in cells[places["epochs / patience"]]) == (label != "Pop")


def test_one_family_needs_no_filter(tmp_path):
    report(write_compared(tmp_path, ("SGL", "NCL"), seeds=(1,)))
    assert "checkbox" not in (tmp_path / "index.html").read_text()


def test_the_front_is_named_and_drawn(folder):
    report(folder)
    size, time = Page((folder / "index.html").read_text()).pictures[:2]
    # LightGCN and BPR have more bytes and less Recall@20 than LightGNN's students; Pop has the
    # fewest bytes.
    front = "Pop, LightGNN .09 / .57, LightGNN .33 / .77, LightGNN's teacher"
    assert size["alt"].endswith(f". Pareto front: {front}.")
    assert "Pareto" not in time["alt"]
    first, second = pictures(Comparison(folder))[:2]
    assert f"beats in both bytes and test Recall@20: {front}. The other" in first.caption
    assert "stroke-dasharray: 3.7" in first.svg
    assert "opacity: 0.4" in first.svg
    assert "Pareto" not in second.caption
    assert "opacity: 0.4" not in second.svg


class SortedPage:
    """A page of a comparison in a browser: its lines, its heads and its boxes."""

    def __init__(self, browser):
        self.browser = browser

    def labels(self):
        """Labels of the lines in view, from the top."""
        return self.browser.evaluate(
            "Array.from(document.querySelectorAll('tbody tr')).filter(l => l.offsetParent)"
            ".map(l => l.cells[0].textContent)"
        )

    def press(self, name, key="Enter"):
        """Press a key on the head of a column; return ``aria-sort`` of all heads."""
        head = f"Array.from(document.querySelectorAll('th')).find(h => h.textContent === '{name}')"
        self.browser.evaluate(f"{head}.querySelector('button').focus(), true")
        code, text = (13, "\r") if key == "Enter" else (32, " ")
        pressed = {"key": key, "text": text, "windowsVirtualKeyCode": code}
        self.browser.ask("Input.dispatchKeyEvent", type="keyDown", **pressed)
        self.browser.ask("Input.dispatchKeyEvent", type="keyUp", **pressed)
        return self.browser.evaluate(
            "Object.fromEntries(Array.from(document.querySelectorAll('th'))"
            ".map(h => [h.textContent, h.getAttribute('aria-sort')]))"
        )

    def toggle(self, family):
        """Click the box of a family."""
        self.browser.evaluate(f"document.querySelector('input[value=\"{family}\"]').click(), true")


@pytest.mark.slow
@pytest.mark.browser
def test_a_browser_sorts_and_filters(tmp_path):
    models = ("LightGNN", "LightGCN", "SGL", "NCL", "BPR", "Pop")
    failed = [("NCL", seed) for seed in (1, 2, 3)]
    folder = write_compared(tmp_path / "out", models, failed=failed, without_users=("SGL",))
    report(folder)
    exact = table_of(folder)
    order = list(exact)

    def by(key, *, reverse):
        """Labels sorted by a number of table.csv; those without the number are last."""
        known = sorted((x for x in order if exact[x][key]), key=lambda x: float(exact[x][key]))
        return (known[::-1] if reverse else known) + [x for x in order if not exact[x][key]]

    with Browser(tmp_path / "profile") as browser:
        browser.open((folder / "index.html").as_uri())
        page = SortedPage(browser)
        assert page.labels() == order
        directions = page.press("R@20")
        assert directions.pop("R@20") == "descending"
        assert set(directions.values()) == {"none"}
        assert page.labels() == by("recall@20_mean", reverse=True)
        assert page.press("R@20", " ")["R@20"] == "ascending"
        assert page.labels() == by("recall@20_mean", reverse=False)
        assert page.press("R@20")["R@20"] == "none"
        assert page.labels() == order

        assert page.press("epochs / patience")["epochs / patience"] == "descending"
        known = [label for label in order if exact[label]["epochs_at_most"]]
        teacher = "LightGNN's teacher"  # 9 epochs; the others have 300
        rest = [label for label in order if label not in known]
        assert page.labels() == [*(x for x in known if x != teacher), teacher, *rest]
        directions = page.press("model")
        assert (directions["model"], directions["epochs / patience"]) == ("ascending", "none")
        assert page.labels()[:3] == ["BPR", "LightGCN", "LightGNN .09 / .57"]
        page.press("p R@20")
        assert page.labels()[:2] == [teacher, "LightGNN .33 / .77"]
        assert page.labels()[-2:] == ["SGL", "NCL"], "no user data; no numbers"

        page.toggle("graph")
        page.toggle("pruned")
        assert set(page.labels()) == {"SGL", "NCL", "BPR", "Pop"}
        said = browser.evaluate("document.querySelector('output').textContent")
        assert said == "4 of 8 rows"
        page.press("size")
        assert page.labels() == ["SGL", "BPR", "Pop", "NCL"]
        page.toggle("graph")
        assert page.labels()[0] == teacher
        events = [name for name, _ in browser.events if name != "Network.requestWillBeSent"]
    assert events == []


@pytest.mark.slow
@pytest.mark.browser
def test_a_page_without_scripts_shows_the_same_and_other_scripts_do_not_run(folder, tmp_path):
    report(folder)
    file = folder / "index.html"
    file.write_text(file.read_text() + "<script>document.title = 'changed'</script>")
    with Browser(tmp_path / "profile") as browser:
        browser.open(file.as_uri())
        assert browser.evaluate("document.title").endswith(" on madeup")
        refused = [event["entry"]["text"] for name, event in browser.events if name[:3] == "Log"]
        assert len(refused) == 1
        assert "Content Security Policy" in refused[0]
        labels = SortedPage(browser).labels()
        browser.ask("Emulation.setScriptExecutionDisabled", value=True)
        browser.open(file.as_uri())
        assert SortedPage(browser).labels() == labels
        assert browser.evaluate("document.querySelectorAll('th button').length") == 0
        assert browser.evaluate("document.querySelector('.families').offsetParent === null")


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
