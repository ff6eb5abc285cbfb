"""Make the table of a comparison: its cells, with rounded numbers, and the notes below it."""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

from recbole_lightgnn.comparison.entry import Entry
from recbole_lightgnn.comparison.paper_numbers import METRICS, PAPER_NAMES, PAPER_TEACHERS
from recbole_lightgnn.comparison.results import Comparison
from recbole_lightgnn.comparison.study import budget_of
from recbole_lightgnn.config.settings_diff import WITHOUT_EFFECT
from recbole_lightgnn.registry import ACCELERATED

_NAMES = {"recall": "R", "ndcg": "N"}
_OF_PAPER = METRICS[:2]  # the paper's metrics that the table shows


class Cell(NamedTuple):
    """A cell of the table.

    Attributes:
        text: text of the cell, without markup.
        best: whether the cell holds the best value of its column.
        spans_rest: whether the cell fills the rest of the line, to say why there are no numbers.
        value: unrounded number by which the page sorts the lines; ``None`` for a text.
    """

    text: str
    best: bool = False
    spans_rest: bool = False
    value: float | None = None


class Table(NamedTuple):
    """The content of a comparison's table, without markup.

    Attributes:
        title: text that says what is compared.
        head: names of the columns.
        lines: cells of each line; if a line has fewer cells than columns, its last cell spans the
            remaining columns.
        notes: sentences below the table, which explain the columns and list missing results.
    """

    title: str
    head: list[str]
    lines: list[list[Cell]]
    notes: list[str]


def table(comparison: Comparison) -> Table:
    """Make the table of a comparison, with rounded numbers."""
    head = ["model", "family", "settings", "parameters", "size"]
    head += [short_name(metric) for metric in comparison.metrics]
    if has_paper(comparison):
        head += [*(f"paper {short_name(metric)}" for metric in _OF_PAPER), "vs. paper"]
    head += [f"p {short_name(metric)}" for metric in comparison.tested_metrics]
    head += ["epochs / patience", "training", "ranking"]
    best = {metric: _best(comparison, metric) for metric in comparison.metrics}
    lines = [_line(entry, comparison, best) for entry in comparison.entries]
    return Table(_title(comparison), head, lines, _notes(comparison))


def _line(entry: Entry, comparison: Comparison, best: dict[str, str]) -> list[Cell]:
    label, n_seeds = entry.label, len(comparison.seeds)
    if 0 < len(entry.seeds) < n_seeds:
        label += f" ({len(entry.seeds)} of {n_seeds} seeds)"
    first = [Cell(label), Cell(entry.family), Cell(entry.settings_source)]
    if not entry.seeds:
        return [*first, Cell("; ".join(entry.problems), spans_rest=True)]
    cells = [_number(entry.parameters, count), _number(entry.bytes, size)]
    for metric in comparison.metrics:
        shown = short(entry.mean(metric))
        deviation = entry.deviation(metric)
        text = shown if deviation is None else f"{shown} ± {short(deviation)}"
        cells.append(Cell(text, best=shown == best[metric], value=entry.mean(metric)))
    if has_paper(comparison):
        cells += _paper_cells(entry)
    cells += [_p(entry, comparison, metric) for metric in comparison.tested_metrics]
    limits = "" if entry.epochs is None else f"{entry.epochs} / {entry.patience}"
    times = [_number(entry.seconds, duration), _number(entry.ranking_ms, _milliseconds)]
    return [*first, *cells, Cell(limits, value=entry.epochs), *times]


def _number(value: float, text: Callable[[float], str]) -> Cell:
    return Cell(text(value), value=value)


def has_paper(comparison: Comparison) -> bool:
    """Whether the paper has a result for at least one line of the table."""
    return any(entry.paper for entry in comparison.entries)


def _paper_cells(entry: Entry) -> list[Cell]:
    """The paper's Recall@20 and NDCG@20, as printed, and whether ours are at least as large."""
    if entry.paper is None:
        return [Cell("")] * (len(_OF_PAPER) + 1)
    test, digits = entry.paper.test, entry.paper.digits
    cells = [
        _number(test[metric], partial(short, digits=digits)) if metric in test else Cell("")
        for metric in _OF_PAPER
    ]
    return [*cells, Cell(entry.paper.verdict(entry.means()))]


def _milliseconds(number: float) -> str:
    return f"{number:.2g} ms" if number < 99.5 else f"{number:.0f} ms"


def _best(comparison: Comparison, metric: str) -> str:
    return short(max((entry.mean(metric) for entry in comparison.done()), default=0.0))


def _p(entry: Entry, comparison: Comparison, metric: str) -> Cell:
    """Sign and corrected p-value of the difference from the reference, or why it is missing.

    The page sorts these cells from clearly worse to clearly better than the reference.
    """
    reference = comparison.reference
    if entry is reference:
        return Cell("reference", value=0.0)
    if metric not in entry.differences:
        missing = entry.users is None or reference is None or reference.users is None
        return Cell("no user data" if missing else "no common seed")
    difference = entry.differences[metric]
    direction = "−" if difference.mean < 0 else "+"
    p = "<.001" if difference.p_holm < 0.001 else short(difference.p_holm, 3)
    return Cell(f"{direction} {p}", value=math.copysign(1 - difference.p_holm, difference.mean))


