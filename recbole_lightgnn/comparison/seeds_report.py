"""Records of one split, several seeds, as a table and a picture: accuracy against size."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recbole_lightgnn.comparison.paper_numbers import METRICS, POINTS, Point
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.utils.files import check_can_draw, check_writable, write_json
from recbole_lightgnn.utils.text import must_be_one_of

Record = Mapping[str, Any]
Row = dict[str, Any]


def read_records(files: Sequence[Path]) -> list[Record]:
    """The records in the files, each one record or a list of them, by seed.

    Raises:
        InputError: if a file cannot be read or holds no record, or if records do not belong into
            one table: of another model, split or settings, or of a seed that is there already.
    """
    found = [(file, record) for file in files for record in _records_in(file)]
    seeds: dict[int, Path] = {}
    for file, record in found:
        first_file, first = found[0]
        for what, key in (("model", "model"), ("split", "dataset_fingerprint")):
            if record[key] != first[key]:
                raise InputError(f"{file} is of another {what} than {first_file}: one table each")
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
    needed = {"model", "dataset", "seed", "settings", "rows", "dataset_fingerprint"}
    for record in records:
        if not isinstance(record, dict) or not needed <= record.keys():
            raise InputError(f"{file} holds no record of a run: expected {', '.join(needed)}")
        if any("test" not in row for row in record["rows"]):
            raise InputError(f"{file} has a row without test metrics: the run has not ended")
        yield record
    if not records:
        raise InputError(f"{file} holds no record")


def _different(one: Mapping[str, Any], other: Mapping[str, Any]) -> set[str]:
    of_the_run = {"seed", "checkpoint_dir", "show_progress", "result_file"}
    keys = (one.keys() | other.keys()) - of_the_run
    return {key for key in keys if one.get(key) != other.get(key)}


def summary(records: Sequence[Record]) -> list[Row]:
    """One row a training: means over the records, and deviations.

    Returns:
        Rows with ``key``, ``seeds`` (how many), the means of ``entries_kept``,
        ``interactions_kept``, ``bytes`` and ``seconds``, and in ``test`` and ``valid``, for each of
        `METRICS`, ``mean`` and ``std`` (of the sample; 0 of one).
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
                    "mean": float(np.mean(of)),
                    "std": float(np.std(of, ddof=1)) if len(of) > 1 else 0.0,
                }
                for metric, of in values.items()
            }
        rows.append(row)
    return rows


def paper_points(records: Sequence[Record]) -> tuple[Point, ...]:
    """The paper's results on the records' split, if it is one of the paper's."""
    return POINTS.get(records[0]["dataset_fingerprint"]["train"]["sha256"], ())


def markdown(records: Sequence[Record], keys: Sequence[str] = ()) -> str:
    """The table, the paper's own results beside ours where it has the split.

    Args:
        records: of `read_records`.
        keys: of the rows to show; all, where empty.

    Raises:
        InputError: if there is no such row.
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
    """Without the zero before the point."""
    return f"{share:.{digits}f}".removeprefix("0")


def draw(records: Sequence[Record], file: Path) -> None:
    """Recall@20 and NDCG@20 against the entries kept, with the paper's points.

    Raises:
        InputError: if matplotlib is missing or the file cannot be written.
    """
    check_can_draw(file)
    from matplotlib.figure import Figure  # not pyplot: no display, no global state

    students = [row for row in summary(records) if row["key"].startswith("student")]
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    seeds = ", ".join(str(record["seed"]) for record in records)
    figure.suptitle(f"{records[0]['model']} on {records[0]['dataset']}, test, seed {seeds}")
    for axes, metric, label in zip(
        figure.subplots(1, 2), METRICS[:2], ("Recall@20", "NDCG@20"), strict=True
    ):
        kept = [row["entries_kept"] for row in students]
        mean = [row["test"][metric]["mean"] for row in students]
        std = [row["test"][metric]["std"] for row in students]
        axes.errorbar(kept, mean, yerr=std, marker="o", capsize=3, label="ours, 2 layers, d=64")
        if teachers := [row for row in summary(records) if row["key"].startswith("teacher")]:
            level = teachers[-1]["test"][metric]["mean"]  # of several, their sum is the last
            axes.axhline(level, color="C0", linestyle=":", label="our teacher")
        theirs = [p for p in paper_points(records) if metric in p.test]
        pruned = [p for p in theirs if p.entries_kept < 1]
        if pruned:
            axes.plot(
                [p.entries_kept for p in pruned],
                [p.test[metric] for p in pruned],
                marker="s",
                color="C1",
                label="paper's LightGNN",
            )
        for number, point in enumerate(p for p in theirs if p.entries_kept == 1):
            axes.plot(
                [1],
                [point.test[metric]],
                "x",
                color=f"C{2 + number}",
                label=f"paper's {point.model}",
            )
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


def run(options: Any) -> int:
    """``recbole-lightgnn report``."""
    if options.plot:
        check_can_draw(options.plot)
    if options.json:
        check_writable("--json", options.json)
    records = read_records(options.records)
    keys = [key for key in options.rows.split(",") if key]
    if options.json:  # before what is printed, whose reader may leave
        write_json(options.json, records)
    if options.plot:
        draw(records, options.plot)
    print(markdown(records, keys))
    return 0
