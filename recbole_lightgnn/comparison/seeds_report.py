"""Report on one model trained with several seeds: a table, and a plot of accuracy against size."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recbole_lightgnn.comparison.layout import renamed_record
from recbole_lightgnn.comparison.paper_numbers import METRICS, Point, split_of
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.utils.files import check_can_draw
from recbole_lightgnn.utils.text import must_be_one_of

Record = Mapping[str, Any]
Row = dict[str, Any]

_KEYS = {"model", "dataset", "seed", "settings", "rows", "dataset_fingerprint"}
# Models of the paper that are shown beside the records.
_SHOWN = ("LightGNN", "LightGCN", "SimGCL", "SGL", "NCL", "SimRec")


def read_records(files: Sequence[Path]) -> list[Record]:
    """Read records, and check that they are of one model and split with different seeds.

    Args:
        files: JSON files with one record or a list of records each. Settings may have the names of
            earlier versions.

    Returns:
        The records, sorted by seed.

    Raises:
        InputError: if a file cannot be read or holds no record, if two records differ in model,
            split or settings, or if two records have the same seed.
    """
    found = [(file, record) for file in files for record in _records_in(file)]
    seeds: dict[int, Path] = {}
    for file, record in found:
        first_file, first = found[0]
        for name, key in (("model", "model"), ("split", "dataset_fingerprint")):
            if record[key] != first[key]:
                raise InputError(f"{file} is of another {name} than {first_file}: one table each")
        if different := sorted(_different(record["settings"], first["settings"])):
            raise InputError(
                f"{file} has other settings than {first_file} ({', '.join(different)}): a mean "
                "over seeds needs the same"
            )
        if (seed := record["seed"]) in seeds:
            raise InputError(f"{file} and {seeds[seed]} are both of seed {seed}")
        seeds[seed] = file
    return sorted((record for _, record in found), key=lambda record: record["seed"])


def _records_in(file: Path) -> Iterator[Record]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{file} cannot be read as a record: {reason}") from error
    records = content if isinstance(content, list) else [content]
    for record in records:
        if not isinstance(record, dict) or not record.keys() >= _KEYS:
            raise InputError(
                f"{file} holds no record of a run: expected {', '.join(sorted(_KEYS))}"
            )
        if any("test" not in row for row in record["rows"]):
            raise InputError(f"{file} has a row without test metrics: the run has not ended")
        yield renamed_record(record)
    if not records:
        raise InputError(f"{file} holds no record")


def _different(one: Mapping[str, Any], other: Mapping[str, Any]) -> set[str]:
    """Names of the settings that differ between two records, except those that affect no result."""
    ignored = {"seed", "checkpoint_dir", "show_progress", "result_file"}
    keys = (one.keys() | other.keys()) - ignored
    return {key for key in keys if one.get(key) != other.get(key)}


def summary(records: Sequence[Record]) -> list[Row]:
    """Average the rows of several records: each row over the seeds.

    Args:
        records: records of one model, one per seed.

    Returns:
        One row for each ``key``: the ``key``; ``seeds`` (number of records); means of
        ``entries_kept``, ``interactions_kept``, ``bytes`` and ``seconds``; and under ``test`` and
        ``valid``, the ``mean`` and ``std`` of each metric in `METRICS`. ``std`` is the sample
        standard deviation, 0 for one record.
    """
    rows = []
    for same in zip(*(record["rows"] for record in records), strict=True):
        row: Row = {"key": same[0]["key"], "seeds": len(same)}
        for key in ("entries_kept", "interactions_kept", "bytes", "seconds"):
            row[key] = float(np.mean([one[key] for one in same]))
        for split in ("valid", "test"):
            values = {m: [one[split][m] for one in same] for m in METRICS if m in same[0][split]}
            row[split] = {
                metric: {
                    "mean": float(np.mean(scores)),
                    "std": float(np.std(scores, ddof=1)) if len(scores) > 1 else 0.0,
                }
                for metric, scores in values.items()
            }
        rows.append(row)
    return rows


def paper_points(records: Sequence[Record]) -> list[Point]:
    """The paper's results for the models `_SHOWN` on the records' split; may be empty."""
    split = split_of(records[0]["dataset_fingerprint"])
    points = () if split is None else split.points
    return [point for name in _SHOWN for point in points if point.model == name]


def markdown(records: Sequence[Record], keys: Sequence[str] = ()) -> str:
    """Write the table as Markdown, with the paper's results if they are on the records' split.

    Args:
        records: records of one model, one per seed.
        keys: keys of the records' rows to show; empty to show all rows.

    Raises:
        InputError: if the records have no row for one of ``keys``.
    """
    rows = summary(records)
    for key in keys:
        must_be_one_of("--rows", key, [row["key"] for row in rows])
    seeds = ", ".join(str(record["seed"]) for record in records)
    lines = [
        f"{records[0]['model']} on {records[0]['dataset']}, test, seeds {seeds}",
        "",
        "| model | entries / interactions kept | bytes | R@20 | N@20 | R@40 | N@40 |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if keys and row["key"] not in keys:
            continue
        kept = f"{_short(row['entries_kept'], 2)} / {_short(row['interactions_kept'], 2)}"
        cells = [row["key"], kept, f"{row['bytes'] / 1e6:.1f} MB"]
        cells += [_cell(row["test"].get(metric)) for metric in METRICS]
        lines.append("| " + " | ".join(cells) + " |")
    for point in paper_points(records):
        kept = f"{_short(point.entries_kept, 2)} / {_short(point.interactions_kept, 2)}"
        values = [f"*{_short(point.test[m], 4)}*" if m in point.test else "" for m in METRICS]
        lines.append("| " + " | ".join([f"*paper's {point.model}*", kept, "", *values]) + " |")
    return "\n".join(lines)


def _cell(value: Mapping[str, float] | None) -> str:
    if value is None:
        return ""
    deviation = f" ± {_short(value['std'], 4)}" if value["std"] else ""
    return f"{_short(value['mean'], 4)}{deviation}"


def _short(share: float, digits: int) -> str:
    """Write a share as text, without the zero before the decimal point."""
    return f"{share:.{digits}f}".removeprefix("0")


def draw(records: Sequence[Record], file: Path) -> None:
    """Plot Recall@20 and NDCG@20 against the share of embedding entries kept.

    The paper's results are also shown, if they are on the records' split.

    Args:
        records: records of one model, one for each seed.
        file: path of the picture to write; its suffix decides the picture's format.

    Raises:
        InputError: if matplotlib is missing or the file cannot be written.
    """
    check_can_draw(file)
    from matplotlib.figure import Figure  # not pyplot: no display, no global state

    rows, paper = summary(records), paper_points(records)
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    seeds = ", ".join(str(record["seed"]) for record in records)
    figure.suptitle(f"{records[0]['model']} on {records[0]['dataset']}, test, seed {seeds}")
    for axes, metric, label in zip(
        figure.subplots(1, 2), METRICS[:2], ("Recall@20", "NDCG@20"), strict=True
    ):
        _draw_ours(axes, rows, metric)
        _draw_paper(axes, [point for point in paper if metric in point.test], metric)
        axes.set_xscale("log")
        axes.set_xticks([1, 0.5, 0.33, 0.2, 0.1], ["1", ".5", ".33", ".2", ".1"])
        axes.minorticks_off()
        axes.invert_xaxis()
        axes.set_xlabel("embedding entries kept")
        axes.set_title(label, loc="left", fontsize="medium")
        axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    try:
        figure.savefig(file, dpi=150)
    except OSError as error:
        raise InputError(f"--plot {file} cannot be written: {error.strerror or error}") from error


def _draw_ours(axes: Any, rows: Sequence[Row], metric: str) -> None:
    """Plot our student after each pruning run, and our teacher as a horizontal line."""
    students = [row for row in rows if row["key"].startswith("student")]
    kept = [row["entries_kept"] for row in students]
    mean = [row["test"][metric]["mean"] for row in students]
    std = [row["test"][metric]["std"] for row in students]
    axes.errorbar(kept, mean, yerr=std, marker="o", capsize=3, label="ours, 2 layers, d=64")
    if teachers := [row for row in rows if row["key"].startswith("teacher")]:
        level = teachers[-1]["test"][metric]["mean"]  # of several teachers, the last row is the sum
        axes.axhline(level, color="C0", linestyle=":", label="our teacher")


def _draw_paper(axes: Any, points: Sequence[Point], metric: str) -> None:
    """Plot the paper's results: LightGNN as a line, and the paper's other models as points."""
    if pruned := [point for point in points if point.entries_kept < 1]:
        axes.plot(
            [point.entries_kept for point in pruned],
            [point.test[metric] for point in pruned],
            marker="s",
            color="C1",
            label="paper's LightGNN",
        )
    for number, point in enumerate(point for point in points if point.entries_kept == 1):
        axes.plot(
            [1], [point.test[metric]], "x", color=f"C{2 + number}", label=f"paper's {point.model}"
        )
