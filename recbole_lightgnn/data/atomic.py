"""What every importer ends in: RecBole atomic benchmark files and the dataset's card.

``dataset/NAME/`` gets ``NAME.train.inter``, ``NAME.valid.inter``, ``NAME.test.inter`` (header
``user_id:token<TAB>item_id:token``) and ``NAME.card.json``, all of them or none.

Inside, users and items are numbers. In the files they are tokens: the decimal digits of the number,
or, where the source has names, what a table of `Tokens` says.

RecBole knows only users and items that occur in a file: those that occur nowhere are absent after
loading, and users that occur in valid or test alone are kept as they are.
"""

import hashlib
import itertools
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from recbole_lightgnn.data.prefetch import ahead
from recbole_lightgnn.data.split import inverse
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.utils.jit import compiled

SPLITS = ("train", "valid", "test")  # RecBole's order: benchmark_filename needs exactly three
_HEADER = b"user_id:token\titem_id:token\n"
_CHUNK = 2**18  # bytes of lines made at once: they fit the processor's cache
_TAB, _LINE_END = b"\t\n"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Interactions(NamedTuple):
    """The pairs of one split, sorted by user, then item, each pair once."""

    users: NDArray[np.integer]  # (n_pairs,), 0-based row numbers of the source
    items: NDArray[np.integer]  # (n_pairs,), 0-based column numbers of the source
    shape: tuple[int, int]  # users, items
    duplicates: int = 0  # how many more the source had


class Tokens(NamedTuple):
    """What users and items are called in the files, by number."""

    users: NDArray[np.bytes_]  # (n_users,), UTF-8
    items: NDArray[np.bytes_]  # (n_items,)


