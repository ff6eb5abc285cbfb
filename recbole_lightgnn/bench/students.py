"""Students to measure, unpruned and pruned: of a finished run, or made without training."""

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
from recbole_lightgnn.models.frozen_teacher import Frozen
from recbole_lightgnn.models.student import LightGNN
from recbole_lightgnn.runs.finished_run import TrainedRun

RUNS = (5, 11)  # on Yelp with the paper's ratios: .33/.77 and .09/.57 are left

Students = dict[int, LightGNN]  # by pruning run, 0 the unpruned one


def students_of_run(folder: Path) -> tuple[str, Students]:
    """The students that a run left behind: unpruned, and after the runs of `RUNS` it came to.

    Args:
        folder: of the run.

    Returns:
        The dataset's name, and the students.

    Raises:
        InputError: if the folder holds no pruned student of LightGNN, or was run on other data.
    """
    trained = TrainedRun(folder)
    keys = {row["run"]: row["key"] for row in trained.rows if row["stage"] == "student"}
    if not keys or max(keys) == 0:
        raise InputError(
            f"--run {folder} holds no pruned student: give the folder of a run of LightGNN that "
            "has pruned (saved/LightGNN-...)"
        )
    students = {run: trained.model(keys[run]) for run in _measured(max(keys))}
    return trained.config(keys[0])["dataset"], students


def untrained_students(name: str) -> Students:
    """Students of the dataset's own settings, pruned run by run without a step of training.

    They begin with a truncated SVD of the normalized interactions, which is near to what is
    learnt; the unpruned one's scores are what Eq. 8 asks a teacher for.

    Args:
        name: the dataset.

    Raises:
        InputError: if it is not there.
    """
    config = build_config("LightGNN", name, (), {"use_gpu": False})
    check_dataset_files(config)
    init_seed(config["seed"], config["reproducibility"])
    dataset = load_data(config)[0].dataset
    first, pruned = LightGNN(config, dataset), LightGNN(config, dataset)
    first.start_from(*_singular_vectors(first))
    pruned.load_state_dict(first.state_dict())
    pruned.distill_from(Frozen(first))
    students = {0: first}
    for run in range(1, max(RUNS) + 1):
        pruned.prune()
        if run in RUNS:
            students[run] = LightGNN(config, dataset)
            students[run].load_state_dict(pruned.state_dict())
    return students


def _measured(last: int) -> list[int]:
    return sorted({0, *(min(run, last) for run in RUNS)})


def _observed(student: LightGNN) -> tuple[Tensor, Tensor]:
    pattern = student.observed.interactions.pattern
    return pattern.row, pattern.col


def _singular_vectors(student: LightGNN) -> tuple[Tensor, Tensor]:
    """Left and right ones of the normalized interactions, times the root of their values.

    Where the matrix has fewer than the student's width, its first columns stay as they are.
    """
    norm = student.observed.interactions.norm.numpy()
    places = tuple(part.numpy() for part in _observed(student))
    matrix = sp.csr_matrix((norm, places), shape=(student.n_users, student.n_items))
    tables: list[Any] = [
        table.values.detach().clone() for table in (student.user_embedding, student.item_embedding)
    ]
    rank = min(tables[0].shape[1], min(matrix.shape) - 1)
    start = np.random.default_rng(0).random(min(matrix.shape), dtype=np.float32)
    left, values, right = svds(matrix, k=rank, v0=start)  # the largest value last
    for table, vectors in zip(tables, (left, right.T), strict=True):
        table[:, -rank:] = torch.from_numpy(vectors * np.sqrt(values))
    return tables[0], tables[1]
