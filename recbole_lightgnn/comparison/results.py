"""Compute the lines of a comparison's table, called entries, from its records."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recbole_lightgnn.comparison.entry import Entry
from recbole_lightgnn.comparison.families import family_of, family_of_row
from recbole_lightgnn.comparison.layout import (
    COMPARISON,
    COMPARISON_KEYS,
    RunFolder,
    is_complete,
    is_record_of,
    read_comparison,
    run_folder,
    study_folder,
)
from recbole_lightgnn.comparison.paper_numbers import METRICS, Point, split_of
from recbole_lightgnn.comparison.popularity import popularity_of
from recbole_lightgnn.comparison.significance import Difference, holm, paired_t
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.runs.user_metrics import Users, read_users
from recbole_lightgnn.utils.text import must_be_one_of

_TEACHERS = "teachers"  # key of the row of several teachers together
_THIRD = 0.33  # share of entries kept by the paper's main student


class Comparison:
    """Everything that tables and page need from a comparison's folder.

    Args:
        folder: folder that the command ``recbole-lightgnn compare`` wrote.
        rows: if a record has several rows, keys of the rows to show (see `shown_rows`); by default
            the rows given to the command ``compare``.

    Attributes:
        folder: folder of the comparison.
        content: content of ``comparison.json``, with the names of earlier versions translated.
        dataset: name of the dataset.
        seeds: seeds of the comparison, done or not.
        given: settings given for all models, and as ``NAME.KEY`` for one model or variant.
        fingerprint: counts and hashes of the dataset's interactions.
        variants: the ``model`` and the settings of each variant, by name of the variant.
        rows: keys of the records' rows to show, or ``None`` for the default.
        selection: validation metric by which epochs are chosen.
        popularity: validation score of a ranking by popularity; ``None`` if the comparison has no
            such score.
        records: records of the finished runs, by (name of the model or variant, seed).
        degree: number of train interactions of each test user; ``None`` if no run has user
            metrics. Shape: (users,)
        paper: the split of the LightGNN paper with the same train interactions; ``None`` if the
            paper has no such split, or if the table lacks the paper's metrics.
        metrics: the table's metrics: Recall and NDCG at the cutoff of ``selection`` and at larger
            cutoffs.
        tested_metrics: metrics tested for significance: Recall and NDCG at the cutoff of
            ``selection``.
        entries: lines of the table, in the order of the models.
        reference: the entry with which all entries are compared: the student with the best
            validation score; without a student, the entry with the best validation score.

    Raises:
        InputError: if the folder has no valid ``comparison.json``, if user metrics are damaged, or
            if no record has a row with a key in ``rows``.
    """

    def __init__(self, folder: Path, rows: Sequence[str] | None = None) -> None:
        content = read_comparison(folder)
        if not isinstance(content, dict) or not content.keys() >= COMPARISON_KEYS:
            raise InputError(
                f"{folder} is no folder of a comparison (it has no {COMPARISON}, or a damaged "
                "one): give one that `recbole-lightgnn compare` made"
            )
        self.folder, self.content = folder, content
        self.rows = content["rows"] if rows is None else rows
        self._settings_source = content["settings"]
        self.dataset, self.seeds = content["dataset"], content["seeds"]
        self.given, self.fingerprint = content["given"], content["dataset_fingerprint"]
        self.variants: dict[str, dict[str, Any]] = content["variants"]
        self.selection: str = content["protocol"]["valid_metric"].lower()
        self.popularity = popularity_of(content)
        cutoff = int(self.selection.rpartition("@")[2])
        cutoffs = sorted(k for k in content["protocol"]["topk"] if k >= cutoff)
        self.tested_metrics = [f"recall@{cutoff}", f"ndcg@{cutoff}"]
        self.metrics = [f"{name}@{k}" for k in cutoffs for name in ("recall", "ndcg")]
        has_metrics = {*METRICS[:2]} <= {*self.metrics}
        self.paper = split_of(self.fingerprint) if has_metrics else None
        self.records: dict[tuple[str, int], dict[str, Any]] = {}
        self._unusable: set[tuple[str, int]] = set()  # runs with a record that is left out
        self.degree: np.ndarray | None = None
        self._users: dict[tuple[str, int], Users] = {}
        self._user_order: np.ndarray | None = None
        for model in content["models"]:
            for seed in self.seeds:
                self._read(model, seed)
        if known := {row["key"] for record in self.records.values() for row in record["rows"]}:
            for key in rows or ():
                must_be_one_of("--rows", key, sorted(known))
        self.entries = [entry for model in content["models"] for entry in self._entries(model)]
        self.reference = self._reference()
        self._compare()

    @property
    def students(self) -> list[Entry]:
        """Entries for LightGNN's student: before pruning, then after each pruning run."""
        if not (records := self._records_of("LightGNN")):
            return []
        keys = [row["key"] for row in next(iter(records.values()))["rows"]]
        return [self._entry("LightGNN", key) for key in keys if key.startswith("student")]

    def done(self) -> list[Entry]:
        """The entries of the table with at least one finished seed."""
        return [entry for entry in self.entries if entry.seeds]

    def curve(self, model: str, seed: int) -> list[tuple[list[float], list[float]]]:
        """Validation curve of each training of a run: seconds since the run's start, and scores."""
        parts, before = [], 0.0
        for row in self.records[model, seed]["rows"]:
            if curve := row.get("curve"):
                parts.append(([before + s for s in curve["seconds"]], curve["score"]))
            before += row["seconds"]
        return parts

    def run_folder(self, model: str, seed: int) -> RunFolder:
        """The folder with the files of one run."""
        return run_folder(self.folder, model, seed)

    # --- reading --------------------------------------------------------------------------------

    def _read(self, model: str, seed: int) -> None:
        """Read the record and the users' metrics of one run, if these files exist."""
        folder = self.run_folder(model, seed)
        record = folder.record()
        if record is None:
            return
        if not is_complete(record) or not is_record_of(
            record, self._model_of(model), seed, self.fingerprint
        ):
            self._unusable.add((model, seed))
            return
        self.records[model, seed] = record
        if (users := read_users(folder.users_file)) is None:
            return
        if self._user_order is None:
            self._user_order, self.degree = users.user, users.degree
        if not np.array_equal(self._user_order, users.user):
            raise InputError(f"{folder.users_file} is of other users than the other runs'")
        self._users[model, seed] = users

    def _problems(self, model: str) -> list[str]:
        """Say why results of seeds are missing: one sentence for each reason."""
        seeds_of: dict[str, list[str]] = {}
        for seed in self.seeds:
            if (model, seed) not in self.records:
                seeds_of.setdefault(self._problem(model, seed), []).append(str(seed))
        return [
            f"seed{'s' * (len(seeds) > 1)} {', '.join(seeds)} {reason}"
            for reason, seeds in seeds_of.items()
        ]

    def _problem(self, model: str, seed: int) -> str:
        if (model, seed) in self._unusable:
            return (
                "left out: its record is damaged, or of another model, seed or split; "
                "remove it, and give the command again"
            )
        if (failure := self.run_folder(model, seed).failure()) is not None:
            return f"failed: {failure.get('reason')}"
        if (failure := study_folder(self.folder, model).failure()) is not None:
            return f"not done, its search failed: {failure.get('reason')}"
        return "not done yet"

    def _model_of(self, name: str) -> str:
        """Name of a variant's model; if ``name`` is a model, ``name``."""
        model: str = self.variants.get(name, {}).get("model", name)
        return model

    def _records_of(self, model: str) -> dict[int, dict[str, Any]]:
        """Records of the finished runs of one model or variant, by seed."""
        return {seed: record for (name, seed), record in self.records.items() if name == model}

    # --- the lines ------------------------------------------------------------------------------

    def _entries(self, model: str) -> Iterator[Entry]:
        if not self._records_of(model):
            source, family = self._settings_source[model], family_of(self._model_of(model))
            yield Entry(model, model, None, source, family, problems=self._problems(model))
            return
        for key in shown_rows(self._rows_of(model), self.rows):
            yield self._entry(model, key)

    def _rows_of(self, model: str) -> list[dict[str, Any]]:
        """Rows of a model's record that the table can show; a variant's teachers are not shown."""
        every = [record["rows"] for record in self._records_of(model).values()]
        several = (rows for rows in every if any(row["key"] == _TEACHERS for row in rows))
        rows = next(several, every[0])
        hidden = ("teacher", "intermediate") if model in self.variants else ()
        return [row for row in rows if row["stage"] not in hidden]

    def _entry(self, model: str, key: str) -> Entry:
        """Make the table line of one row of the records: means over the seeds that are done."""
        records, missing = {}, []
        for seed, record in self._records_of(model).items():
            if _has_row(record, key):
                records[seed] = record
            else:
                missing.append(f"seed {seed} has no {key}")
        rows = [_row(record, key) for record in records.values()]
        first = next(iter(records.values()))
        n_users = self.fingerprint["test"]["users"]
        epochs, patience = _epochs_and_patience(first, rows[0])
        return Entry(
            _label(model, {**rows[0], "key": key}, len(self._rows_of(model))),
            model,
            key,
            self._settings_source[model],
            family_of_row(first, rows[0]),
            seeds=list(records),
            problems=self._problems(model) + missing,
            valid=_mean(row["valid"][self.selection] for row in rows),
            warning=self._warning(dict(zip(records, rows, strict=True))),
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
            paper=self._point_of(model, rows[0]),
        )

    def _point_of(self, model: str, row: Mapping[str, Any]) -> Point | None:
        """The paper's result beside a row; ``None`` for variants, which the paper does not have."""
        if self.paper is None or model in self.variants:
            return None
        return self.paper.point_of_row(model, row)

    def _warning(self, rows: Mapping[int, Mapping[str, Any]]) -> str | None:
        """Advise on settings if a score in ``rows`` (by seed) is not above the score of ``Pop``."""
        if self.popularity is None:
            return None
        scores = {seed: row["valid"][self.selection] for seed, row in rows.items()}
        model = next(iter(rows.values())).get("model", "")
        return self.popularity.warning(model, scores)

    def _mean_users(
        self, model: str, key: str | None, seeds: Sequence[int]
    ) -> dict[str, np.ndarray] | None:
        """Average each test user's metrics over seeds; ``None`` if a seed has no users' metrics."""
        users = [self._users.get((model, seed)) for seed in seeds]
        if key is None or None in users:
            return None
        rows = [one.rows[_key_in(one.rows, key)] for one in users if one]
        return {
            metric: np.asarray(np.mean([row[metric] for row in rows], axis=0, dtype=np.float64))
            for metric in self.metrics
        }

    def _reference(self) -> Entry | None:
        done = self.done()
        students = [
            e for e in done if e.model == "LightGNN" and (e.key or "").startswith("student")
        ]
        sign = 1 if self.content["protocol"]["valid_metric_bigger"] else -1
        return max(students or done, key=lambda entry: sign * entry.valid, default=None)

    def _compare(self) -> None:
        """Compute each entry's differences from the reference entry, with p-values.

        The p-values are corrected for all tests of the table. Both entries are averaged over the
        seeds that are done for both, because a seed may be easier than another for every model.
        """
        reference = self.reference
        if reference is None or reference.users is None:
            return
        tests = []
        for entry in self.done():
            entry.paired_seeds = [seed for seed in entry.seeds if seed in reference.seeds]
            if entry is reference or not entry.paired_seeds or entry.users is None:
                continue
            users = self._mean_users(entry.model, entry.key, entry.paired_seeds)
            other = self._mean_users(reference.model, reference.key, entry.paired_seeds)
            if users is not None and other is not None:
                tests += [(entry, m, *paired_t(users[m], other[m])) for m in self.tested_metrics]
        corrected = holm([p for *_, p in tests])
        for (entry, metric, mean, p), p_holm in zip(tests, corrected, strict=True):
            entry.differences[metric] = Difference(mean, p, p_holm)


