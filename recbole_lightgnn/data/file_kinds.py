"""Paths of a dataset's files, and the columns that each kind of file needs.

A kind is the suffix of a file's name, such as ``inter``. Settings of the run name the columns.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from recbole_lightgnn.data.atomic import SPLITS
from recbole_lightgnn.errors import InputError

_NEEDED = {  # settings (without _FIELD) that name the columns that RecBole needs in each kind
    "inter": ("USER_ID", "ITEM_ID"),
    "user": ("USER_ID",),
    "item": ("ITEM_ID",),
    "kg": ("HEAD_ENTITY_ID", "RELATION_ID", "TAIL_ENTITY_ID"),
    "link": ("ITEM_ID", "ENTITY_ID"),
}
FEATURE_KINDS = tuple(_NEEDED)[1:]  # besides those of additional_feat_suffix


class FileSettings(Protocol):
    """Settings for reading the files of a run: RecBole's ``Config``, or a dictionary."""

    def __getitem__(self, key: str) -> Any:
        """A setting."""


DEFAULTS: dict[str, Any] = {  # RecBole's
    "field_separator": "\t",
    "seq_separator": " ",
    "encoding": "utf-8",
    "USER_ID_FIELD": "user_id",
    "ITEM_ID_FIELD": "item_id",
    "TIME_FIELD": "timestamp",
    "HEAD_ENTITY_ID_FIELD": "head_id",
    "TAIL_ENTITY_ID_FIELD": "tail_id",
    "RELATION_ID_FIELD": "relation_id",
    "ENTITY_ID_FIELD": "entity_id",
    "additional_feat_suffix": None,
    "benchmark_filename": None,
    "MODEL_TYPE": None,
    "eval_args": {"order": "RO", "split": None},
    **dict.fromkeys(("time-aware", "rm_dup_inter", "discretization")),
}


def needed_columns(settings: FileSettings, kind: str) -> list[str]:
    """Return the columns without which RecBole cannot use a kind of file."""
    names = [settings[f"{name}_FIELD"] for name in _NEEDED.get(kind, ())]
    return [name for name in names if name]


def id_columns(settings: FileSettings) -> set[str]:
    """Return the names of the id columns in all kinds of files."""
    return {name for kind in _NEEDED for name in needed_columns(settings, kind)}


def owned_ids(settings: FileSettings) -> dict[str, str]:
    """Return the id column of the kinds ``user`` and ``item``; ``inter`` has both columns, too."""
    return {"user": settings["USER_ID_FIELD"], "item": settings["ITEM_ID_FIELD"]}


def split_files(folder: Path, name: str, parts: Sequence[str] | None = None) -> dict[str, Path]:
    """Return the file of each split, for a dataset that is stored as three files.

    Args:
        folder: folder of the dataset.
        name: name of the dataset.
        parts: setting ``benchmark_filename``; None for its usual value.

    Raises:
        InputError: if the setting does not name three files.
    """
    parts = SPLITS if parts is None else parts
    if not isinstance(parts, list | tuple) or len(parts) != len(SPLITS):
        raise InputError(
            f"benchmark_filename must name three files (train, valid, test), got {parts!r}"
        )
    files = (folder / f"{name}.{part}.inter" for part in parts)
    return dict(zip(SPLITS, files, strict=True))


def interaction_files(folder: Path, name: str, settings: FileSettings) -> list[Path]:
    """Return the files of interactions that a run reads: one, or the three of `split_files`."""
    if (parts := settings["benchmark_filename"]) is None:
        return [folder / f"{name}.inter"]
    return list(split_files(folder, name, parts).values())


def feature_files(folder: Path, name: str, settings: FileSettings) -> dict[str, Path]:
    """Return the path of each kind of file besides ``inter``; the files need not exist."""
    kinds = (*FEATURE_KINDS, *(settings["additional_feat_suffix"] or ()))
    return {kind: folder / f"{name}.{kind}" for kind in kinds}
