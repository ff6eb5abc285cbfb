"""Write a dataset: one RecBole atomic file per split, and a card that describes the source.

Every importer calls `write_benchmark`, which writes ``NAME.train.inter``, ``NAME.valid.inter``,
``NAME.test.inter`` (header ``user_id:token<TAB>item_id:token``) and ``NAME.card.json`` to the
folder ``dataset/NAME/``. Either all four files are written or none.

In memory, users and items are numbers from 0. In the files they are tokens. If the source has
names, the token is the name in a table of `Tokens`. Otherwise the token is the number in decimal
digits.

RecBole loads the users and items that occur in at least one of the three files. So a user that
occurs only in valid or test stays in the dataset.
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

from recbole_lightgnn.data.prefetch import map_ahead
from recbole_lightgnn.data.split import inverse_permutation
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.utils.jit import compiled

SPLITS = ("train", "valid", "test")  # RecBole's order: benchmark_filename needs exactly three
_HEADER = b"user_id:token\titem_id:token\n"
_CHUNK = 2**18  # bytes of lines formatted at once; they fit into the processor's cache
_TAB, _LINE_END = b"\t\n"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Interactions(NamedTuple):
    """The distinct user-item pairs of one split, sorted by user, then by item.

    Attributes:
        users: user number of each pair, from 0. Shape: (n_pairs,)
        items: item number of each pair, from 0. Shape: (n_pairs,)
        shape: number of users and number of items in the source.
        duplicates: number of repeated pairs that were dropped to make the pairs distinct.
    """

    users: NDArray[np.integer]
    items: NDArray[np.integer]
    shape: tuple[int, int]
    duplicates: int = 0


class Tokens(NamedTuple):
    """Tokens (texts in the files) of users and items, indexed by the number of the user or item.

    Attributes:
        users: UTF-8 token of each user. Shape: (n_users,)
        items: UTF-8 token of each item. Shape: (n_items,)
    """

    users: NDArray[np.bytes_]
    items: NDArray[np.bytes_]


def pairs_hash(users: ArrayLike, items: ArrayLike) -> str:
    """Hash user-item pairs so that the order of the pairs does not matter.

    The hash is the SHA-256 of the sorted lines ``user<TAB>item``. A run's record contains the same
    hash (`fingerprint.dataset_fingerprint`).

    Args:
        users: token (text or number) of each pair's user; a number stands for its decimal digits.
            Shape: (n_pairs,)
        items: token (text or number) of each pair's item; a number stands for its decimal digits.
            Shape: (n_pairs,)

    Returns:
        64 hexadecimal digits. Two lists of pairs have equal hashes if and only if every pair occurs
        equally often in both lists.
    """
    return _hash(*_numbered(np.asarray(users), np.asarray(items)))


def dataset_folder(out: Path, name: str, *, overwrite: bool) -> Path:
    """Return the folder for a new dataset, after checking that the dataset may be written there.

    Args:
        out: folder of all datasets.
        name: name of the dataset.
        overwrite: whether an existing dataset may be replaced.

    Returns:
        ``out/name``.

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

    The files are first written to a temporary folder, which is then renamed, so no reader sees an
    incomplete dataset. A killed process can leave the hidden temporary folder (``.NAME.*``). If the
    process is killed after the old dataset was renamed and before the new dataset was renamed, the
    old dataset remains as ``.NAME.*.old``.

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

    Our models reject such a dataset. Evaluation of the second split masks the pairs of the first
    split, so a model could never rank the pairs that are in both splits.
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
        users, items, tokens = _numbered(users, items)
    digest = _Digest()
    with path.open("wb") as file, progress_bar(len(users), f"writing {path.name}") as bar:
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
    """Number users and items from 0 in order of appearance.

    Returns:
        First, the user number of each pair. Second, the item number of each pair. Third, the tokens
        of the numbered users and items.
    """
    numbers, names = [], []
    for column in (users, items):
        if column.dtype.kind in "iu":
            column = column.astype(np.int64)  # pandas requires the machine's byte order
        number, distinct = pd.factorize(column)
        numbers.append(number)
        if column.dtype.kind in "iu":
            names.append(distinct.astype("S"))
        else:
            names.append(np.array([str(token).encode() for token in distinct], dtype="S"))
    return numbers[0], numbers[1], Tokens(*names)