def shown_rows(rows: Sequence[Mapping[str, Any]], asked: Sequence[str] | None) -> list[str]:
    """Choose the rows of a record that the table shows.

    The default is three rows: the teacher (all teachers together if there are several); the student
    with a share of kept entries closest to one third; and the last row.

    Args:
        rows: all rows of the record (one for each stage and pruning run).
        asked: keys of the rows to show, or ``None`` for the default. If the record has none of
            these keys, its last row is shown.

    Returns:
        Keys of the chosen rows, in the record's order.
    """
    keys = [row["key"] for row in rows]
    if asked is not None:
        wanted = set(asked) & set(keys) or {keys[-1]}
    else:
        teachers = [key for key in (_TEACHERS, "teacher") if key in keys]
        students = [row for row in rows if row["stage"] == "student"]
        third = sorted(students, key=lambda row: abs(row["entries_kept"] - _THIRD))
        wanted = {*teachers[:1], *(row["key"] for row in third[:1]), keys[-1]}
    return [key for key in keys if key in wanted]


def _row(record: Mapping[str, Any], key: str) -> dict[str, Any]:
    rows: dict[str, dict[str, Any]] = {row["key"]: row for row in record["rows"]}
    return rows[_key_in(rows, key)]


def _has_row(record: Mapping[str, Any], key: str) -> bool:
    keys = {row["key"] for row in record["rows"]}
    return _key_in(keys, key) in keys


