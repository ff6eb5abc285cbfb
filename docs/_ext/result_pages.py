"""Tables and pictures of results, made from the records in ``results/``."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from recbole_lightgnn.comparison import seeds_report
from recbole_lightgnn.comparison.figures import pictures
from recbole_lightgnn.comparison.paper_numbers import METRICS
from recbole_lightgnn.comparison.results import Comparison
from recbole_lightgnn.comparison.table import count, duration, short, size, table
from recbole_lightgnn.config.aliases import SETTINGS

_SPLITS = ("gowalla", "yelp")
_RIVALS = 3  # best rivals shown for each dataset
# Names that older records use, and today's.
_TODAY = {
    "RecBole's, 40960000 scores a batch": "RecBole's, 40,960,000 scores in a batch",
    "RecBole's, 4096": "RecBole's, 4096 scores in a batch",
    "by our products": "accelerated",
    "RecBole's, by our products": "RecBole's, accelerated",
    "pairwise distillation": "pairwise distillation (Eq. 5) alone",
    "uniformity": "uniformity (Eq. 9)",
    "interaction loss in the first run": "interaction loss in the first run only",
    "no importance distillation": "no importance distillation (Eq. 8)",
}


def fragments(results: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of each file that a page of results includes.

    Args:
        results: the folder of the records.
    """
    for split in _SPLITS:
        yield f"seeds-{split}.md", _seeds(results / f"{split}.json")
        yield f"{split}.png", _seeds_picture(results / f"{split}.json")
        yield f"ablation-{split}.md", _ablation(results / f"ablation-{split}.json")
        yield f"ablation-{split}-short.md", _short_ablation(results / f"ablation-{split}.json")
        yield f"variants-{split}.md", _variants(results / f"{split}-rivals.json")
        yield f"export-{split}.md", _export(results / f"export-{split}.json")
    yield "summary.md", _summary(results)
    yield "paper-recipe.md", _paper_recipe(results)
    for folder in sorted(results.glob("comparison-*")):
        yield from _comparison(folder)
    yield "any-dataset.md", _any_dataset(sorted(results.glob("comparison-any-*")))
    yield "searches.md", _searches(sorted(results.glob("tuning-*.json")))
    yield "single-runs.md", _single_runs(results)
    for file in sorted(results.glob("bench-*.json")):
        yield f"{file.stem}.md", _bench(file)
    yield "scale.md", _scale(results / "scale.json")


# --- pieces -------------------------------------------------------------------------------------


def _read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def _markdown(head: Sequence[str], lines: Iterable[Sequence[str]]) -> list[str]:
    rows = [head, ["---"] * len(head), *lines]
    return ["| " + " | ".join(row) + " |" for row in rows]


def _encoded(*parts: str) -> bytes:
    return ("\n".join(parts) + "\n").encode()


def _conditions(records: Sequence[Mapping[str, Any]], *files: Path) -> str:
    """Where numbers come from: file, seeds, commits, machine."""
    names = ", ".join(f"`results/{file.name}`" for file in files)
    parts = [f"Records: {names}."]
    if seeds := sorted({str(record["seed"]) for record in records if "seed" in record}):
        parts.append(f"Seed{'s' * (len(seeds) > 1)} {', '.join(seeds)}.")
    where = [record["environment"] for record in records]
    commits = dict.fromkeys(
        f"`{one['git']['commit'][:7]}`"
        + (" with uncommitted changes" if one["git"]["dirty"] else "")
        for one in where
        if one["git"]
    )
    if commits:
        parts.append(f"Commit{'s' * (len(commits) > 1)} {', '.join(commits)}.")
    machines = dict.fromkeys(
        f"{one['processor']}, {one['cores']} cores, {one['threads']} "
        f"thread{'s' * (one['threads'] != 1)}"
        for one in where
    )
    parts.append(f"Hardware: {'; '.join(machines)}.")
    return " ".join(parts)


def _metrics(values: Mapping[str, float]) -> list[str]:
    return [short(values[metric]) for metric in METRICS]