def _title(comparison: Comparison) -> str:
    masking = sorted({record["masking"] for record in comparison.records.values()})
    masked = f"a user's ranking leaves out the items of {', '.join(masking).replace('+', ' and ')}"
    seeds = ", ".join(map(str, comparison.seeds))
    protocol = comparison.content["protocol"]
    plural = "s" if len(comparison.seeds) > 1 else ""
    return (
        f"{comparison.dataset}: test, seed{plural} {seeds}"
        + (f"; {masked}" if masking else "")
        + f"; validation {comparison.selection} chooses the epochs"
        + ("; then trained on train and validation" if protocol.get("refit") else "")
    )


# --- notes ------------------------------------------------------------------------------------

_COLUMNS = (
    "family: kind of the model. An earlier stage has the family of its own model. LightGNN's "
    "student is distilled before it is pruned.",
    "parameters: number of trained values left after pruning, edge weights included.",
    "size: bytes of the model's arrays, indices included.",
    "epochs / patience: largest number of epochs (of LightGNN's student, in each pruning run); "
    "number of validations without a new best score before training stops.",
    "training: time of training, including validation and all earlier stages. For RecBole's "
    "models, it includes what they compute before the first epoch.",
    "ranking: time for one test user, including scores, masks, top lists and metrics.",
)
_PAPER = (
    "paper: the numbers that the LightGNN paper prints (Tables 2 and 3, and its supplement). vs. "
    "paper: above if the test R@20 and N@20 here, rounded as printed, are both at least the "
    "paper's; below if both are less; else one word for each (R, N), or for R alone if the paper "
    "has no N@20. In the paper, a ranking leaves out the items of train, most models have an "
    "embedding size of 32, and the published code chooses the epochs on test."
)
_UNPUBLISHED = " The paper's split is not published: only the counts are known to be the same."
_SEARCHED = (
    "settings tuned, N trials: the best on this dataset's validation split of N trainings, which "
    "a search proposed ({}). The search is the same for every model. tuned, without a number: each "
    "run of the model searches for its teachers itself, with the same limits. not tuned: the model "
    "has no search space, or its search is not finished."
)
_SETTINGS = (
    "settings tuned: found on this dataset's validation split, by a search or by at least as many "
    "manual trials. default: from RecBole or this package, the same for every dataset. by hand: "
    "some are set in the command or the variant, or for this dataset after few manual trials or "
    "none."
)


def _notes(comparison: Comparison) -> list[str]:
    return [
        *(f"{e.label}: {e.warning}." for e in comparison.entries if e.warning),
        *_notes_on_numbers(comparison),
        *_notes_on_paper(comparison),
        *_COLUMNS,
        *_notes_on_training(comparison),
        _settings_note(comparison),
        *_notes_on_settings(comparison),
        *_notes_on_missing_seeds(comparison),
    ]


def _notes_on_numbers(comparison: Comparison) -> list[str]:
    deviation = "± is the standard deviation over seeds; " if len(comparison.seeds) > 1 else ""
    notes = [f"{deviation}the best {'mean ' if deviation else ''}of a column is bold."]
    if comparison.reference and any(entry.differences for entry in comparison.done()):
        notes.append(
            f"p: two-sided paired t-test over the test users. It compares a model with "
            f"{comparison.reference.label}, after averaging each user's metric over the seeds of "
            "both models. Holm's method corrects for all tests of the table. − means worse than "
            f"{comparison.reference.label}, + better."
        )
        notes += [
            f"p of {entry.label}: over seeds {', '.join(map(str, entry.paired_seeds))} alone."
            for entry in comparison.done()
            if entry.differences
            and not entry.seeds == entry.paired_seeds == comparison.reference.seeds
        ]
    if any("/" in entry.label for entry in comparison.entries):
        notes.append(
            "a / b: shares of the embedding entries (a) and of the interactions (b) that are kept."
        )
    return notes


def _notes_on_paper(comparison: Comparison) -> list[str]:
    shown = {entry.model: entry.paper for entry in comparison.entries if entry.paper}
    if comparison.paper is None or not shown:
        return []
    notes = [_PAPER if comparison.paper.is_published else _PAPER + _UNPUBLISHED]
    if names := [f"{PAPER_NAMES[one]} for {one}" for one in shown if one in PAPER_NAMES]:
        notes.append(f"Other names in the paper: {', '.join(names)}.")
    for model, point in shown.items():
        if not point.says_shares:
            notes.append(f"{model}: the paper does not say which shares it keeps.")
        if point.model in comparison.paper.oddities:
            notes.append(f"{model}: {comparison.paper.oddities[point.model]}.")
    return notes + _notes_on_teachers(comparison, shown)


