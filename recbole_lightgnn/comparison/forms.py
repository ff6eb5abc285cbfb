"""Write the table of a comparison as Markdown, LaTeX or CSV.

Numbers are rounded, except in the CSV file.
"""

import csv
import io

from recbole_lightgnn.comparison.entry import Entry
from recbole_lightgnn.comparison.paper_numbers import METRICS
from recbole_lightgnn.comparison.results import Comparison
from recbole_lightgnn.comparison.table import Table, has_paper


def markdown(content: Table) -> str:
    """Write the table as Markdown, with its notes as a list."""
    lines = [content.title + ".", "", "| " + " | ".join(content.head) + " |"]
    lines.append("|" + "---|" * len(content.head))
    for line in content.lines:
        cells = [cell.text.replace("|", "\\|") for cell in line]
        shown = [f"**{c}**" if cell.best else c for c, cell in zip(cells, line, strict=True)]
        shown += [""] * (len(content.head) - len(shown))
        lines.append("| " + " | ".join(shown) + " |")
    return "\n".join([*lines, "", *(f"- {note}" for note in content.notes)]) + "\n"


def latex(content: Table) -> str:
    r"""Write the table as a LaTeX ``table*``, which needs ``\usepackage{booktabs}``."""
    columns = "lll" + "r" * (len(content.head) - 3)
    lines = [
        r"\begin{table*}",
        r"\centering",
        rf"\caption{{{_tex(content.title)}.}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        " & ".join(map(_tex, content.head)) + r" \\",
        r"\midrule",
    ]
    for line in content.lines:
        cells = []
        for cell in line:
            text = rf"\textbf{{{_tex(cell.text)}}}" if cell.best else _tex(cell.text)
            left = len(content.head) - len(line) + 1
            cells.append(rf"\multicolumn{{{left}}}{{l}}{{{text}}}" if cell.spans_rest else text)
        lines.append(" & ".join(cells) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += [rf"\par\footnotesize {_tex(note)}" for note in content.notes]
    return "\n".join([*lines, r"\end{table*}"]) + "\n"


def full_csv(comparison: Comparison) -> str:
    """Write the table as CSV, with unrounded numbers and the reasons why runs are missing."""
    text = io.StringIO()
    rows = csv.DictWriter(text, _csv_heads(comparison), lineterminator="\n")
    rows.writeheader()
    for entry in comparison.entries:
        row = _csv_row(entry)
        if comparison.popularity is not None:
            row["warning"] = entry.warning
        rows.writerow(row)
    return text.getvalue()


def _csv_heads(comparison: Comparison) -> list[str]:
    heads = ["label", "model", "row", "family", "settings", "seeds_done", "epochs_at_most"]
    heads += ["patience", "parameters", "bytes"]
    heads += ["entries_kept", "interactions_kept", "training_seconds", "ranking_ms_per_user"]
    for metric in comparison.metrics:
        heads += [f"{metric}_mean", f"{metric}_std"]
    if has_paper(comparison):
        heads += [*(f"paper_{metric}" for metric in METRICS), "vs_paper"]
    for metric in comparison.tested_metrics:
        heads += [f"{metric}_difference", f"{metric}_p", f"{metric}_p_holm"]
    if comparison.popularity is not None:  # an older comparison keeps its columns
        heads.append("warning")
    return [*heads, "problems"]


def _csv_row(entry: Entry) -> dict[str, object]:
    row: dict[str, object] = {
        "label": entry.label,
        "model": entry.model,
        "row": entry.key,
        "family": entry.family,
        "settings": entry.settings_source,
        "seeds_done": " ".join(map(str, entry.seeds)),
        "problems": "; ".join(entry.problems),
    }
    if entry.seeds:
        row |= {"epochs_at_most": entry.epochs, "patience": entry.patience}
        row |= {"parameters": entry.parameters, "bytes": entry.bytes}
        row |= {"entries_kept": entry.entries_kept, "training_seconds": entry.seconds}
        row |= {"interactions_kept": entry.interactions_kept}
        row |= {"ranking_ms_per_user": entry.ranking_ms}
    for metric in entry.test:
        row |= {f"{metric}_mean": entry.mean(metric), f"{metric}_std": entry.deviation(metric)}
    if entry.paper is not None:
        row |= {f"paper_{metric}": score for metric, score in entry.paper.test.items()}
        row["vs_paper"] = entry.paper.verdict(entry.means())
    for metric, found in entry.differences.items():
        row |= {f"{metric}_difference": found.mean, f"{metric}_p": found.p}
        row[f"{metric}_p_holm"] = found.p_holm
    return row


_TEX = str.maketrans(
    {
        **{sign: f"\\{sign}" for sign in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "±": r"$\pm$",
        "−": "$-$",
        "+": "$+$",
        "<": "$<$",
        ">": "$>$",
    }
)


def _tex(text: str) -> str:
    return text.translate(_TEX)