_METRIC_HEADS = ["R@20", "N@20", "R@40", "N@40"]


# --- LightGNN with several seeds ----------------------------------------------------------------


def _seeds(file: Path) -> bytes:
    records = seeds_report.read_records([file])
    return _encoded(seeds_report.markdown(records), "", _conditions(records, file))


def _summary(results: Path) -> bytes:
    """The paper's LightGCN and LightGNN beside ours, on both splits."""
    lines: dict[str, list[str]] = {}
    records, files = [], []
    for split in _SPLITS:
        files.append(results / f"{split}.json")
        own = seeds_report.read_records([files[-1]])
        records += own
        points = seeds_report.paper_points(own)
        rows = {row["key"]: row for row in seeds_report.summary(own)}
        lightgcn = next(one for one in points if one.model == "LightGCN")
        theirs = [one for one in points if one.model == "LightGNN"]
        for label, point in (
            ("*paper's LightGCN*", lightgcn),
            ("*paper's LightGNN, a third of the entries*", theirs[0]),
            ("*paper's LightGNN, smallest*", theirs[-1]),
        ):
            kept = (point.entries_kept, point.interactions_kept)
            cells = [_kept(*kept), f"*{short(point.test['recall@20'])}*", ""]
            lines.setdefault(label, []).extend(cells)
        for label, key in (
            ("LightGNN here, a third of the entries", "student-05"),
            ("LightGNN here, smallest", "student-11"),
            ("our teacher", "teacher"),
        ):
            row = rows[key]
            values = row["test"]["recall@20"]
            cells = [
                _kept(row["entries_kept"], row["interactions_kept"]),
                f"{short(values['mean'])} ± {short(values['std'])}",
                size(row["bytes"]),
            ]
            lines.setdefault(label, []).extend(cells)
    head = ["model"]
    for split in _SPLITS:
        head += [f"{split}, kept", "test R@20", "size"]
    table_lines = [[label, *cells] for label, cells in lines.items()]
    return _encoded(*_markdown(head, table_lines), "", _conditions(records, *files))


def _kept(entries: float, interactions: float) -> str:
    return " / ".join("1" if one == 1 else short(one, 2) for one in (entries, interactions))


def _seeds_picture(file: Path) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder, "picture.png")
        seeds_report.draw(seeds_report.read_records([file]), picture)
        return picture.read_bytes()


def _paper_recipe(results: Path) -> bytes:
    lines, records, files = [], [], []
    for split in _SPLITS:
        for label, name in (("paper's recipe", f"paper-recipe-{split}"), ("ours", split)):
            file = results / f"{name}.json"
            content = _read(file)
            record = content if isinstance(content, dict) else content[0]
            rows = {row["key"]: row for row in record["rows"]}
            keys = ("teacher", "intermediate", "student-00", "student-05", "student-10")
            cells = [
                short(rows[key]["test"]["recall@20"]) if key in rows else ""
                for key in (*keys, "student-11")
            ]
            lines.append([f"{split}, {label}", *cells])
            records.append(record)
            files.append(file)
    head = ["test R@20, seed 1", "teacher", "intermediate", "student, unpruned"]
    head += ["run 5", "run 10", "run 11"]
    return _encoded(*_markdown(head, lines), "", _conditions(records, *files))


def _variants(file: Path) -> bytes:
    records = _read(file)
    lines = []
    for record in records:
        last = record["rows"][-1]
        cells = [record["name"], count(last["entries"]), size(last["bytes"])]
        lines.append([*cells, *_metrics(last["test"])])
    head = ["model", "entries", "bytes", *_METRIC_HEADS]
    return _encoded(*_markdown(head, lines), "", _conditions(records, file))