def _notes_on_teachers(comparison: Comparison, models: Iterable[str]) -> list[str]:
    """Name the teacher of each model that has another teacher than in the paper."""
    notes = []
    for (model, _), record in comparison.records.items():
        own, paper = record["settings"].get("teacher"), PAPER_TEACHERS.get(model)
        if model in models and paper and own != paper:
            notes.append(f"{model}: the paper's teacher is {paper} with 8 layers; here {own}.")
    return list(dict.fromkeys(notes))


def _notes_on_training(comparison: Comparison) -> list[str]:
    notes = [
        f"{', '.join(names)}: validated every {step} epochs."
        for step, names in _rarely_validated(comparison).items()
    ]
    if machines := _machines(comparison):
        notes.append(f"Times are of {'; '.join(machines)}.")
    return notes


def _settings_note(comparison: Comparison) -> str:
    budget = budget_of(comparison.content)
    return _SETTINGS if budget is None else _SEARCHED.format(budget)


def _notes_on_settings(comparison: Comparison) -> list[str]:
    notes = []
    protocol = comparison.content["protocol"]
    if protocol.get("split_seed") is not None and not protocol.get("benchmark_filename"):
        notes.append(f"One split, RecBole's, for all runs (split_seed {protocol['split_seed']}).")
    for name, variant in comparison.variants.items():
        settings = {key: value for key, value in variant.items() if key != "model"}
        notes.append(f"{name}: {variant['model']} with {_listed(settings)}.")
    if names := _accelerated(comparison):
        notes.append(
            f"{', '.join(names)}: RecBole's own, accelerated by this package's sparse kernels; the "
            "results differ only by rounding."
        )
    noted_elsewhere = {"accelerate", "split_seed", *WITHOUT_EFFECT}
    given = {key: v for key, v in comparison.given.items() if key not in noted_elsewhere}
    if given:
        notes.append(f"Settings given by hand: {_listed(given)}.")
    return notes


def _listed(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in settings.items())


def _notes_on_missing_seeds(comparison: Comparison) -> list[str]:
    problems = {entry.model: entry.problems for entry in comparison.entries if entry.seeds}
    return [f"{model}: {'; '.join(reasons)}." for model, reasons in problems.items() if reasons]


def _machines(comparison: Comparison) -> list[str]:
    """Descriptions of the machines on which the runs were timed, each listed once."""
    machines = []
    for record in comparison.records.values():
        environment = record["environment"]
        cores, threads = environment["cores"], environment["threads"]
        device = "" if environment["device"] == "cpu" else f"{environment['device']}, "
        machines.append(
            f"{device}{environment['processor']}, {cores} core{'s' * (cores != 1)}, "
            f"{threads} thread{'s' * (threads != 1)} a run"
        )
    return list(dict.fromkeys(machines))


def _rarely_validated(comparison: Comparison) -> dict[int, list[str]]:
    """Models that are not validated after every epoch, by the number of epochs per validation."""
    names: dict[int, list[str]] = {}
    for model in comparison.content["models"]:
        settings = [r["settings"] for (name, _), r in comparison.records.items() if name == model]
        if settings and (step := settings[0].get("eval_step", 1)) > 1:
            names.setdefault(step, []).append(model)
    return names


def _accelerated(comparison: Comparison) -> list[str]:
    """Names of RecBole's graph models, teachers included, that were trained with our kernels."""
    names = []
    for (name, _), record in comparison.records.items():
        for row in record["rows"]:
            settings = row.get("settings") or record["settings"]
            supported = row.get("model") in ACCELERATED and not settings.get("node_dropout")
            if supported and settings.get("accelerate"):
                is_stage = row["model"] != record["model"]
                names.append(f"{name}'s {row['stage']}" if is_stage else name)
    return list(dict.fromkeys(names))


# --- words and numbers ------------------------------------------------------------------------


def short_name(metric: str) -> str:
    """Short name of a metric for the table's head: ``R@20`` for ``recall@20``."""
    name, _, cutoff = metric.partition("@")
    return f"{_NAMES[name]}@{cutoff}"


def short(value: float, digits: int = 4) -> str:
    """Write a number as text, with no zero before the decimal point if the number is below 1."""
    return re.sub(r"^(-?)0\.", r"\1.", f"{value:.{digits}f}")


def size(n_bytes: float) -> str:
    """Write a number of bytes as text: ``7.0 MB`` or ``28.5 kB`` (1 kB is 1000 bytes)."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= factor:
            return f"{n_bytes / factor:.1f} {unit}"
    return f"{n_bytes:.0f} B"


def count(number: float) -> str:
    """Write a number as text with at most three digits: ``4.45 M`` or ``27 k``."""
    for unit, factor in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= 0.9995 * factor:  # from here on, three digits round up to 1 of the unit
            return f"{number / factor:.3g} {unit}"
    return f"{number:.0f}"


def duration(seconds: float) -> str:
    """Write a duration as text: ``30 ms``, ``4.2 s``, ``12 min`` or ``3.1 h``."""
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
