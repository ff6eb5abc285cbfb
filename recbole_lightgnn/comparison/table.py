"""A comparison's table: cells once, and from them Markdown, LaTeX and the page; CSV in full."""

import csv
import io
import re
from typing import NamedTuple

from recbole_lightgnn.comparison.results import Comparison, Entry
from recbole_lightgnn.config.settings_diff import WITHOUT_EFFECT
from recbole_lightgnn.registry import ACCELERATED

_NAMES = {"recall": "R", "ndcg": "N"}


class Cell(NamedTuple):
    """A cell of the table.

    Attributes:
        text: without markup.
        best: whether it is the best of its column.
        rest: whether it takes the rest of the line, to say why the numbers are not there.
    """

    text: str
    best: bool = False
    rest: bool = False


class Table(NamedTuple):
    """What every form of the table is made of.

    Attributes:
        title: a sentence: what is compared.
        head: names of the columns.
        lines: cells; the last of a line may take the rest of it.
        notes: what a reader must know of the columns, and of what is missing.
    """

    title: str
    head: list[str]
    lines: list[list[Cell]]
    notes: list[str]


def table(comparison: Comparison) -> Table:
    """The table's cells, numbers rounded."""
    head = ["model", "settings", "parameters", "size"]
    head += [short_name(metric) for metric in comparison.metrics]
    head += [f"p {short_name(metric)}" for metric in comparison.judged]
    head += ["epochs / patience", "training", "ranking"]
    best = {metric: _best(comparison, metric) for metric in comparison.metrics}
    lines = [_line(entry, comparison, best) for entry in comparison.entries]
    return Table(_title(comparison), head, lines, _notes(comparison))


def _line(entry: Entry, comparison: Comparison, best: dict[str, str]) -> list[Cell]:
    label, n_seeds = entry.label, len(comparison.seeds)
    if 0 < len(entry.seeds) < n_seeds:
        label += f" ({len(entry.seeds)} of {n_seeds} seeds)"
    first = [Cell(label), Cell(entry.settings)]
    if not entry.seeds:
        return [*first, Cell("; ".join(entry.problems), rest=True)]
    cells = [Cell(count(entry.parameters)), Cell(size(entry.bytes))]
    for metric in comparison.metrics:
        shown = short(entry.mean(metric))
        deviation = entry.deviation(metric)
        text = shown if deviation is None else f"{shown} ± {short(deviation)}"
        cells.append(Cell(text, best=shown == best[metric]))
    cells += [Cell(_p(entry, comparison, metric)) for metric in comparison.judged]
    ranking = _milliseconds(entry.ranking_ms)
    limits = "" if entry.epochs is None else f"{entry.epochs} / {entry.patience}"
    return [*first, *cells, Cell(limits), Cell(duration(entry.seconds)), Cell(ranking)]


def _milliseconds(number: float) -> str:
    return f"{number:.2g} ms" if number < 99.5 else f"{number:.0f} ms"


def _best(comparison: Comparison, metric: str) -> str:
    return short(max((entry.mean(metric) for entry in comparison.done()), default=0.0))


def _p(entry: Entry, comparison: Comparison, metric: str) -> str:
    if entry is comparison.reference:
        return "reference"
    if metric not in entry.differences:
        missing = entry.users is None or comparison.reference.users is None
        return "no user data" if missing else "no common seed"
    difference = entry.differences[metric]
    direction = "−" if difference.mean < 0 else "+"
    p = "<.001" if difference.p_holm < 0.001 else short(difference.p_holm, 3)
    return f"{direction} {p}"


def _title(comparison: Comparison) -> str:
    masking = sorted({record["masking"] for record in comparison.records.values()})
    masked = f"left out of a ranking are the items of {', '.join(masking).replace('+', ' and ')}"
    seeds = ", ".join(map(str, comparison.seeds))
    plural = "s" if len(comparison.seeds) > 1 else ""
    return (
        f"{comparison.dataset}: test, seed{plural} {seeds}"
        + (f"; {masked}" if masking else "")
        + f"; epochs chosen by validation {comparison.selection}"
    )


