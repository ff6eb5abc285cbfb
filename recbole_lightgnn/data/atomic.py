"""What every importer ends in: RecBole atomic benchmark files and the dataset's card.

``dataset/NAME/`` gets ``NAME.train.inter``, ``NAME.valid.inter``, ``NAME.test.inter`` (header
``user_id:token<TAB>item_id:token``) and ``NAME.card.json``, all of them or none.

RecBole knows only users and items that occur in a file: those that occur nowhere are absent after
loading, and users that occur in valid or test alone are kept as they are.
"""

import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recbole_lightgnn.errors import InputError

SPLITS = ("train", "valid", "test")  # RecBole's order: benchmark_filename needs exactly three
_HEADER = "user_id:token\titem_id:token\n"
_CHUNK = 100_000  # lines written at once: flat memory however long the table
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Interactions(NamedTuple):
    """The pairs of one split, sorted by user, then item, each pair once."""

    users: NDArray[np.int64]  # (n_pairs,), 0-based row numbers of the source
    items: NDArray[np.int64]  # (n_pairs,), 0-based column numbers of the source
    shape: tuple[int, int]  # users, items


def pairs_hash(users: ArrayLike, items: ArrayLike) -> str:
    """SHA-256 of the pairs as little-endian int64, sorted by user, then item, whatever their order.

    Args:
        users: user numbers. Shape: (n_pairs,)
        items: item numbers. Shape: (n_pairs,)

    Returns:
        64 hexadecimal digits; equal exactly when the two tables hold the same pairs equally often.
    """
    pairs = np.stack([np.asarray(users), np.asarray(items)], axis=1).astype("<i8")  # (n_pairs, 2)
    order = np.lexsort((pairs[:, 1], pairs[:, 0]))
    return hashlib.sha256(pairs[order].tobytes()).hexdigest()


def dataset_folder(out: Path, name: str, *, overwrite: bool) -> Path:
    """The folder that dataset ``name`` is to have under ``out``; checks that it may be written.

    Raises:
        InputError: if ``name`` could leave ``out``, or something is there that must be kept.
    """
    if not _NAME.fullmatch(name):
        raise InputError(
            f"dataset name {name!r} cannot be used; expected letters, digits, '.', '_' and '-' "
            "(a letter or digit first, at most 100): choose another --name"
        )
    folder = out / name
    if not os.path.lexists(folder):
        return folder
    if folder.is_symlink() or not folder.is_dir():
        raise InputError(f"{folder} exists and is no folder; choose another --name or remove it")
    try:
        present = sorted(os.listdir(folder))
    except OSError as error:
        raise InputError(
            f"{folder} exists and cannot be read ({error.strerror}); choose another --name"
        ) from error
    if present and not overwrite:
        raise InputError(
            f"dataset {folder} exists and was kept; give --overwrite to replace it, or another "
            "--name"
        )
    foreign = [entry for entry in present if not entry.startswith(f"{name}.")]
    if foreign:  # replacing a folder means deleting it: never one that is more than a dataset
        raise InputError(
            f"{folder} also holds {foreign[0]}, which is no file of a dataset {name!r}, so it was "
            "not replaced; move that file, or choose another --name"
        )
    return folder


def write_benchmark(
    out: Path,
    name: str,
    splits: Mapping[str, Interactions],
    origin: Mapping[str, str],
    *,
    overwrite: bool = False,
) -> Path:
    """Write the three splits and the card as ``out/name``, atomically.

    They are written to a temporary folder beside it, which is then renamed: no reader finds a part
    of a dataset. A kill can leave that hidden folder (``.NAME.*``), and at worst, between the two
    renames of an overwrite, the old dataset under its name with ``.old``.

    Args:
        splits: pairs of each of ``SPLITS``, all of one shape, none empty.
        origin: what the card says about the source: ``format``, ``source`` and ``how_split``.

    Returns:
        The dataset's folder.

    Raises:
        InputError: as ``dataset_folder``; if a split is empty or the shapes differ; or if the
            folder cannot be written (no room, no permission).
    """
    folder = dataset_folder(out, name, overwrite=overwrite)
    _check(splits, origin["source"])
    staging = None
    try:
        out.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=out))
        staging.chmod(0o755)  # mkdtemp's 0700 would hide the dataset from other users
        for split in SPLITS:
            _write_inter(staging / f"{name}.{split}.inter", splits[split])
        card = json.dumps(_card(name, splits, origin), indent=2, ensure_ascii=False)
        (staging / f"{name}.card.json").write_text(card + "\n", encoding="utf-8")
        _replace(staging, folder)
    except OSError as error:
        raise InputError(
            f"dataset {folder} cannot be written ({error.strerror or error}); nothing was changed: "
            "check room and permissions, or choose another --out"
        ) from error
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)  # gone already where all went well
    return folder


def _check(splits: Mapping[str, Interactions], source: str) -> None:
    shapes = {split: splits[split].shape for split in SPLITS}
    if len(set(shapes.values())) > 1:
        told = ", ".join(f"{split} {n} x {m}" for split, (n, m) in shapes.items())
        raise InputError(
            f"the splits of {source} have different shapes ({told}); expected one number of users "
            "and items: take all three from the same publication"
        )
    for split in SPLITS:
        if len(splits[split].users) == 0:
            raise InputError(
                f"the {split} split of {source} has no interaction; expected at least one: check "
                "that the file is the right one"
            )


def _write_inter(path: Path, pairs: Interactions) -> None:
    with path.open("w", encoding="ascii", newline="\n") as file:
        file.write(_HEADER)
        for start in range(0, len(pairs.users), _CHUNK):
            users = pairs.users[start : start + _CHUNK].tolist()
            items = pairs.items[start : start + _CHUNK].tolist()
            file.writelines(f"{u}\t{i}\n" for u, i in zip(users, items, strict=True))
        file.flush()
        os.fsync(file.fileno())  # before the rename, or a power cut could leave empty files


def _card(
    name: str, splits: Mapping[str, Interactions], origin: Mapping[str, str]
) -> dict[str, Any]:
    n_users, n_items = splits["train"].shape
    return {
        "name": name,
        **origin,
        "imported": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        # of the source's numbering; RecBole counts the ones below, plus one for padding
        "users": n_users,
        "items": n_items,
        "users_with_pairs": _distinct([splits[split].users for split in SPLITS]),
        "items_with_pairs": _distinct([splits[split].items for split in SPLITS]),
        "splits": {
            split: {
                "pairs": len(splits[split].users),
                "users": _distinct([splits[split].users]),
                "items": _distinct([splits[split].items]),
                "sha256": pairs_hash(splits[split].users, splits[split].items),
            }
            for split in SPLITS
        },
    }


def _distinct(parts: list[Any]) -> int:
    return len(np.unique(np.concatenate(parts)))


def _replace(staging: Path, folder: Path) -> None:
    """Put ``staging`` where ``folder`` is; on failure ``folder`` is what it was."""
    if not folder.exists():
        staging.rename(folder)
        return
    old = staging.with_name(f"{staging.name}.old")
    folder.rename(old)
    try:
        staging.rename(folder)
    except OSError:
        old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)