def _single_runs(results: Path) -> bytes:
    names = ("ml-100k-lightgnn", "ml-100k-lightgcn")
    names += ("gowalla-lightgcn-lightgcn", "gowalla-lightgcn-simgcl")
    files = [results / f"{name}.json" for name in names]
    records = [_read(file) for file in files]
    lines = []
    for record in records:
        last = record["rows"][-1]
        kept = " / ".join(short(last[key], 2) for key in ("entries_kept", "interactions_kept"))
        first = [record["model"], record["dataset"], str(record["seed"]), kept]
        lines.append([*first, *_metrics(record["test"]), duration(record["seconds"])])
    head = ["model", "dataset", "seed", "kept", *_METRIC_HEADS, "whole run"]
    return _encoded(*_markdown(head, lines), "", _conditions(records, *files))


# --- comparisons --------------------------------------------------------------------------------


def _comparison(folder: Path) -> Iterator[tuple[str, bytes]]:
    comparison = Comparison(folder)
    content = table(comparison)
    lines = [
        [f"**{cell.text}**" if cell.best else cell.text for cell in line] for line in content.lines
    ]
    notes = [f"- {note}" for note in content.notes]
    yield (
        f"{folder.name}.md",
        _encoded(
            f"{content.title}.",
            "",
            *_markdown(content.head, lines),
            "",
            f"Records: `results/{folder.name}/`. Notes of the table:",
            "",
            *notes,
        ),
    )
    shown = []
    for picture in pictures(comparison):
        name = f"{folder.name}-{picture.name}.svg"
        yield name, picture.svg.encode()
        alt = " ".join(picture.alt.split())
        shown += [f"```{{figure}} ../_generated/{name}", f":alt: {alt}", "", picture.caption]
        shown += ["```", ""]
    yield f"{folder.name}-pictures.md", _encoded(*shown)


def _any_dataset(folders: Iterable[Path]) -> bytes:
    """LightGNN and its best rivals on each dataset where all settings were found by searches."""
    columns = ["model", "size", "R@20", "N@20", "p R@20", "p N@20", "training"]
    lines = []
    for comparison in map(Comparison, folders):
        content = table(comparison)
        shown = [one for one in zip(comparison.entries, content.lines, strict=True) if one[0].seeds]
        ours = [one for one in shown if one[0].model == "LightGNN"]
        rivals = [one for one in shown if one[0].model != "LightGNN"]
        rivals.sort(key=lambda one: -one[0].mean("recall@20"))
        for _, line in ours + rivals[:_RIVALS]:
            cells = dict(zip(content.head, line, strict=True))
            lines.append([comparison.dataset, *(cells[column].text for column in columns)])
    return _encoded(*_markdown(["dataset", *columns], lines))


# --- ablations, export, searches ----------------------------------------------------------------


def _ablation(file: Path) -> bytes:
    from recbole_lightgnn.tuning.ablation import markdown

    results = _read(file)
    renamed = [{**one, "variant": _ingredient(one)} for one in results]
    parts = []
    for split in ("valid", "test"):
        title, _, *lines = markdown(renamed, split).splitlines()
        parts += [f"{title[0].upper()}{title[1:]}.", "", *lines, ""]
    return _encoded(*parts, _conditions(results, file))


def _short_ablation(file: Path) -> bytes:
    """Differences of test Recall@20 from the whole recipe, times 10^4: means and four students."""
    metric, keys = "recall@20", ("student-00", "student-05", "student-10", "student-11")
    whole, *others = _read(file)
    rows = {row["key"]: row for row in whole["rows"] if row["key"].startswith("student")}

    def mean(result: Mapping[str, Any], split: str) -> float:
        values = [row[split][metric] for row in result["rows"] if row["key"] in rows]
        return sum(values) / len(values)

    lines = []
    for one in others:
        own = {row["key"]: row["test"][metric] for row in one["rows"]}
        differences = [mean(one, split) - mean(whole, split) for split in ("valid", "test")]
        differences += [own[key] - rows[key]["test"][metric] for key in keys]
        cells = [_signed(1e4 * value) for value in differences]
        lines.append((differences[1], [_ingredient(one), *cells]))
    kept = [
        " / ".join(short(rows[key][which], 2) for which in ("entries_kept", "interactions_kept"))
        for key in keys
    ]
    head = [whole["dataset"], "validation, mean", "test, mean", *kept]
    ordered = [cells for _, cells in sorted(lines, key=lambda line: line[0])]
    return _encoded(*_markdown(head, ordered), "", _conditions([whole, *others], file))


