"""Write a dataset: one RecBole atomic file per split, and a card that describes the source.

Every importer calls `write_benchmark`, which writes ``NAME.train.inter``, ``NAME.valid.inter``,
``NAME.test.inter`` (header ``user_id:token<TAB>item_id:token``) and ``NAME.card.json`` to the
folder ``dataset/NAME/``.

In memory, users and items are numbers from 0. In the files they are tokens: their names, if the
source has names (`Tokens`), or else their numbers in decimal digits.

RecBole loads every user and item of the three files, even those that occur only in valid or test.
"""

import itertools
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from recbole_lightgnn.data.pair_lines import Digest, Tokens, format_lines, hash_numbered, numbered
from recbole_lightgnn.errors import InputError

SPLITS = ("train", "valid", "test")  # RecBole's order: benchmark_filename needs exactly three
_HEADER = b"user_id:token\titem_id:token\n"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Interactions(NamedTuple):
    """The distinct user-item pairs of one split, sorted by user, then by item.

    Attributes:
        users: user number of each pair, from 0. Shape: (n_pairs,)
        items: item number of each pair, from 0. Shape: (n_pairs,)
        shape: number of users and number of items in the source.
        duplicates: number of repeated pairs that were dropped.
    """

    users: NDArray[np.integer]
    items: NDArray[np.integer]
    shape: tuple[int, int]
    duplicates: int = 0


def dataset_folder(out: Path, name: str, *, overwrite: bool) -> Path:
    """Return the folder ``out/name``, after checking that a new dataset may be written there.

    Raises:
        InputError: if the name is not a plain file name, if the dataset exists and ``overwrite`` is
            false, or if the folder contains files that do not belong to the dataset.
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
        raise InputError(f"{folder} exists and is not a folder; choose another --name or remove it")
    try:
        present = sorted(os.listdir(folder))
    except OSError as error:
        raise InputError(
            f"{folder} exists and cannot be read ({error.strerror}); choose another --name"
        ) from error
    if present and not overwrite:
        raise InputError(
            f"dataset {folder} already exists; give --overwrite to replace it, or another --name"
        )
    foreign = [entry for entry in present if not entry.startswith(f"{name}.")]
    if foreign:  # replacing the folder would delete them
        raise InputError(
            f"{folder} also contains {foreign[0]}, which is not a file of dataset {name!r}, so it "
            "was not replaced; move that file, or choose another --name"
        )
    return folder


def write_benchmark(
    out: Path,
    name: str,
    splits: Mapping[str, Interactions],
    origin: Mapping[str, Any],
    *,
    tokens: Tokens | None = None,
    overwrite: bool = False,
    presplit: bool = True,
) -> Path:
    """Write the three splits and the card of a dataset to ``out/name``: all files or none.

    The files are written to a hidden temporary folder, ``.NAME.*``, which is then renamed. A killed
    process can leave this folder. If it was replacing a dataset, the old dataset may remain as
    ``.NAME.*.old``.

    Args:
        out: folder of all datasets.
        name: name of the dataset.
        splits: pairs of each split in ``SPLITS``. All splits have the same ``shape``, and none is
            empty.
        origin: description of the source for the card; must have ``format``, ``source`` and
            ``how_split``.
        tokens: tokens of users and items; None to write the numbers of users and items as tokens.
        overwrite: whether an existing dataset may be replaced.
        presplit: whether the source came in splits, so that a pair might be in two splits.

    Returns:
        The dataset's folder.

    Raises:
        InputError: as `dataset_folder`; also if a split is empty, the shapes of the splits differ,
            a pair is in two splits, or the folder cannot be written (no disk space, no permission).
    """
    folder = dataset_folder(out, name, overwrite=overwrite)
    _check(splits, origin["source"])
    if presplit:
        _check_disjoint(splits, origin["source"], tokens)
    staging = None
    try:
        out.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=out))
        staging.chmod(0o755)  # mkdtemp's 0700 would hide the dataset from other users
        card = _card(name, splits, origin)
        for split in SPLITS:
            file = staging / f"{name}.{split}.inter"
            card["splits"][split]["sha256"] = _write_inter(file, splits[split], tokens)
        text = json.dumps(card, indent=2, ensure_ascii=False)
        (staging / f"{name}.card.json").write_text(text + "\n", encoding="utf-8")
        _replace(staging, folder)
    except OSError as error:
        raise InputError(
            f"dataset {folder} cannot be written ({error.strerror or error}); nothing was changed: "
            "check disk space and permissions, or choose another --out"
        ) from error
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)  # after a success it no longer exists
    return folder


def _check(splits: Mapping[str, Interactions], source: str) -> None:
    shapes = {split: splits[split].shape for split in SPLITS}
    if len(set(shapes.values())) > 1:
        listed = ", ".join(f"{split} {n} x {m}" for split, (n, m) in shapes.items())
        raise InputError(
            f"the splits of {source} have different shapes ({listed}); expected the same number of "
            "users and items in each: take all three from the same publication"
        )
    for split in SPLITS:
        if len(splits[split].users) == 0:
            raise InputError(
                f"the {split} split of {source} has no interactions; expected at least one: check "
                "that the file is the right one"
            )


def _check_disjoint(splits: Mapping[str, Interactions], source: str, tokens: Tokens | None) -> None:
    for first, second in itertools.combinations(SPLITS, 2):
        _check_pair_of_splits(splits, first, second, source, tokens)


def _check_pair_of_splits(
    splits: Mapping[str, Interactions], first: str, second: str, source: str, tokens: Tokens | None
) -> None:
    """Raise InputError if a user-item pair is in both splits, ``first`` and ``second``.

    When the second split is ranked, the pairs of the first can be masked. Such a pair would then
    never be ranked.
    """
    n_items = splits[first].shape[1]
    keys = [splits[s].users.astype(np.int64) * n_items + splits[s].items for s in (first, second)]
    keys.sort(key=len)
    position = np.searchsorted(keys[1], keys[0])  # both are sorted
    position[position == len(keys[1])] = 0
    common = keys[0][keys[1][position] == keys[0]]
    if len(common):
        user, item = divmod(int(common[0]), n_items)
        if tokens is not None:
            user, item = tokens.users[user].decode(), tokens.items[item].decode()
        raise InputError(
            f"{source} has {len(common)} interactions both in {first} and in {second}, e.g. user "
            f"{user} with item {item}; expected each in one split only: remove them from one split"
        )


# --- lines ----------------------------------------------------------------------------------


def _write_inter(path: Path, pairs: Interactions, tokens: Tokens | None) -> str:
    """Write the file of one split; return the hash of the split's pairs (`pairs_hash`)."""
    users, items = pairs.users, pairs.items
    if tokens is None:
        users, items, tokens = numbered(users, items)
    digest = Digest()
    with path.open("wb") as file, progress_bar(len(users), f"writing {path.name}") as bar:
        file.write(_HEADER)
        for chunk, n in format_lines(users, items, tokens):
            file.write(chunk)
            digest.update(chunk)
            bar.update(n)
        file.flush()
        os.fsync(file.fileno())  # before the rename, or a power cut could leave empty files
    in_order = all((names[1:] >= names[:-1]).all() for names in tokens)
    return digest.hexdigest() if in_order else hash_numbered(users, items, tokens)


