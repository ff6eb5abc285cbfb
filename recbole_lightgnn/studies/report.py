"""Write what a study found: JSON, CSV, Markdown, figures, and one page for all studies."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from recbole_lightgnn.comparison.drawing import png_of, svg_of
from recbole_lightgnn.studies.catalogue import STUDIES, Study
from recbole_lightgnn.studies.figure import Figure
from recbole_lightgnn.utils.files import plain, read_json, whole_file, write_json

PAGE = "index.html"
_KEYS = {"study", "dataset", "seeds", "command", "environment", "tables", "findings"}
_STYLE = """
:root { color-scheme: light; --ink: #1b1b1b; --soft: #5c5c5c; --rule: #d9d9d9; }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 62rem; color: var(--ink);
  background: #fff; font: 16px/1.5 Charter, "Bitstream Charter", Cambria, Georgia, serif; }
h1, h2 { line-height: 1.2; font-weight: 600; }
section { border-top: 1px solid var(--rule); margin-top: 2.5rem; }
figure { margin: 1.2rem 0; }
figure img { display: block; max-width: 100%; height: auto; }
figcaption, .soft, caption { color: var(--soft); font-size: .9rem; max-width: 46rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font: 13px/1.4 system-ui, sans-serif;
  font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: .4rem; }
th, td { padding: .3rem .8rem .3rem 0; text-align: right; border-top: 1px solid var(--rule); }
th:first-child, td:first-child { text-align: left; }
"""
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def write_study(study: Study, content: Mapping[str, Any], out: Path) -> str:
    """Write all files of a study, and the page of all studies in the folder.

    Args:
        study: the study.
        content: what it measured, with the keys ``study``, ``dataset``, ``seeds``, ``tables`` and
            others.
        out: folder of the studies.

    Returns:
        Tables and findings as Markdown.
    """
    content = plain(content)
    content = {**content, "findings": study.module.findings(content)}
    for figure in study.module.figures(content):
        _write_figure(out, study.name, figure)
    for table in content["tables"]:
        _write_text(out / f"{study.name}-{table['name']}.csv", _csv(table))
    text = markdown(study, content)
    _write_text(out / f"{study.name}.md", text)
    write_json(out / f"{study.name}.json", content)
    _write_text(out / PAGE, _page(out))
    return text


def markdown(study: Study, content: Mapping[str, Any]) -> str:
    """Write a study's findings and tables as Markdown."""
    parts = [f"## {study.name}: {study.question}", _origin(study, content)]
    parts += [f"- {finding}" for finding in content["findings"]]
    for table in map(_without_empty_columns, content["tables"]):
        head = "| " + " | ".join(table["columns"]) + " |"
        rule = "|---" * len(table["columns"]) + "|"
        rows = ["| " + " | ".join(map(cell, row)) + " |" for row in table["rows"]]
        parts += ["", f"{table['title']}.", "", "\n".join([head, rule, *rows])]
    return "\n".join(parts) + "\n"


def _without_empty_columns(table: Mapping[str, Any]) -> dict[str, Any]:
    """The table without columns that have no value, such as intervals of a single seed."""
    rows = table["rows"]
    kept = [
        place
        for place in range(len(table["columns"]))
        if not rows or any(cell(row[place]) for row in rows if place < len(row))
    ]
    return {
        **table,
        "columns": [table["columns"][place] for place in kept],
        "rows": [[row[place] for place in kept if place < len(row)] for row in rows],
    }


def cell(value: Any) -> str:
    """Write a value of a table: numbers below 1 with four decimals, others with four digits."""
    if value is None or value != value:
        return ""
    if not isinstance(value, float):
        return str(value)
    if abs(value) >= 1000:
        return f"{value:.0f}"
    return f"{value:.4f}" if abs(value) < 1 else f"{value:.4g}"


def _origin(study: Study, content: Mapping[str, Any]) -> str:
    seeds = ", ".join(map(str, content["seeds"]))
    commit = (content["environment"].get("git") or {}).get("commit", "")[:7] or "unknown"
    return (
        f"{study.paper} of the LightGNN paper, on {content['dataset']}, seed"
        f"{'s' * (len(content['seeds']) > 1)} {seeds}; commit {commit}, "
        f"{content['environment']['processor']}. Command: `{content['command']}`.\n"
    )


def _csv(table: Mapping[str, Any]) -> str:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(table["columns"])
    rows.writerows(table["rows"])
    return text.getvalue()


def _write_figure(out: Path, name: str, figure: Figure) -> None:
    path = out / f"{name}-{figure.name}"
    _write_text(
        path.with_suffix(".svg"), svg_of(figure.draw, size=figure.size, panels=figure.panels)
    )
    with whole_file(path.with_suffix(".png")) as partial:
        partial.write_bytes(png_of(figure.draw, size=figure.size, panels=figure.panels))


def _write_text(path: Path, text: str) -> None:
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


# --- the page ---------------------------------------------------------------------------------


def _page(out: Path) -> str:
    """The page of all studies of which the folder has results."""
    found: list[tuple[Study, Any]] = [
        (study, read_json(out / f"{name}.json")) for name, study in STUDIES.items()
    ]
    done = [(study, content) for study, content in found if _is_whole(study, content, out)]
    datasets = ", ".join(dict.fromkeys(content["dataset"] for _, content in done))
    sections = "\n".join(_section(study, content, out) for study, content in done)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>Studies on {escape(datasets)}</title>
<link rel="icon" href="data:,">
<style>{_STYLE}</style>
</head>
<body>
<main>
<h1>The paper's experiments on {escape(datasets)}</h1>
{sections}
</main>
</body>
</html>
"""


def _is_whole(study: Study, content: Any, out: Path) -> bool:
    """Whether a study's content and figures are there, as this version writes them."""
    if not isinstance(content, dict) or not content.keys() >= _KEYS:
        return False
    try:
        figures = study.module.figures(content)
    except (KeyError, IndexError, TypeError, ValueError):  # of another version
        return False
    return all((out / f"{study.name}-{figure.name}.svg").is_file() for figure in figures)


def _section(study: Study, content: Mapping[str, Any], out: Path) -> str:
    findings = "\n".join(f"<li>{escape(text)}</li>" for text in content["findings"])
    pictures = "\n".join(_picture(study, figure, out) for figure in study.module.figures(content))
    tables = "\n".join(map(_table, content["tables"]))
    return f"""<section id="{study.name}">
<h2>{escape(study.question)}</h2>
<p class="soft">{escape(_origin(study, content))}</p>
<ul>
{findings}
</ul>
{pictures}
{tables}
</section>"""


def _picture(study: Study, figure: Figure, out: Path) -> str:
    svg = (out / f"{study.name}-{figure.name}.svg").read_bytes()
    return (
        f'<figure><img src="data:image/svg+xml;base64,{base64.b64encode(svg).decode()}" '
        f'alt="{escape(figure.alt)}"><figcaption>{escape(figure.caption)}</figcaption></figure>'
    )


def _table(whole: Mapping[str, Any]) -> str:
    table = _without_empty_columns(whole)
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in table["columns"])
    body = "\n".join(f"<tr>{_cells(row)}</tr>" for row in table["rows"])
    return (
        f'<div class="scroll"><table>\n<caption>{escape(table["title"])}.</caption>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>"
    )


def _cells(row: Sequence[Any]) -> str:
    return "".join(f"<td>{escape(cell(value))}</td>" for value in row)
