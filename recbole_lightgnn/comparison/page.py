"""The page of a comparison: pictures and table in one HTML file that loads nothing else.

A script in the page sorts the table and filters its lines by family. Without the script, the page
shows the same content.
"""

import base64
from collections.abc import Sequence
from hashlib import sha256
from html import escape
from pathlib import Path

from recbole_lightgnn.comparison.entry import Entry
from recbole_lightgnn.comparison.families import FAMILIES
from recbole_lightgnn.comparison.figures import Picture
from recbole_lightgnn.comparison.results import Comparison
from recbole_lightgnn.comparison.table import Cell, Table, short, size

_STYLE = """
:root { color-scheme: light; --ink: #1b1b1b; --soft: #5c5c5c; --rule: #d9d9d9; --ours: #0072b2; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 74rem; color: var(--ink);
  background: #fff; font: 16px/1.5 Charter, "Bitstream Charter", Cambria, Georgia, serif; }
h1 { margin: 0 0 .4rem; font-size: 1.75rem; line-height: 1.2; font-weight: 600; }
h2 { margin: 2.2rem 0 .6rem; font-size: 1.2rem; font-weight: 600; }
p { max-width: 46rem; margin: .4rem 0; }
.lead { font-size: 1.08rem; }
.soft, figcaption, .notes { color: var(--soft); font-size: .9rem; }
.pictures { display: grid; gap: 1.6rem 2rem; grid-template-columns: repeat(2, minmax(0, 1fr)); }
figure { margin: 0; }
figure img { display: block; width: 100%; height: auto; }
figcaption { margin-top: .3rem; line-height: 1.4; }
figcaption b, .lead b { color: var(--ink); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; min-width: 100%; white-space: nowrap;
  font: 13px/1.4 system-ui, sans-serif; font-variant-numeric: tabular-nums;
  border-bottom: 1.5px solid var(--ink); }
caption { text-align: left; color: var(--soft); padding-bottom: .4rem; white-space: normal; }
th { font-weight: 600; border-top: 1.5px solid var(--ink); border-bottom: 1px solid var(--ink); }
th, td { padding: .32rem .6rem .32rem 0; text-align: right; }
th:nth-child(-n+3), td:nth-child(-n+3), td.rest { text-align: left; }
td:first-child, th:first-child { position: sticky; left: 0; background: #fff; }
tbody tr + tr td { border-top: 1px solid var(--rule); }
tr.ours td:first-child { color: var(--ours); font-weight: 600; }
td.rest { color: #a33; white-space: normal; }
th button { font: inherit; color: inherit; background: none; border: 0; padding: 0;
  cursor: pointer; }
th button::after { position: absolute; margin-left: .1rem; font-size: .7em; }
th[aria-sort=ascending] button::after { content: "\\25b2"; }
th[aria-sort=descending] button::after { content: "\\25bc"; }
.families { border: 0; margin: 0 0 .8rem; padding: 0; font: 13px/1.6 system-ui, sans-serif; }
.families legend { float: left; padding: 0; margin-right: 1rem; font-weight: 600; }
.families label { margin-right: 1rem; white-space: nowrap; }
.families output { color: var(--soft); }
.notes { padding-left: 1.1rem; max-width: 52rem; }
@media (max-width: 46rem) {
  body { padding: 1.2rem .9rem 3rem; }
  .pictures { grid-template-columns: minmax(0, 1fr); }
}
@media print {
  body { max-width: none; padding: 0; }
  figure, tr { break-inside: avoid; }
  .families { display: none; }
}
"""
# Sorts and filters the table.
_SCRIPT = Path(__file__).with_name("page.js").read_text(encoding="utf-8")
# Forbids the browser to load any other file and to run any other script, even if later markup asks
# for one.
_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
    f"script-src 'sha256-{base64.b64encode(sha256(_SCRIPT.encode()).digest()).decode()}'"
)


def page(comparison: Comparison, content: Table, pictures: list[Picture]) -> str:
    """Write the page as HTML, without links to other files.

    Args:
        comparison: comparison to show.
        content: the comparison's table, made by `table`.
        pictures: the comparison's pictures.
    """
    title = f"{' · '.join(comparison.content['models'])} on {comparison.dataset}"
    drawn = "\n".join(_figure(number, one) for number, one in enumerate(pictures, 1))
    notes = "\n".join(f"<li>{escape(note)}</li>" for note in content.notes)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<style>{_STYLE}</style>