def progress_bar(total: int, title: str, unit: str = "lines") -> Any:
    """Return a progress bar on standard error; it is hidden if standard error is no terminal."""
    return tqdm(total=total, desc=title, unit=unit, unit_scale=True, leave=False, disable=None)


# --- card -----------------------------------------------------------------------------------


def _card(
    name: str, splits: Mapping[str, Interactions], origin: Mapping[str, Any]
) -> dict[str, Any]:
    n_users, n_items = splits["train"].shape
    return {
        "name": name,
        **origin,
        "imported": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        # RecBole counts users_with_pairs and items_with_pairs, each plus 1 for padding
        "users": n_users,
        "items": n_items,
        "users_with_pairs": _distinct([splits[split].users for split in SPLITS], n_users),
        "items_with_pairs": _distinct([splits[split].items for split in SPLITS], n_items),
        "splits": {
            split: {
                "pairs": len(splits[split].users),
                "users": _distinct([splits[split].users], n_users),
                "items": _distinct([splits[split].items], n_items),
                "duplicates_dropped": splits[split].duplicates,
            }
            for split in SPLITS
        },
    }


def _distinct(parts: Sequence[NDArray[Any]], size: int) -> int:
    """Count the distinct numbers, all below ``size``, in several arrays."""
    if size > 4 * sum(map(len, parts)):
        return len(pd.unique(np.concatenate(parts)))  # a hash table needs less memory then
    present = np.zeros(size, bool)
    for part in parts:
        present[part] = True
    return int(present.sum())


def _replace(staging: Path, folder: Path) -> None:
    """Replace ``folder`` by ``staging``, by renaming; after an error, ``folder`` is unchanged."""
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
