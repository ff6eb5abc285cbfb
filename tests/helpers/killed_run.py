"""Run a model on the planted world, and kill the process with SIGKILL at a given moment.

Usage: killed_run.py CASE MOMENT RECORD [resume], in a folder with the dataset.

CASE is a key of `SETTINGS`. Random parts of training are switched on, so that a lost random state
changes the result.

MOMENT is ``never``; ``step:N``, in the N-th training step of the process; or
``write:FILE:N:WHEN``, at the N-th write of FILE. WHEN is ``half``, with half of the new file on
disk; ``before`` the new file replaces the old one; or ``after``.
"""

import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from helpers.planted import QUICK
from recbole_lightgnn.quick_start import run
from recbole_lightgnn.trainer import recbole_resume
from recbole_lightgnn.trainer.training import Training
from recbole_lightgnn.utils import files

# Settings that sample: items, pairs and nodes. A lost random state then changes the result.
DRAWN = {"interaction_loss": "bpr", "interaction_weight": 1.0, "prediction_kd": "pairwise"}
DRAWN |= {"embedding_kd_weight": 0.1, "contrast_nodes": 20, "contrast_candidates": 30}
TEACHER = QUICK["teacher_settings"] | {"interaction_loss": "bpr"}
INTERMEDIATE = QUICK["intermediate_settings"] | DRAWN
SHARED = {key: QUICK[key] for key in ("show_progress", "topk", "valid_metric", "train_batch_size")}
SETTINGS = {
    "LightGNNTeacher": SHARED | TEACHER,
    "LightGNNIntermediate": SHARED | INTERMEDIATE | {"teacher_settings": TEACHER},
    "LightGNN": {
        **QUICK,
        **DRAWN,
        **{"entry_pruning": "random", "edge_pruning": "random", "uniformity_weight": 0.01},
        "teacher_settings": TEACHER,
        "intermediate_settings": INTERMEDIATE,
    },
}
OF_RECBOLE = {"teacher": "LightGCN", "teacher_settings": {"epochs": 2, "embedding_size": 16}}
BY_USERS = {"batch_by": "user", "train_batch_size": 32, "learning_rate_end": 0.1}
START = {"initial_embedding": "scores"}
SETTINGS["LightGNN batch_by user"] = {
    **QUICK,
    **BY_USERS,
    **START,
    "n_teachers": 2,
    "teacher_settings": QUICK["teacher_settings"] | BY_USERS | {"ranking_prior": 0.3},
    "intermediate_settings": QUICK["intermediate_settings"] | BY_USERS | START,
}
SEARCH = {"recipe": "auto", "search_trials": 2, "n_pruning_runs": 1, "epoch_steps": 2}
SETTINGS["LightGNN auto"] = SHARED | SEARCH | {"epochs": 2, "embedding_size": 16}
SETTINGS["LightGCN teaches"] = SETTINGS["LightGNN"] | OF_RECBOLE
SETTINGS["LightGNN refits"] = QUICK | {"refit": True}
SETTINGS["LightGNN rewinds"] = QUICK | {"rewind": True, "n_pruning_runs": 2}
SETTINGS["SimGCL"] = SHARED | {"epochs": 4, "embedding_size": 16}  # draws noise
SETTINGS["UnKD"] = SETTINGS["SimGCL"] | OF_RECBOLE  # draws pairs, after its teacher
SETTINGS["SimRec"] = SETTINGS["RRD"] = SETTINGS["UnKD"]  # draw pairs and nodes, or items
SETTINGS["AutoCF"] = SETTINGS["SimGCL"]  # draws graphs
SETTINGS["GLT"] = SHARED | {"epochs": 3, "embedding_size": 16, "n_pruning_runs": 2}
SETTINGS["AutoRec"] = SETTINGS["SimGCL"] | {"train_batch_size": 32}  # batch_by: user


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arrange(moment: str) -> None:
    kind, *rest = moment.split(":")
    if kind == "step":
        _die_in_step(int(rest[0]))
    elif kind == "write":
        _die_at_write(rest[0], int(rest[1]), rest[2])


def _die_in_step(number: int) -> None:
    steps = []
    train_epoch = Training._train_epoch

    def counted(self: Training, train_data: object) -> object:
        loss_terms = type(self.model).loss_terms.__get__(self.model)

        def step(interaction: object) -> object:
            steps.append(1)
            if len(steps) == number:
                die()
            return loss_terms(interaction)

        self.model.loss_terms = step
        return train_epoch(self, train_data)

    Training._train_epoch = counted


def _die_at_write(name: str, number: int, when: str) -> None:
    writes = []
    replace = files._replace

    def counted(partial: Path, path: Path) -> None:
        writes.extend([1] if path.name == name else [])
        now = path.name == name and len(writes) == number
        if now and when == "half":
            os.truncate(partial, partial.stat().st_size // 2)
        if now and when in ("half", "before"):
            die()
        replace(partial, path)
        if now:
            die()

    files._replace = counted


if __name__ == "__main__":
    recbole_resume.SECONDS_APART = 0.0
    arrange(sys.argv[2])
    run(
        "LightGNN" if " " in sys.argv[1] else sys.argv[1],
        "planted",
        settings=SETTINGS[sys.argv[1]],
        result_file=sys.argv[3],
        resume=True if "resume" in sys.argv else None,
    )
