"""Datasets on disk: where they are, and their pairs, read line by line.

Memory stays flat: 16 bytes a pair and each user's and item's token once, however wide the lines.
Plain lines are read, not ``pandas.read_csv``: at two thirds of its speed, every malformed line is
found with its number, where pandas stops at the first that is too long and fills up the others.
"""

import json
from array import array
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recbole_lightgnn.config.files import properties_dir, read_yaml
from recbole_lightgnn.data.atomic import SPLITS
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.utils.text import did_you_mean

WHOLE = "all"  # stands for the split of a dataset that is one file
_IN_RECBOLE = "ml-100k"  # RecBole reads this name from its own wheel, whatever data_path is
_FIELDS = ("user_id", "item_id")
_SHOWN = 3  # malformed lines told


class Stored(NamedTuple):
    """A dataset's place on disk."""

    name: str
    folder: Path
    files: dict[str, Path]  # split -> file; of a dataset in one file, `WHOLE` -> file
    missing: tuple[Path, ...]  # benchmark files that should be there

    @property
    def card_file(self) -> Path:
        return self.folder / f"{self.name}.card.json"


class Pairs(NamedTuple):
    """The pairs of one file, in its order, users and items as places in the dataset's tokens."""

    users: NDArray[np.int64]  # (n_pairs,)
    items: NDArray[np.int64]  # (n_pairs,)
    n_malformed: int
    malformed: tuple[str, ...]  # the first few: `line 7: expected ...`


class Content(NamedTuple):
    """All pairs of a dataset, with the tokens of its users and items."""

    users: list[str]
    items: list[str]
    splits: dict[str, Pairs]


def find_dataset(name: str, data_path: Path) -> Stored:
    """The dataset that ``--dataset=name`` means.

    Raises:
        InputError: if there is none.
    """
    if name == _IN_RECBOLE:
        found = _look(name, _recbole_examples() / name)
    else:
        found = _look(name, data_path / name)
    if found is None:
        known = [stored.name for stored in find_all(data_path)]
        near = did_you_mean(name, known)
        raise InputError(
            f"dataset {name!r} not found{near}: {data_path / name} has no {name}.inter and no "
            f"{name}.train.inter; `recbole-lightgnn data list` tells what is there, "
            "`import` and `data download` bring more"
        )
    return found


def find_all(data_path: Path) -> list[Stored]:
    """Every dataset under ``data_path`` and the one inside RecBole, by name."""
    folders = [_recbole_examples() / _IN_RECBOLE]
    if data_path.is_dir():
        try:
            folders += [f for f in data_path.iterdir() if f.name != _IN_RECBOLE]
        except OSError as error:
            raise InputError(f"{data_path} cannot be read: {error.strerror or error}") from error
    found = (_look(folder.name, folder) for folder in sorted(folders, key=lambda f: f.name))
    return [stored for stored in found if stored is not None]


def _look(name: str, folder: Path) -> Stored | None:
    whole = folder / f"{name}.inter"
    parts = {split: folder / f"{name}.{split}.inter" for split in SPLITS}
    present = {split: file for split, file in parts.items() if file.is_file()}
    if whole.is_file() and not (present and _names_splits(name)):
        return Stored(name, folder, {WHOLE: whole}, ())
    if not present:
        return None
    missing = tuple(file for split, file in parts.items() if split not in present)
    return Stored(name, folder, present, missing)


def _names_splits(name: str) -> bool:
    """Whether a run that finds a dataset both whole and in splits reads the splits (config.py)."""
    file = properties_dir() / "dataset" / f"{name}.yaml"
    return file.is_file() and "benchmark_filename" in read_yaml(file)


def _recbole_examples() -> Path:
    spec = find_spec("recbole")
    if spec is None or spec.origin is None:
        raise InputError("RecBole is not installed; install this package with its dependencies")
    return Path(spec.origin).parent / "dataset_example"


def read_card(stored: Stored) -> dict[str, Any] | None:
    """The card an importer wrote; none where there is none.

    Raises:
        InputError: if it cannot be read.
    """
    try:
        card = json.loads(stored.card_file.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InputError(f"{stored.card_file} is no card ({error}); import again") from error
    if not isinstance(card, dict):
        raise InputError(f"{stored.card_file} is no card (a JSON object); import again")
    return card


def count_lines(file: Path) -> int:
    """Lines below the header: the number of pairs in a sound file, without parsing it.

    Raises:
        InputError: if the file cannot be read.
    """
    lines, last = 0, b"\n"
    try:
        with file.open("rb") as content:
            while block := content.read(1 << 20):
                lines, last = lines + block.count(b"\n"), block[-1:]
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror or error}") from error
    return max(0, lines + (last != b"\n") - 1)


def read_dataset(stored: Stored) -> Content:
    """Read all files of a dataset; users and items are numbered in the order they are met.

    Raises:
        InputError: if a file cannot be read or its header has no user or item column.
    """
    users: dict[str, int] = {}
    items: dict[str, int] = {}
    splits = {split: _read(file, users, items) for split, file in stored.files.items()}
    return Content(list(users), list(items), splits)


def _read(file: Path, users: dict[str, int], items: dict[str, int]) -> Pairs:
    user_places, item_places = array("q"), array("q")
    told: list[str] = []
    n_malformed = 0
    try:
        # A byte that is no UTF-8 is a fault of its line, not of the file.
        with file.open(encoding="utf-8", errors="surrogateescape", newline="\n") as lines:
            columns = [c.partition(":")[0] for c in next(lines, "").rstrip("\r\n").split("\t")]
            user, item = _columns(file, columns)
            width = len(columns)
            for number, line in enumerate(lines, start=2):
                cells = line.rstrip("\r\n").split("\t")
                # Nearly every line is sound; only of the others the exact fault is looked for.
                sound = len(cells) == width and cells[user] and cells[item] and line.isascii()
                if sound or not (fault := _fault(cells, width, user, item)):
                    user_places.append(users.setdefault(cells[user], len(users)))
                    item_places.append(items.setdefault(cells[item], len(items)))
                elif cells != [""]:  # RecBole skips empty lines
                    n_malformed += 1
                    if len(told) < _SHOWN:
                        told.append(f"line {number}: {fault}")
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror or error}") from error
    return Pairs(
        np.frombuffer(user_places, dtype=np.int64),
        np.frombuffer(item_places, dtype=np.int64),
        n_malformed,
        tuple(told),
    )


def _columns(file: Path, columns: list[str]) -> tuple[int, int]:
    for field in _FIELDS:
        if field not in columns:
            raise InputError(
                f"{file}, line 1: expected columns user_id:token and item_id:token, parted by "
                f"tabs, got {', '.join(map(repr, columns))}"
            )
    return columns.index(_FIELDS[0]), columns.index(_FIELDS[1])


def _fault(cells: list[str], n_columns: int, user: int, item: int) -> str | None:
    if len(cells) != n_columns:
        return f"expected {n_columns} columns, got {len(cells)}"
    if not cells[user] or not cells[item]:
        return f"the {'item' if cells[user] else 'user'} is empty"
    if not (cells[user].isascii() and cells[item].isascii()) and not all(
        _is_text(cells[column]) for column in (user, item)
    ):
        return "not UTF-8"
    return None


def _is_text(token: str) -> bool:
    """Whether a token holds no byte that surrogateescape let through."""
    return not any("\ud800" <= character <= "\udfff" for character in token)