def _key_in(rows: Container[str], key: str) -> str:
    """The key of the row of several teachers together; of the only one, if a run found just one."""
    return "teacher" if key == _TEACHERS and key not in rows else key


def _epochs_and_patience(
    record: Mapping[str, Any], row: Mapping[str, Any]
) -> tuple[int | None, int | None]:
    """Epoch limit and patience of the first training of a row's stage; ``None`` without epochs."""
    first = next(one for one in record["rows"] if one["stage"] == row["stage"])
    settings = first.get("settings") or record["settings"]
    if settings.get("MODEL_TYPE") == "TRADITIONAL":  # RecBole's models that count or solve
        return None, None
    return settings.get("epochs"), settings.get("stopping_step")


def _seconds_to(record: Mapping[str, Any], key: str) -> float:
    """Training time in seconds up to the end of a row, earlier rows of the record included."""
    keys = [row["key"] for row in record["rows"]]
    last = keys.index(_key_in(keys, key))
    seconds: float = sum(row["seconds"] for row in record["rows"][: last + 1])
    return seconds


def _label(model: str, row: Mapping[str, Any], n_rows: int) -> str:
    """Name of a table line: ``LightGNN's teacher``; with kept shares, ``LightGNN .33 / .77``."""
    if n_rows == 1 or row["stage"] == row["model"]:  # the stage of a model trained alone
        return model
    if row["stage"] != "student":
        return f"{model}'s {row['key'].replace('-', ' ')}"
    kept = [f"{row[key]:.2f}".removeprefix("0") for key in ("entries_kept", "interactions_kept")]
    return f"{model} {' / '.join(kept)}"


def _mean(values: Any) -> float:
    return float(np.mean(list(values)))