def _ingredient(result: Mapping[str, Any]) -> str:
    """Name of a variant of an ablation, for reading."""
    changes = result["changes"]
    if changes and all(key.endswith("_floor") for key in changes):
        return ", ".join(f"no `{key}`" for key in changes)
    name: str = result["variant"]
    return _TODAY.get(name, name)


def _signed(value: float) -> str:
    return f"{round(value):+d}".replace("-", "\u2212") if round(value) else "0"


def _export(file: Path) -> bytes:
    result = _read(file)
    lines = []
    for row in result["rows"]:
        ours, run = row["metrics"]["recall@20"], row["run_metrics"]["recall@20"]
        lines.append(
            [
                *(row["row"], row["form"], row["values"], f"{row['bytes'] / 1e6:.2f} MB"),
                *(
                    f"{100 * row['of_dense']:.1f} %",
                    short(ours),
                    f"{100 * (ours / run - 1):+.2f} %",
                ),
            ]
        )
    head = ["model", "form", "values", "file", "of dense"]
    head += [f"{result['split']} R@20", "change"]
    return _encoded(*_markdown(head, lines), "", _conditions([result], file))


def _searches(files: Sequence[Path]) -> bytes:
    lines = []
    for file in files:
        study = _read(file)
        trials = study["trials"]
        finished = [one for one in trials if one.get("score") is not None and _is_finished(one)]
        best = max((one["score"] for one in finished), default=float("nan"))
        seconds = sum(one.get("seconds") or 0 for one in trials)
        lines.append(
            [
                *(study["dataset"], study["model"], _searched(study["space"])),
                *(str(len(trials)), str(len(finished)), short(best), duration(seconds)),
                f"`{file.name}`",
            ]
        )
    head = ["dataset", "model", "searched", "trials", "finished", "best validation R@20", "time"]
    return _encoded("{.wrapped}", *_markdown([*head, "record in `results/`"], lines))


def _searched(space: Iterable[str]) -> str:
    return ", ".join(f"`{SETTINGS.get(key, key)}`" for key in space)


def _is_finished(trial: Mapping[str, Any]) -> bool:
    return trial.get("state", "finished") == "finished"


# --- benchmarks ---------------------------------------------------------------------------------


def _bench(file: Path) -> bytes:
    result = _read(file)
    names = list(dict.fromkeys(name for row in result["rows"] for name in row["seconds"]))
    lines = []
    for row in result["rows"]:
        cells = [row["operation"]]
        for name in names:
            taken, times = row["seconds"].get(name), row["times_ours"].get(name)
            cells.append(_time(taken) + ("" if times is None else f", x {times:.3g}"))
        lines.append(cells)
    head = ["", *(_TODAY.get(name, name) for name in names)]
    load = f" Load average before the benchmark: {result['conditions']['load']:.1f}."
    return _encoded(*_markdown(head, lines), "", _conditions([result], file) + load)


def _time(taken: Mapping[str, float] | None) -> str:
    if taken is None:
        return ""
    values = (taken[key] for key in ("median", "lower", "upper"))
    median, lower, upper = (f"{1e3 * value:.3g}" for value in values)
    return f"{median} ms ({lower} to {upper})"


def _scale(file: Path) -> bytes:
    result = _read(file)
    lines = [
        [
            *(f"{one['interactions']:,}", f"{one['users']:,}", f"{one['items']:,}"),
            *(f"{one['seconds']['median']:.3g} s", f"{1e9 * one['seconds_per_interaction']:.3g}"),
            *(f"{one['peak_mb']:,.0f}", f"{one['estimate_mb']:,.0f}"),
            f"{one['bytes_per_interaction']:.0f}",
        ]
        for one in result["sizes"]
    ]
    head = ["interactions", "users", "items", "a step", "ns per interaction", "peak MB"]
    head += ["estimated MB", "bytes per interaction"]
    return _encoded(*_markdown(head, lines), "", _conditions([result], file))
