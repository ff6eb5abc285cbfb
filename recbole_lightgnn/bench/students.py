"""Unpruned and pruned students (LightGNN's models) for benchmarks: of a run, or untrained."""

from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from recbole.utils import init_seed
from scipy.sparse.linalg import svds
from torch import Tensor

from recbole_lightgnn.config.recbole_config import build_config
from recbole_lightgnn.data.loaders import check_dataset_files, load_data
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.models.frozen_teacher import FrozenTeacher
from recbole_lightgnn.models.student import LightGNN
from recbole_lightgnn.runs.finished_run import TrainedRun

# Pruning runs to measure. On Yelp with the paper's ratios, .33 of the entries and .77 of the
# interactions remain after run 5, and .09 and .57 after run 11.
RUNS = (5, 11)

Students = dict[int, LightGNN]  # number of pruning runs -> student; 0 for the unpruned one


def students_of_run(folder: Path) -> tuple[str, Students]:
    """Load students of a finished run: unpruned, and after the pruning runs in `RUNS`.

    If the run has fewer pruning runs than a number in `RUNS`, the last student is used.

    Returns:
        First, the name of the dataset. Second, the students, by number of pruning runs.

    Raises:
        InputError: if the folder has no pruned student of LightGNN, or if the run's data have
            changed.
    """
    trained = TrainedRun(folder)
    keys = {row["run"]: row["key"] for row in trained.rows if row["stage"] == "student"}
    if not keys or max(keys) == 0:
        raise InputError(
            f"--run {folder} holds no pruned student: give a run folder of LightGNN with at least "
            "one pruning run (saved/LightGNN-...)"
        )
    students = {run: trained.model(keys[run]) for run in _measured(max(keys))}
    return trained.config(keys[0])["dataset"], students


def untrained_students(name: str) -> Students:
    """Make students with the settings of a dataset, pruned several times without training.

    Their initial embeddings, from a truncated SVD of the normalized interactions, are similar to
    learnt embeddings. The unpruned student acts as the teacher of Eq. 8.

    Raises:
        InputError: if the dataset is missing.
    """
    config = build_config("LightGNN", name, (), {"use_gpu": False})
    check_dataset_files(config)
    init_seed(config["seed"], config["reproducibility"])
    dataset = load_data(config)[0].dataset
    unpruned, pruned = LightGNN(config, dataset), LightGNN(config, dataset)
    unpruned.start_from(*_singular_vectors(unpruned))
    pruned.load_state_dict(unpruned.state_dict())
    pruned.distill_from(FrozenTeacher(unpruned))
    students = {0: unpruned}
    for run in range(1, max(RUNS) + 1):
        pruned.prune()
        if run in RUNS:
            students[run] = LightGNN(config, dataset)
            students[run].load_state_dict(pruned.state_dict())
    return students


def _measured(last: int) -> list[int]:
    """Pruning runs after which to measure the student; ``last`` is the last run's number."""
    return sorted({0, *(min(run, last) for run in RUNS)})


def _singular_vectors(student: LightGNN) -> tuple[Tensor, Tensor]:
    """Compute singular vectors of the normalized interactions, scaled by roots of singular values.

    If there are fewer singular vectors than columns, the student's first columns keep their initial
    embeddings.

    Returns:
        Left vectors for users, and right vectors for items. Shapes: (users, width), (items, width)
    """
    interactions = student.observed.interactions
    indices = (interactions.pattern.row.numpy(), interactions.pattern.col.numpy())
    matrix = sp.csr_matrix(
        (interactions.norm.numpy(), indices), shape=(student.n_users, student.n_items)
    )
    tables: list[Any] = [
        table.values.detach().clone() for table in (student.user_embedding, student.item_embedding)
    ]
    rank = min(tables[0].shape[1], min(matrix.shape) - 1)
    start = np.random.default_rng(0).random(min(matrix.shape), dtype=np.float32)
    left, values, right = svds(matrix, k=rank, v0=start)  # ascending singular values
    for table, vectors in zip(tables, (left, right.T), strict=True):
        table[:, -rank:] = torch.from_numpy(vectors * np.sqrt(values))
    return tables[0], tables[1]
