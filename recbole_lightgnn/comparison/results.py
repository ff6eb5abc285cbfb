"""What a comparison came to, from its records alone: the lines of its table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from recbole_lightgnn.comparison.significance import Difference, holm, paired_t
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.runs.user_metrics import Users, read_users, users_file
from recbole_lightgnn.utils.files import read_json
from recbole_lightgnn.utils.text import must_be_one_of

FILE = "comparison.json"
_PARTS = {"dataset", "dataset_fingerprint", "footing", "models", "rivals", "seeds", "rows"}
_PARTS |= {"given", "settings"}
_OF_A_RECORD = {"model", "seed", "dataset_fingerprint", "rows", "settings", "environment"}
_OF_A_ROW = {"key", "stage", "entries_kept", "interactions_kept", "parameters", "bytes", "seconds"}
_OF_A_ROW |= {"valid", "test", "test_seconds"}
_THIRD = 0.33  # of the entries: the paper's main student


@dataclass
class Entry:
    """A line of the table: a model, or one stage of a model that has several; means over seeds.

    Attributes:
        label: what the table calls it.
        model: its name in the comparison, a model's or a rival's.
        key: of the record's row it is; none where no seed is done.
        settings: whose the model's are: ``tuned``, ``default`` or ``by hand``.
        seeds: those that are done.
        problems: why the others are not.
        valid: the validation score by which epochs are chosen.
        test: by the name of a metric, of each seed.
        epochs: at most (of LightGNN's student in each pruning run), where it is trained in such.
        patience: validations without a new best before it stops.
        parameters: numbers trained that are stored.
        entries_kept, interactions_kept: shares of the unpruned.
        bytes: of the stored model.
        seconds: of training and validation, earlier stages included.
        ranking_ms: of ranking all items for one test user, in milliseconds.
        users: by the name of a metric, of each test user. Shape: (users,)
        paired: seeds that it has in common with the reference, and is compared over.
        differences: from the reference, by the name of a metric.
    """

    label: str
    model: str
    key: str | None
    settings: str
    seeds: list[int] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    valid: float = 0.0
    test: dict[str, list[float]] = field(default_factory=dict)
    epochs: int | None = None
    patience: int | None = None
    parameters: float = 0.0
    entries_kept: float = 1.0
    interactions_kept: float = 1.0
    bytes: float = 0.0
    seconds: float = 0.0
    ranking_ms: float = 0.0
    users: dict[str, np.ndarray] | None = None
    paired: list[int] = field(default_factory=list)
    differences: dict[str, Difference] = field(default_factory=dict)

    def mean(self, metric: str) -> float:
        """Over seeds."""
        return float(np.mean(self.test[metric]))

    def deviation(self, metric: str) -> float | None:
        """Of the sample of seeds; ``None`` of one."""
        return float(np.std(self.test[metric], ddof=1)) if len(self.seeds) > 1 else None


class Comparison:
    """The folder of a comparison, read.

    Args:
        folder: where ``recbole-lightgnn compare`` has been.
        rows: keys of the rows to show of a record that has several; by default as ``compare`` was
            told (see `shown_rows`).

    Attributes:
        dataset, seeds, given, fingerprint: what was compared.
        rivals: what names stand for that are no model's: ``model``, and its settings.
        rows: those asked for, or ``None``.
        records: by model and seed, of the runs that are done.
        degree: train interactions of each test user; none where no model has users' metrics.
        metrics: the table's: Recall and NDCG from the cut-off of selection on.
        judged: those that are tested for significance, at the cut-off of selection.
        entries: the table's lines, in the order of the models.
        reference: of the students shown, the best on validation; without one, the best model.
        path: students of every pruning run, unpruned first.

    Raises:
        InputError: if the folder is none of a comparison, has users' metrics that are damaged, or
            no record with one of ``rows``.
    """

    def __init__(self, folder: Path, rows: Sequence[str] | None = None) -> None:
        content = read_json(folder / FILE)
        if not isinstance(content, dict) or not content.keys() >= _PARTS:
            raise InputError(
                f"{folder} is no folder of a comparison (it has no {FILE}, or a damaged one): give "
                "one that `recbole-lightgnn compare` made"
            )
        self.folder, self.content = folder, content
        self.rows = content["rows"] if rows is None else rows
        self._whose = content["settings"]
        self.dataset, self.seeds = content["dataset"], content["seeds"]
        self.given, self.fingerprint = content["given"], content["dataset_fingerprint"]
        self.rivals: dict[str, dict[str, Any]] = content["rivals"]
        self.selection = content["footing"]["valid_metric"].lower()
        cutoff = int(self.selection.rpartition("@")[2])
        cutoffs = sorted(k for k in content["footing"]["topk"] if k >= cutoff)
        self.judged = [f"recall@{cutoff}", f"ndcg@{cutoff}"]
        self.metrics = [f"{name}@{k}" for k in cutoffs for name in ("recall", "ndcg")]
        self.records: dict[tuple[str, int], dict[str, Any]] = {}
        self._odd: set[tuple[str, int]] = set()
        self.degree: np.ndarray | None = None
        self._users: dict[tuple[str, int], Users] = {}
        self._order: np.ndarray | None = None
        for model in content["models"]:
            for seed in self.seeds:
                self._read(model, seed)
        if known := {row["key"] for one in self.records.values() for row in one["rows"]}:
            for key in rows or ():
                must_be_one_of("--rows", key, sorted(known))
        self.entries = [line for model in content["models"] for line in self._entries(model)]
        self.reference = self._reference()
        self._compare()

    @property
    def path(self) -> list[Entry]:
        """LightGNN's student after each pruning run."""
        if not (records := self._of("LightGNN")):
            return []
        keys = [row["key"] for row in next(iter(records.values()))["rows"]]
        return [self._entry("LightGNN", key) for key in keys if key.startswith("student")]

    def done(self) -> list[Entry]:
        """The entries with at least one seed."""
        return [entry for entry in self.entries if entry.seeds]

    def curve(self, model: str, seed: int) -> list[tuple[list[float], list[float]]]:
        """Seconds and validation scores of a run's trainings, one after the other."""
        parts, before = [], 0.0
        for row in self.records[model, seed]["rows"]:
            if curve := row.get("curve"):
                parts.append(([before + s for s in curve["seconds"]], curve["score"]))
            before += row["seconds"]
        return parts

    def place(self, model: str, seed: int) -> Path:
        """The folder of a run."""
        return self.folder / "runs" / f"{model}-{seed}"

    # --- reading --------------------------------------------------------------------------------

    def _read(self, model: str, seed: int) -> None:
        file = self.place(model, seed) / "record.json"
        record = read_json(file)
        if record is None:
            return
        if not _is_whole(record):
            self._odd.add((model, seed))
            return
        fingerprint = {k: v for k, v in record["dataset_fingerprint"].items() if k != "card_sha256"}
        expected = (self.rivals.get(model, {}).get("model", model), seed, self.fingerprint)
        if (record["model"], record["seed"], fingerprint) != expected:
            self._odd.add((model, seed))
            return
        self.records[model, seed] = record
        if (users := read_users(users_file(file))) is None:
            return
        if self._order is None:
            self._order, self.degree = users.user, users.degree
        if not np.array_equal(self._order, users.user):
            raise InputError(f"{users_file(file)} is of other users than the other runs'")
        self._users[model, seed] = users

    def _problems(self, model: str) -> list[str]:
        """Why seeds are missing, those of one reason together."""
        seeds_of: dict[str, list[str]] = {}
        for seed in self.seeds:
            if (model, seed) not in self.records:
                seeds_of.setdefault(self._problem(model, seed), []).append(str(seed))
        return [
            f"seed{'s' * (len(seeds) > 1)} {', '.join(seeds)} {reason}"
            for reason, seeds in seeds_of.items()
        ]

    def _problem(self, model: str, seed: int) -> str:
        if (model, seed) in self._odd:
            return (
                "left out: its record is damaged, or of another model, seed or split; "
                "remove it, and give the command again"
            )
        failure = read_json(self.place(model, seed) / "failed.json")
        return f"failed: {failure.get('reason')}" if isinstance(failure, dict) else "not done yet"

    def _of(self, model: str) -> dict[int, dict[str, Any]]:
        return {seed: record for (name, seed), record in self.records.items() if name == model}

    # --- the lines ------------------------------------------------------------------------------

    def _entries(self, model: str) -> Iterator[Entry]:
        if not self._of(model):
            yield Entry(model, model, None, self._whose[model], problems=self._problems(model))
            return
        for key in shown_rows(self._rows_of(model), self.rows):
            yield self._entry(model, key)

    def _rows_of(self, model: str) -> list[dict[str, Any]]:
        """Of its first record; a rival's teachers are no rivals."""
        rows = next(iter(self._of(model).values()))["rows"]
        earlier = ("teacher", "intermediate") if model in self.rivals else ()
        return [row for row in rows if row["stage"] not in earlier]

    def _entry(self, model: str, key: str) -> Entry:
        """Means of one row over the seeds that are done."""
        records = self._of(model)
        rows = [_row(record, key) for record in records.values()]
        n_users = self.fingerprint["test"]["users"]
        epochs, patience = _limits(next(iter(records.values())), rows[0])
        return Entry(
            _label(model, rows[0], len(self._rows_of(model))),
            model,
            key,
            self._whose[model],
            seeds=list(records),
            problems=self._problems(model),
            valid=_mean(row["valid"][self.selection] for row in rows),
            test={metric: [row["test"][metric] for row in rows] for metric in self.metrics},
            epochs=epochs,
            patience=patience,
            parameters=_mean(row["parameters"] for row in rows),
            entries_kept=_mean(row["entries_kept"] for row in rows),
            interactions_kept=_mean(row["interactions_kept"] for row in rows),
            bytes=_mean(row["bytes"] for row in rows),
            seconds=_mean(_seconds_to(record, key) for record in records.values()),
            ranking_ms=1e3 * _mean(row["test_seconds"] for row in rows) / n_users,
            users=self._mean_users(model, key, list(records)),
        )

    def _mean_users(
        self, model: str, key: str, seeds: Sequence[int]
    ) -> dict[str, np.ndarray] | None:
        """Metrics of each test user, averaged over seeds; ``None`` where a seed has none."""
        users = [self._users.get((model, seed)) for seed in seeds]
        if None in users:
            return None
        rows = [one.rows[key] for one in users if one]
        return {
            metric: np.mean([row[metric] for row in rows], axis=0, dtype=np.float64)
            for metric in self.metrics
        }

    def _reference(self) -> Entry | None:
        done = self.done()
        students = [
            e for e in done if e.model == "LightGNN" and (e.key or "").startswith("student")
        ]
        sign = 1 if self.content["footing"]["valid_metric_bigger"] else -1
        return max(students or done, key=lambda entry: sign * entry.valid, default=None)

    def _compare(self) -> None:
        """Give every entry its differences from the reference, corrected for all of them.

        Both are averaged over the seeds that both have done: a seed may be good for all models.
        """
        reference = self.reference
        if reference is None or reference.users is None:
            return
        tests = []
        for entry in self.done():
            entry.paired = [seed for seed in entry.seeds if seed in reference.seeds]
            if entry is reference or entry.users is None or not entry.paired:
                continue
            own, other = (
                self._mean_users(one.model, one.key, entry.paired) for one in (entry, reference)
            )
            tests += [(entry, m, *paired_t(own[m], other[m])) for m in self.judged]
        corrected = holm([p for *_, p in tests])
        for (entry, metric, mean, p), p_holm in zip(tests, corrected, strict=True):
            entry.differences[metric] = Difference(mean, p, p_holm)


def shown_rows(rows: Sequence[Mapping[str, Any]], asked: Sequence[str] | None) -> list[str]:
    """Which rows of a record a table shows.

    By default the teacher (where there are several, their sum), the student nearest to a third of
    its entries, and the last.

    Args:
        rows: the record's.
        asked: keys of rows; of a record that has none of them the last is shown.

    Returns:
        Keys, in the record's order.
    """
    keys = [row["key"] for row in rows]
    if asked is not None:
        wanted = set(asked) & set(keys) or {keys[-1]}
    else:
        teachers = [key for key in ("teachers", "teacher") if key in keys]
        students = [row for row in rows if row["stage"] == "student"]
        third = sorted(students, key=lambda row: abs(row["entries_kept"] - _THIRD))
        wanted = {*teachers[:1], *(row["key"] for row in third[:1]), keys[-1]}
    return [key for key in keys if key in wanted]


def _is_whole(record: Any) -> bool:
    """Whether a record has all that is read of it."""
    if not isinstance(record, dict) or not record.keys() >= _OF_A_RECORD:
        return False
    rows = record["rows"]
    return bool(rows) and all(isinstance(row, dict) and row.keys() >= _OF_A_ROW for row in rows)


def _row(record: Mapping[str, Any], key: str) -> dict[str, Any]:
    return next(row for row in record["rows"] if row["key"] == key)


def _limits(record: Mapping[str, Any], row: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Epochs at most and patience of a row's training; of several teachers, of the first."""
    first = next(one for one in record["rows"] if one["stage"] == row["stage"])
    settings = first.get("settings") or record["settings"]
    if settings.get("MODEL_TYPE") == "TRADITIONAL":  # RecBole's that count or solve
        return None, None
    return settings.get("epochs"), settings.get("stopping_step")


def _seconds_to(record: Mapping[str, Any], key: str) -> float:
    """Training time of a row and of the stages before it."""
    keys = [row["key"] for row in record["rows"]]
    return sum(row["seconds"] for row in record["rows"][: keys.index(key) + 1])


def _label(model: str, row: Mapping[str, Any], n_rows: int) -> str:
    if n_rows == 1:
        return model
    if row["stage"] != "student":
        return f"{model}'s {row['key'].replace('-', ' ')}"
    kept = [f"{row[key]:.2f}".removeprefix("0") for key in ("entries_kept", "interactions_kept")]
    return f"{model} {' / '.join(kept)}"


def _mean(values: Any) -> float:
    return float(np.mean(list(values)))
