"""Copy a trained teacher from another run of the comparison, instead of training it again.

Two runs with the same seed, teacher and settings of the teacher train the same teacher, because
each stage of a run has its own seed. The copy is a run folder in which the first stage is finished.
The run resumes from this folder.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole_lightgnn.comparison.layout import Run
from recbole_lightgnn.config.settings_diff import model_settings
from recbole_lightgnn.config.teachers import searches_teachers
from recbole_lightgnn.runs.run_folder import RUN_FILE
from recbole_lightgnn.utils.files import read_json, write_json

_KEY = "teacher"  # of the teacher's row, and the name of its checkpoint


def teacher_of(config: Any) -> dict[str, Any] | None:
    """Describe the teacher that a run will train.

    Args:
        config: the run's ``Config``.

    Returns:
        ``model`` and ``settings`` of the teacher, as in its row of the record; ``None`` if the run
        trains no teacher, or several.
    """
    if not getattr(config.model_class, "learns_from_teacher", False):
        return None
    given = config["teacher_checkpoint"] or config["intermediate_checkpoint"]
    several = config["n_teachers"] != 1 or config["teachers"]
    if given or several or searches_teachers(config.final_config_dict):
        return None
    stage = config.stage(config["teacher"], config["teacher_settings"] or {})
    return {"model": config["teacher"], "settings": model_settings(stage)}


def take_teacher(run: Run) -> str | None:
    """Copy the teacher of another run into the folder of a run that has not begun.

    Returns:
        Name and seed of the other run; ``None`` if nothing is copied, because the run has begun or
        failed before, or because no other run has this teacher.
    """
    begun = run.folder.checkpoints.exists() or run.folder.failure() is not None
    if run.teacher is None or begun:
        return None
    pattern = f"*-{run.seed}/{run.folder.checkpoints.name}/*/{RUN_FILE}"
    for file in sorted(run.folder.path.parent.glob(pattern)):
        content: Any = read_json(file)
        if (row := _teacher_row(content)) is not None and _is_teacher(row, run.teacher):
            _copy(file.parent, run, content["data"], row)
            return file.parents[2].name.removesuffix(f"-{run.seed}") + f" seed {run.seed}"
    return None


def _teacher_row(content: Any) -> dict[str, Any] | None:
    """The row of a finished teacher in a ``run.json``; ``None`` if there is none."""
    if not isinstance(content, dict) or not content.keys() >= {"data", "rows"}:
        return None
    return next((row for row in content["rows"] if row["key"] == _KEY), None)


def _is_teacher(row: Mapping[str, Any], teacher: Mapping[str, Any]) -> bool:
    """Whether a row is of this teacher, trained in its run and not given as a checkpoint."""
    same = all(row.get(key) == value for key, value in teacher.items())
    return same and "checkpoint" not in row


def _copy(source: Path, run: Run, data: Any, row: Mapping[str, Any]) -> None:
    target = run.folder.checkpoints / f"{run.model}-{run.dataset}-shared"
    target.mkdir(parents=True)
    for file in source.glob(f"{_KEY}.*"):
        shutil.copyfile(file, target / file.name)
    # Written last: without this file, the run starts from the beginning.
    write_json(target / RUN_FILE, {"settings": run.settings, "data": data, "rows": [row]})
