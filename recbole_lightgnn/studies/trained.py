"""Load what the runs of a study have trained: final embeddings, graphs and interactions."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_lightgnn.comparison.layout import Run
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.models.scoring_tables import final_tables
from recbole_lightgnn.registry import our_models
from recbole_lightgnn.runs.finished_run import TrainedRun
from recbole_lightgnn.runs.recbole_loaders import load_data_and_model
from recbole_lightgnn.runs.run_folder import RUN_FILE

THIRD = 0.33  # share of entries kept by the paper's main student


def record_of(run: Run) -> dict[str, Any]:
    """The record of a finished run."""
    record = run.record()
    assert record is not None  # `Place.train` has checked that all runs are finished
    return record


def chosen_row(record: dict[str, Any], entries_kept: float = THIRD) -> dict[str, Any]:
    """The row of a record that a study shows: of LightGNN, the student with this share of entries.

    Of other models, the last row. Of students, the one with the nearest share is returned.
    """
    students: list[dict[str, Any]] = [row for row in record["rows"] if row["stage"] == "student"]
    if not students or record["model"] != "LightGNN":
        last: dict[str, Any] = record["rows"][-1]
        return last
    return min(students, key=lambda row: abs(row["entries_kept"] - entries_kept))


def trained_run(run: Run) -> TrainedRun:
    """Open the checkpoints of a run of one of our models.

    Raises:
        InputError: if the folder has none.
    """
    file = next(iter(run.folder.checkpoints.glob(f"*/{RUN_FILE}")), None)
    if file is None:
        raise _without_checkpoints(run)
    return TrainedRun(file.parent)


def model_of(run: Run, key: str) -> Any:
    """Load a trained model, ours or RecBole's, in evaluation mode, on the CPU.

    Args:
        run: the finished run.
        key: key of the model's row in the record.

    Raises:
        InputError: if the run has no checkpoint.
    """
    if run.model in our_models():
        return trained_run(run).model(key)
    logging.disable(logging.INFO)  # RecBole describes its loaders
    try:
        return load_data_and_model(_recbole_checkpoint(run))[1].cpu().eval()
    finally:
        logging.disable(logging.NOTSET)


def embeddings_of(run: Run, key: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Load the final embeddings of users and items that a trained model ranks by.

    Args:
        run: the finished run.
        key: key of the model's row in the record.

    Returns:
        Tables without RecBole's padding. Shapes: (users, width), (items, width)

    Raises:
        InputError: if the run has no checkpoint, or the model does not rank by such tables.
    """
    if (tables := final_tables(model_of(run, key))) is None:
        raise InputError(
            f"{run} has no final embeddings: its scores are no inner products; leave it out"
        )
    user, item = (table[1:].double().cpu().numpy() for table in tables)
    return user, item


def _recbole_checkpoint(run: Run) -> Path:
    file = next(iter(sorted(run.folder.checkpoints.rglob("*.pth"))), None)
    if file is None:
        raise _without_checkpoints(run)
    return file


def _without_checkpoints(run: Run) -> InputError:
    return InputError(
        f"{run.folder.path} has a record but no checkpoints, and the study needs the model: remove "
        "that folder to run it anew, or name another --out"
    )
