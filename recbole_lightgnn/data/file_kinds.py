"""Give the paths of a dataset's files, and the columns that each kind of file needs.

A kind of file is the suffix of the file's name, such as ``inter`` (interactions) or ``user``. The
names of the columns are settings of the run.
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
    """Settings that say how to read a dataset's files: RecBole's ``Config``, or a dictionary."""

    def __getitem__(self, key: str) -> Any:
        """Return the value of the setting with the name ``key``."""


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
    **dict.fromkeys(("time-aware", "rm_dup_inter", "discretization", "val_interval")),
}


def needed_columns(settings: FileSettings, kind: str) -> list[str]:
    """Return the names of the columns without which RecBole cannot use a kind of file."""
    names = [settings[f"{name}_FIELD"] for name in _NEEDED.get(kind, ())]
    return [name for name in names if name]


def id_columns(settings: FileSettings) -> set[str]:
    """Return the names of all columns with ids, over all kinds of files."""
    return {name for kind in _NEEDED for name in needed_columns(settings, kind)}


def owned_ids(settings: FileSettings) -> dict[str, str]:
    """Return the name of the id column in ``user`` files and in ``item`` files, by kind of file."""
    return {"user": settings["USER_ID_FIELD"], "item": settings["ITEM_ID_FIELD"]}


def split_files(folder: Path, name: str, parts: Sequence[str] | None = None) -> dict[str, Path]:
    """Return the path of each split's file, for a dataset that is stored as three files.

    Args:
        folder: folder of the dataset.
        name: name of the dataset.
        parts: the setting ``benchmark_filename``; None for ``train``, ``valid`` and ``test``.

    Raises:
        InputError: if the setting is not a list of three names.
    """
    parts = SPLITS if parts is None else parts
    if not isinstance(parts, list | tuple) or len(parts) != len(SPLITS):
        raise InputError(
            f"benchmark_filename must name three files (train, valid, test), got {parts!r}"
        )
    files = (folder / f"{name}.{part}.inter" for part in parts)
    return dict(zip(SPLITS, files, strict=True))


def interaction_files(folder: Path, name: str, settings: FileSettings) -> list[Path]:
    """Return the paths of the interaction files that a run reads: one, or one for each split."""
    if (parts := settings["benchmark_filename"]) is None:
        return [folder / f"{name}.inter"]
    return list(split_files(folder, name, parts).values())


def feature_files(folder: Path, name: str, settings: FileSettings) -> dict[str, Path]:
    """Return the path for each kind of file other than ``inter``; the files may be missing."""
    kinds = (*FEATURE_KINDS, *(settings["additional_feat_suffix"] or ()))
    return {kind: folder / f"{name}.{kind}" for kind in kinds}