def _notes(comparison: Comparison) -> list[str]:
    deviation = "± is the standard deviation over seeds; " if len(comparison.seeds) > 1 else ""
    notes = [f"{deviation}the best {'mean ' if deviation else ''}of a column is bold."]
    if comparison.reference and any(entry.differences for entry in comparison.done()):
        notes.append(
            f"p: paired t-test over the test users against {comparison.reference.label}, each "
            "user's metric averaged over the seeds that both have; two-sided, corrected by Holm "
            "for all tests of the table. − is worse than it, + better."
        )
        notes += [
            f"p of {entry.label}: over seeds {', '.join(map(str, entry.paired))} alone."
            for entry in comparison.done()
            if entry.differences and not entry.seeds == entry.paired == comparison.reference.seeds
        ]
    if any("/" in entry.label for entry in comparison.entries):
        notes.append("a / b: a of the model's embedding entries and b of its interactions kept.")
    notes.append(
        "parameters: numbers trained that are stored, edge weights too; size: what is stored, with "
        "indices; epochs / patience: at most (LightGNN's student: in each pruning run), and "
        "validations without a new best before it stops; training: with validation, all "
        "earlier stages and, of RecBole's models, what they compute when they are made; ranking: "
        "scores, masks, top lists and metrics, for one test user."
    )
    notes += [
        f"{', '.join(names)}: validated every {step} epochs."
        for step, names in _rarely_validated(comparison).items()
    ]
    if machines := _machines(comparison):
        notes.append(f"Times are of {'; '.join(machines)}.")
    notes.append(
        "settings: tuned, on this dataset's validation split, by a search or by as many trials as "
        "one has; default, as RecBole's yaml files or ours have them for every dataset; or by "
        "hand, some given, or the dataset's after a few trials or none."
    )
    footing = comparison.content["footing"]
    if footing.get("split_seed") is not None and not footing.get("benchmark_filename"):
        notes.append(f"One split, RecBole's, for all runs (split_seed {footing['split_seed']}).")
    for name, rival in comparison.rivals.items():
        given = ", ".join(f"{key}={value}" for key, value in rival.items() if key != "model")
        notes.append(f"{name}: {rival['model']} with {given}.")
    if names := _by_our_products(comparison):
        notes.append(
            f"{', '.join(names)}: RecBole's, by this package's sparse products; the same but for "
            "rounding."
        )
    said = {"our_products", "split_seed", *WITHOUT_EFFECT}
    given = [f"{key}={value}" for key, value in comparison.given.items() if key not in said]
    if given:
        notes.append(f"Settings given by hand: {', '.join(given)}.")
    seen = set()
    for entry in comparison.entries:
        if entry.problems and entry.seeds and entry.model not in seen:
            seen.add(entry.model)
            notes.append(f"{entry.model}: {'; '.join(entry.problems)}.")
    return notes


def _machines(comparison: Comparison) -> list[str]:
    """What the runs were timed on, each once."""
    machines = []
    for record in comparison.records.values():
        one = record["environment"]
        cores, threads = one["cores"], one["threads"]
        device = "" if one["device"] == "cpu" else f"{one['device']}, "
        machines.append(
            f"{device}{one['processor']}, {cores} core{'s' * (cores != 1)}, "
            f"{threads} thread{'s' * (threads != 1)} a run"
        )
    return list(dict.fromkeys(machines))


def _rarely_validated(comparison: Comparison) -> dict[int, list[str]]:
    """By the epochs from one validation to the next, where they are several: the models."""
    names: dict[int, list[str]] = {}
    for model in comparison.content["models"]:
        settings = [
            one["settings"] for (name, _), one in comparison.records.items() if name == model
        ]
        if settings and (step := settings[0].get("eval_step", 1)) > 1:
            names.setdefault(step, []).append(model)
    return names