</head>
<body>
<main>
<h1>{escape(_heading(comparison))}</h1>
<p class="lead">{_finding(comparison)}</p>
<p class="soft">{escape(_data(comparison))}</p>
<section class="pictures" aria-label="Pictures">
{drawn}
</section>
<h2>Results</h2>
{_families(comparison.entries)}
<div class="scroll" role="region" aria-label="Table of results" tabindex="0">
{_table(comparison, content)}
</div>
<ul class="notes">
{notes}
</ul>
</main>
<script>{_SCRIPT}</script>
</body>
</html>
"""


def _heading(comparison: Comparison) -> str:
    models = comparison.content["models"]
    return f"{len(models)} recommender{'s' * (len(models) > 1)} on {comparison.dataset}"


def _finding(comparison: Comparison) -> str:
    """The page's first sentence: score and size of the reference and of the best other model."""
    reference, metric = comparison.reference, comparison.tested_metrics[0]
    if reference is None:
        return "No run is done."
    name = metric.replace("recall", "Recall")
    text = f"<b>{escape(reference.label)}</b> reaches {name} {short(reference.mean(metric))} in "
    text += size(reference.bytes)
    others = [entry for entry in comparison.done() if entry.model != reference.model]
    if not others:
        return text + "."
    other = max(others, key=lambda entry: entry.mean(metric))
    found = other.differences.get(metric)
    significance = ""
    if found is not None:
        p = "p &lt; .001" if found.p_holm < 0.001 else f"p = {short(found.p_holm, 3)}"
        significance = f" (over users, {p})"
    return (
        f"{text}; the best other model, <b>{escape(other.label)}</b>, reaches "
        f"{short(other.mean(metric))} in {size(other.bytes)}{significance}."
    )


def _data(comparison: Comparison) -> str:
    data = comparison.fingerprint
    parts = ", ".join(f"{data[part]['pairs']:,} {part}" for part in ("train", "valid", "test"))
    return (
        f"{comparison.dataset}: {data['users']:,} users, {data['items']:,} items; interactions: "
        f"{parts}; {data['test']['users']:,} users are tested."
    )


def _figure(number: int, picture: Picture) -> str:
    data = base64.b64encode(picture.svg.encode()).decode()
    return (
        f'<figure id="{picture.name}">'
        f'<img src="data:image/svg+xml;base64,{data}" alt="{escape(picture.alt)}">'
        f"<figcaption><b>Figure {number}.</b> {escape(picture.caption)}</figcaption></figure>"
    )


def _families(entries: Sequence[Entry]) -> str:
    """Checkboxes for the table's families, which the script shows; empty for a single family."""
    present = {entry.family for entry in entries}
    families = [family for family in [*FAMILIES, ""] if family in present]
    if len(families) < 2:
        return ""
    boxes = "\n".join(
        f'<label><input type="checkbox" value="{family}" checked> {family or "other"}</label>'
        for family in families
    )
    return (
        f'<fieldset class="families" hidden>\n<legend>Families</legend>\n{boxes}\n'
        "<output></output>\n</fieldset>"
    )


def _table(comparison: Comparison, content: Table) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in content.head)
    lines = []
    for entry, line in zip(comparison.entries, content.lines, strict=True):
        left = len(content.head) - len(line) + 1
        cells = "".join(_cell(cell, left) for cell in line)
        ours = ' class="ours"' if entry.model == "LightGNN" else ""
        lines.append(f'<tr{ours} data-family="{escape(entry.family)}">{cells}</tr>')
    body = "\n".join(lines)
    return (
        f"<table>\n<caption>{escape(content.title)}.</caption>\n<thead><tr>{head}</tr></thead>\n"
        f"<tbody>\n{body}\n</tbody>\n</table>"
    )


def _cell(cell: Cell, left: int) -> str:
    text = f"<b>{escape(cell.text)}</b>" if cell.best else escape(cell.text)
    if cell.spans_rest:
        return f'<td class="rest" colspan="{left}">{text}</td>'
    value = "" if cell.value is None else f' data-value="{cell.value:.9g}"'
    return f"<td{value}>{text}</td>"