def _lines(users: NDArray[Any], items: NDArray[Any], tokens: Tokens) -> Iterator[tuple[bytes, int]]:
    """Format each pair as the line ``user<TAB>item<LF>``.

    Yields:
        First, a chunk of lines. Second, the number of lines in the chunk.
    """
    letters = [names.view(np.uint8).reshape(len(names), names.itemsize) for names in tokens]
    width = sum(table.shape[1] for table in letters) + 2  # bytes of the longest possible line
    step = max(1, _CHUNK // width)

    def chunk(start: int) -> tuple[bytes, int]:
        user, item = users[start : start + step], items[start : start + step]
        lines = np.empty(len(user) * width, np.uint8)
        return lines[: _join(user, item, letters[0], letters[1], lines)].tobytes(), len(user)

    yield from map_ahead(chunk, range(0, len(users), step))


@compiled
def _join(
    users: NDArray[Any],
    items: NDArray[Any],
    user_letters: NDArray[np.uint8],
    item_letters: NDArray[np.uint8],
    lines: NDArray[np.uint8],
) -> int:
    """Write ``user<TAB>item<LF>`` for each pair into ``lines``; return the number of bytes.

    Args:
        users: user number of each pair. Shape: (n_pairs,)
        items: item number of each pair. Shape: (n_pairs,)
        user_letters: bytes of each user's token, padded with zeros. Shape: (n_users, width)
        item_letters: bytes of each item's token, padded with zeros. Shape: (n_items, width)
        lines: buffer that receives the lines, at least as long as the lines. Shape: (n_bytes,)
    """
    size = 0  # the inner loop is written twice: as a function it made an import a sixth slower
    for user, item in zip(users, items):  # noqa: B905  numba does not support strict
        for letter in range(user_letters.shape[1]):
            if user_letters[user, letter] == 0:
                break
            lines[size] = user_letters[user, letter]
            size += 1
        lines[size] = _TAB
        size += 1
        for letter in range(item_letters.shape[1]):
            if item_letters[item, letter] == 0:
                break
            lines[size] = item_letters[item, letter]
            size += 1
        lines[size] = _LINE_END
        size += 1
    return size


def _hash(users: NDArray[Any], items: NDArray[Any], tokens: Tokens) -> str:
    """Sort pairs by their tokens, then hash the sorted pairs as `pairs_hash` does."""
    by_name = [np.argsort(names) for names in tokens]  # number of the n-th token in sorted order
    users, items = (
        inverse_permutation(order)[column]
        for order, column in zip(by_name, (users, items), strict=True)
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
    """Compute the SHA-256 of lines, leaving out the line feed at the end of the last line."""

    def __init__(self) -> None:
        self._digest, self._end = hashlib.sha256(), b""

    def update(self, lines: bytes) -> None:
        """Add lines to the hashed text; each line must end with a line feed."""
        self._digest.update(self._end)
        self._digest.update(memoryview(lines)[:-1])
        self._end = b"\n"

    def hexdigest(self) -> str:
        """Return the hash of all lines added so far, as 64 hexadecimal digits."""
        return self._digest.hexdigest()


def progress_bar(total: int, title: str, unit: str = "lines") -> Any:
    """Return a progress bar on standard error; it is hidden if standard error is no terminal.

    Args:
        total: number of units, such as lines, in the whole work.
        title: text before the bar.
        unit: name of the unit, such as ``lines``.
    """
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
    """Count the distinct numbers in arrays of numbers below ``size``.

    If ``size`` is large compared with the length of the arrays, a hash table saves memory.
    """
    if size > 4 * sum(map(len, parts)):
        return len(pd.unique(np.concatenate(parts)))
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