def _by_our_products(comparison: Comparison) -> list[str]:
    """Names of what RecBole's graph models did by our products, a teacher's too."""
    names = []
    for (name, _), record in comparison.records.items():
        for row in record["rows"]:
            settings = row.get("settings") or record["settings"]
            known = row.get("model") in ACCELERATED and not settings.get("node_dropout")
            if known and settings.get("our_products"):
                own = row["model"] == record["model"]
                names.append(name if own else f"{name}'s {row['stage']}")
    return list(dict.fromkeys(names))


# --- forms ------------------------------------------------------------------------------------


def markdown(content: Table) -> str:
    """For a README."""
    lines = [content.title + ".", "", "| " + " | ".join(content.head) + " |"]
    lines.append("|" + "---|" * len(content.head))
    for line in content.lines:
        cells = [cell.text.replace("|", "\\|") for cell in line]
        shown = [f"**{c}**" if cell.best else c for c, cell in zip(cells, line, strict=True)]
        shown += [""] * (len(content.head) - len(shown))
        lines.append("| " + " | ".join(shown) + " |")
    return "\n".join([*lines, "", *(f"- {note}" for note in content.notes)]) + "\n"


def latex(content: Table) -> str:
    r"""A ``table`` for a paper, with ``\usepackage{booktabs}``."""
    columns = "ll" + "r" * (len(content.head) - 2)
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
            cells.append(rf"\multicolumn{{{left}}}{{l}}{{{text}}}" if cell.rest else text)
        lines.append(" & ".join(cells) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += [rf"\par\footnotesize {_tex(note)}" for note in content.notes]
    return "\n".join([*lines, r"\end{table*}"]) + "\n"


def full(comparison: Comparison) -> str:
    """CSV with every number at full precision; a model without a finished run has its reason."""
    heads = ["label", "model", "row", "settings", "seeds_done", "epochs_at_most", "patience"]
    heads += ["parameters", "bytes"]
    heads += ["entries_kept", "interactions_kept", "training_seconds", "ranking_ms_per_user"]
    for metric in comparison.metrics:
        heads += [f"{metric}_mean", f"{metric}_std"]
    for metric in comparison.judged:
        heads += [f"{metric}_difference", f"{metric}_p", f"{metric}_p_holm"]
    text = io.StringIO()
    rows = csv.DictWriter(text, [*heads, "problems"], lineterminator="\n")
    rows.writeheader()
    for entry in comparison.entries:
        row: dict[str, object] = {
            "label": entry.label,
            "model": entry.model,
            "row": entry.key,
            "settings": entry.settings,
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
            row[f"{metric}_mean"], row[f"{metric}_std"] = (
                entry.mean(metric),
                entry.deviation(metric),
            )
        for metric, found in entry.differences.items():
            row |= {f"{metric}_difference": found.mean, f"{metric}_p": found.p}
            row[f"{metric}_p_holm"] = found.p_holm
        rows.writerow(row)
    return text.getvalue()


# --- words and numbers ------------------------------------------------------------------------


def short_name(metric: str) -> str:
    """``R@20`` for ``recall@20``."""
    name, _, cutoff = metric.partition("@")
    return f"{_NAMES[name]}@{cutoff}"


def short(value: float, digits: int = 4) -> str:
    """A number below one, without the zero before the point."""
    return re.sub(r"^(-?)0\.", r"\1.", f"{value:.{digits}f}")


def size(n_bytes: float) -> str:
    """``7.0 MB``, or ``28.5 kB``; powers of ten."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= factor:
            return f"{n_bytes / factor:.1f} {unit}"
    return f"{n_bytes:.0f} B"


def count(number: float) -> str:
    """``4.45 M``, or ``27.0 k``."""
    for unit, factor in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= 0.9995 * factor:  # which three digits round to one of the unit
            return f"{number / factor:.3g} {unit}"
    return f"{number:.0f}"


def duration(seconds: float) -> str:
    """``30 ms``, ``4.2 s``, ``12 min`` or ``3.1 h``."""
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


_TEX = {sign: f"\\{sign}" for sign in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "−": "$-$",
    "+": "$+$",
    "<": "$<$",
    ">": "$>$",
}


def _tex(text: str) -> str:
    return text.translate(str.maketrans(_TEX))