def pairs_hash(users: ArrayLike, items: ArrayLike) -> str:
    """SHA-256 of the sorted lines ``user<TAB>item``, as the result record has it.

    Args:
        users: tokens, or numbers, which stand for their decimal digits. Shape: (n_pairs,)
        items: the same. Shape: (n_pairs,)

    Returns:
        64 hexadecimal digits; equal exactly when the two tables hold the same pairs equally often.
    """
    return _hash(*_numbered(np.asarray(users), np.asarray(items)))


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
    origin: Mapping[str, Any],
    *,
    tokens: Tokens | None = None,
    overwrite: bool = False,
    presplit: bool = True,
) -> Path:
    """Write the three splits and the card as ``out/name``, atomically.

    They are written to a temporary folder beside it, which is then renamed: no reader finds a part
    of a dataset. A kill can leave that hidden folder (``.NAME.*``), and at worst, between the two
    renames of an overwrite, the old dataset under its name with ``.old``.

    Args:
        splits: pairs of each of ``SPLITS``, all of one shape, none empty.
        origin: what the card says about the source: ``format``, ``source``, ``how_split``.
        tokens: names of the numbers; none where they are the decimal digits.
        presplit: the source came in splits, so a pair might be in two of them.

    Returns:
        The dataset's folder.

    Raises:
        InputError: as ``dataset_folder``; if a split is empty, the shapes differ or a pair is in
            two splits; or if the folder cannot be written (no room, no permission).
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


def _check_disjoint(splits: Mapping[str, Interactions], source: str, tokens: Tokens | None) -> None:
    for first, second in itertools.combinations(SPLITS, 2):
        _check_pair_of_splits(splits, first, second, source, tokens)


def _check_pair_of_splits(
    splits: Mapping[str, Interactions], first: str, second: str, source: str, tokens: Tokens | None
) -> None:
    """No pair may be in two splits: our models refuse it, and a ranking that masks the one never
    finds the other."""
    n_items = splits[first].shape[1]
    keys = [splits[s].users.astype(np.int64) * n_items + splits[s].items for s in (first, second)]
    keys.sort(key=len)
    place = np.searchsorted(keys[1], keys[0])  # both are sorted
    place[place == len(keys[1])] = 0
    common = keys[0][keys[1][place] == keys[0]]
    if len(common):
        user, item = divmod(int(common[0]), n_items)
        if tokens is not None:
            user, item = tokens.users[user].decode(), tokens.items[item].decode()
        raise InputError(
            f"{source} has {len(common)} interactions both in {first} and in {second}, e.g. user "
            f"{user} with item {item}; expected each in one split alone: remove them from one"
        )


# --- lines ----------------------------------------------------------------------------------


def _write_inter(path: Path, pairs: Interactions, tokens: Tokens | None) -> str:
    """Write one split; returns its hash."""
    if tokens is None:
        users, items, tokens = _numbered(pairs.users, pairs.items)
    else:
        users, items = pairs.users, pairs.items
    digest = _Digest()
    with path.open("wb") as file, progress(len(users), f"writing {path.name}") as bar:
        file.write(_HEADER)
        for chunk, n in _lines(users, items, tokens):
            file.write(chunk)
            digest.update(chunk)
            bar.update(n)
        file.flush()
        os.fsync(file.fileno())  # before the rename, or a power cut could leave empty files
    in_order = all((names[1:] >= names[:-1]).all() for names in tokens)
    return digest.hexdigest() if in_order else _hash(users, items, tokens)


def _numbered(
    users: NDArray[Any], items: NDArray[Any]
) -> tuple[NDArray[np.int64], NDArray[np.int64], Tokens]:
    """Numbers or tokens of any kind -> numbers from 0, and what each is called."""
    numbers, names = [], []
    for column in (users, items):
        if column.dtype.kind in "iu":
            column = column.astype(np.int64)  # pandas wants the machine's byte order
        number, distinct = pd.factorize(column)
        numbers.append(number)
        if column.dtype.kind in "iu":
            names.append(distinct.astype("S"))
        else:
            names.append(np.array([str(token).encode() for token in distinct], dtype="S"))
    return numbers[0], numbers[1], Tokens(*names)


def _lines(users: NDArray[Any], items: NDArray[Any], tokens: Tokens) -> Iterator[tuple[bytes, int]]:
    """``user<TAB>item<LF>`` for each pair, some at a time, and how many they are."""
    letters = [names.view(np.uint8).reshape(len(names), names.itemsize) for names in tokens]
    width = sum(table.shape[1] for table in letters) + 2
    step = max(1, _CHUNK // width)

    def chunk(start: int) -> tuple[bytes, int]:
        user, item = users[start : start + step], items[start : start + step]
        lines = np.empty(len(user) * width, np.uint8)
        return lines[: _join(user, item, *letters, lines)].tobytes(), len(user)

    yield from ahead(chunk, range(0, len(users), step))


@compiled
def _join(
    users: NDArray[Any],
    items: NDArray[Any],
    user_letters: NDArray[np.uint8],
    item_letters: NDArray[np.uint8],
    lines: NDArray[np.uint8],
) -> int:
    """Write the lines; how many bytes they are. Letters: shape (names, width), ended by zeros."""
    size = 0  # twice the same loop: called as a function it made a whole import a sixth slower
    for user, item in zip(users, items):  # noqa: B905  numba knows no strict
        for place in range(user_letters.shape[1]):
            if user_letters[user, place] == 0:
                break
            lines[size] = user_letters[user, place]
            size += 1
        lines[size] = _TAB
        size += 1
        for place in range(item_letters.shape[1]):
            if item_letters[item, place] == 0:
                break
            lines[size] = item_letters[item, place]
            size += 1
        lines[size] = _LINE_END
        size += 1
    return size


def _hash(users: NDArray[Any], items: NDArray[Any], tokens: Tokens) -> str:
    by_name = [np.argsort(names) for names in tokens]  # number of the n-th name
    users, items = (
        inverse(order)[column] for order, column in zip(by_name, (users, items), strict=True)
    )
    n_items = max(1, len(tokens.items))
    key = users.astype(np.int64) * n_items + items
    del users, items
    if (key[1:] < key[:-1]).any():
        key.sort()
    digest = _Digest()
    names = Tokens(*(column[order] for column, order in zip(tokens, by_name, strict=True)))
    for chunk, _ in _lines(key // n_items, key % n_items, names):
        digest.update(chunk)
    return digest.hexdigest()


class _Digest:
    """SHA-256 of lines that are joined, not ended, by a line feed."""

    def __init__(self) -> None:
        self._digest, self._end = hashlib.sha256(), b""

    def update(self, lines: bytes) -> None:
        self._digest.update(self._end)
        self._digest.update(memoryview(lines)[:-1])
        self._end = b"\n"

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


def progress(total: int, what: str, unit: str = "lines") -> Any:
    """A bar on standard error; nothing where that is no terminal."""
    return tqdm(total=total, desc=what, unit=unit, unit_scale=True, leave=False, disable=None)


# --- card -----------------------------------------------------------------------------------


def _card(
    name: str, splits: Mapping[str, Interactions], origin: Mapping[str, Any]
) -> dict[str, Any]:
    n_users, n_items = splits["train"].shape
    return {
        "name": name,
        **origin,
        "imported": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        # of the source's numbering; RecBole counts the ones below, plus one for padding
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
    if size > 4 * sum(map(len, parts)):  # else without hashing
        return len(pd.unique(np.concatenate(parts)))
    met = np.zeros(size, bool)
    for part in parts:
        met[part] = True
    return int(met.sum())


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
