"""Size and accuracy of an exported model in every file form, against dense embedding tables."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from recbole_lightgnn.bench.measure import WrongResult
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.export import bytes_by_part, export, metrics_of, metrics_of_row, served_model
from recbole_lightgnn.runs.finished_run import TrainedRun
from recbole_lightgnn.serving.coding import VALUES
from recbole_lightgnn.serving.ids import Ids
from recbole_lightgnn.serving.model import FORMS, Model, to_bytes
from recbole_lightgnn.serving.recommender import Recommender

WIDTHS = (32, 16, 8)  # columns of the dense tables
UNPRUNED = "student-00"
_EXACT = 1e-6  # tolerance of a metric


def run(folder: Path, rows: Sequence[str], split: str) -> dict[str, Any]:
    """Export some students (pruned models) in every file form, and evaluate each file.

    Args:
        folder: run folder of LightGNN.
        rows: keys of the students in the run's record, such as ``student-03``; empty for the last
            student.
        split: split to evaluate on, ``valid`` or ``test``.

    Returns:
        The result, for a JSON file. ``rows`` has for each file the student (``row``), ``form``,
        ``values`` (number format), ``bytes``, ``of_dense`` (bytes divided by the bytes of float32
        tables with 64 columns), ``parts`` (bytes by part), ``metrics`` of the file and
        ``run_metrics`` of the run's model. The rows ``dense, N`` are final embeddings of the
        unpruned student, reduced to the N columns that approximate its scores best.

    Raises:
        InputError: if the run has no such student, or has a metric that only RecBole computes.
        WrongResult: if the metrics of a float32 file differ from the metrics of the run's model.
    """
    trained = TrainedRun(folder)
    rows = [trained.row(key)["key"] for key in rows or (None,)]
    measured = []
    with TemporaryDirectory() as temporary:
        file = Path(temporary, "model.lgnn")
        for key in rows:
            expected = _expected(trained, key, split)
            for form in FORMS:
                for values in VALUES:
                    exported = export(trained, file, row=key, values=values, form=form, ids="none")
                    row = exported | {"row": key}
                    measured.append(_measured(trained, key, file, split, row, expected))
        expected = _expected(trained, UNPRUNED, split)
        for width in WIDTHS:
            content, arrays = to_bytes(_dense(trained, width), "int8")
            file.write_bytes(content)
            row = {"row": f"dense, {width}", "form": "final", "values": "int8", "arrays": arrays}
            measured.append(_measured(trained, UNPRUNED, file, split, row, expected))
    dataset = trained.dataset
    return {
        "bench": "export",
        "graph": trained.config(rows[0])["dataset"],
        "users": dataset.user_num - 1,
        "items": dataset.item_num - 1,
        "split": split,
        "rows": measured,
    }


def _expected(trained: TrainedRun, key: str, split: str) -> Mapping[str, float]:
    """Metrics of a student in the run, before its export.

    Raises:
        InputError: if the run has a metric that only RecBole computes.
    """
    metrics = metrics_of_row(trained, key, split)
    if metrics is None:
        raise InputError(
            f"{trained.folder.path} was evaluated with a metric that only RecBole computes: choose "
            "a run with metrics such as Recall and NDCG"
        )
    return metrics


def _measured(
    trained: TrainedRun,
    key: str,
    file: Path,
    split: str,
    row: Mapping[str, Any],
    expected: Mapping[str, float],
) -> dict[str, Any]:
    """Evaluate one file; return the file's row of the result of `run`.

    Raises:
        WrongResult: if the metrics of a float32 file differ from ``expected``.
    """
    metrics = metrics_of(Recommender.load(file), trained, key, split)
    if row["values"] == "float32" and any(abs(metrics[k] - expected[k]) > _EXACT for k in metrics):
        raise WrongResult(
            f"{key}, form {row['form']}: {dict(metrics)} from the file, not {expected}"
        )
    size = file.stat().st_size
    n_rows = trained.dataset.user_num + trained.dataset.item_num - 2
    return {
        "row": row["row"],
        "form": row["form"],
        "values": row["values"],
        "bytes": size,
        "of_dense": size / (4 * 64 * n_rows),
        "parts": bytes_by_part({"bytes": size, "arrays": row["arrays"]}),
        "metrics": dict(metrics),
        "run_metrics": dict(expected),
    }


def _dense(trained: TrainedRun, width: int) -> Model:
    """The unpruned student, reduced to ``width`` columns by a truncated SVD of its scores."""
    model = served_model(trained, UNPRUNED, form="final", seen="none")
    (user, left), (item, right) = (np.linalg.qr(table) for table in (model.user, model.item))
    u, singular_values, vt = np.linalg.svd(left @ right.T)
    root = np.sqrt(singular_values[:width])
    return replace(
        model,
        users=Ids("user", len(user)),
        items=Ids("item", len(item)),
        user=(user @ u[:, :width] * root).astype(np.float32),
        item=(item @ vt[:width].T * root).astype(np.float32),
    )


def text(result: Mapping[str, Any]) -> str:
    """Format the result of `run` as a table with one line per file."""
    from tabulate import tabulate

    first = result["rows"][0]
    name = "recall@20" if "recall@20" in first["metrics"] else next(iter(first["metrics"]))
    head = ["", "form", "values", "bytes", "of dense", *first["parts"], f"{result['split']} {name}"]
    lines = [[*head, "of the run's"]]
    for row in result["rows"]:
        metric, of_run = row["metrics"][name], row["run_metrics"][name]
        sizes = [f"{size:,}" for size in (row["bytes"], *row["parts"].values())]
        lines.append(
            [
                *(row["row"], row["form"], row["values"], sizes[0], f"{row['of_dense']:.2%}"),
                *(*sizes[1:], f"{metric:.5f}", f"{metric / of_run - 1:+.2%}"),
            ]
        )
    return "\n".join(
        [
            f"{result['graph']}: {result['users']} users, {result['items']} items",
            "",
            tabulate(lines, tablefmt="plain", disable_numparse=True),
            "",
            "of dense: of embeddings with 64 columns in float32; without names (--ids none)",
            f"dense, N: {UNPRUNED} with N columns, by a truncated SVD of its scores",
        ]
    )
