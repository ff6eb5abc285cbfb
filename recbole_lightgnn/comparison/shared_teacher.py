"""Copy trained teachers from another run of the comparison, instead of training them again.

Two runs with the same seed, teachers and settings of the teachers train the same teachers, because
each stage of a run has its own seed. The copy is a run folder in which the first stages are
finished. The run resumes from this folder.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recbole_lightgnn.comparison.layout import Run
from recbole_lightgnn.config.settings_diff import model_settings
from recbole_lightgnn.config.teachers import searches_teachers, teachers_of
from recbole_lightgnn.runs.run_folder import RUN_FILE
from recbole_lightgnn.utils.files import read_json, write_json


def trained_teachers(config: Any) -> list[dict[str, Any]]:
    """Describe the teachers that a run will train, in their order.

    Args:
        config: the run's ``Config``.

    Returns:
        For each teacher, ``key``, ``model`` and ``settings``, as in its row of the record, and
        ``own_seed``, whether the teachers have different seeds. Empty if the run trains no teacher,
        or searches for its teachers.
    """
    if not getattr(config.model_class, "learns_from_teacher", False):
        return []
    settings = config.final_config_dict
    given = config["teacher_checkpoint"] or config["intermediate_checkpoint"]
    if given or searches_teachers(settings):
        return []
    return [
        {
            "key": f"teacher-{number:02}" if number else "teacher",
            "model": teacher.model,
            "settings": model_settings(config.stage(teacher.model, teacher.settings)),
            "own_seed": not config["teachers"],
        }
        for number, teacher in enumerate(teachers_of(settings))
    ]


def take_teachers(run: Run) -> str | None:
    """Copy the teachers of another run into the folder of a run that has not begun.

    Returns:
        Name and seed of the other run; ``None`` if nothing is copied, because the run has begun or
        failed before, or because no other run has all these teachers.
    """
    begun = run.folder.checkpoints.exists() or run.folder.failure() is not None
    if not run.teachers or begun:
        return None
    pattern = f"*-{run.seed}/{run.folder.checkpoints.name}/*/{RUN_FILE}"
    for file in sorted(run.folder.path.parent.glob(pattern)):
        content: Any = read_json(file)
        if rows := _rows_of(content, run.teachers):
            _copy(file.parent, run, content["data"], rows)
            return file.parents[2].name.removesuffix(f"-{run.seed}") + f" seed {run.seed}"
    return None


def _rows_of(content: Any, teachers: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows of these teachers in a ``run.json``; empty unless all are there.

    A teacher that was given to the other run as a checkpoint is not taken.
    """
    if not isinstance(content, dict) or not content.keys() >= {"settings", "data", "rows"}:
        return []
    settings = content["settings"]
    own_seed = not settings.get("teachers")
    if searches_teachers(settings) or own_seed != teachers[0]["own_seed"]:
        return []
    rows = {row["key"]: row for row in content["rows"] if "checkpoint" not in row}
    found = [rows.get(teacher["key"], {}) for teacher in teachers]
    same = all(
        row.get(key) == teacher[key]
        for row, teacher in zip(found, teachers, strict=True)
        for key in ("model", "settings")
    )
    return found if same else []


def _copy(source: Path, run: Run, data: Any, rows: list[dict[str, Any]]) -> None:
    target = run.folder.checkpoints / f"{run.model}-{run.dataset}-shared"
    target.mkdir(parents=True)
    for row in rows:
        for file in source.glob(f"{row['key']}.*"):
            shutil.copyfile(file, target / file.name)
    # Written last: without this file, the run starts from the beginning.
    write_json(target / RUN_FILE, {"settings": run.settings, "data": data, "rows": rows})
