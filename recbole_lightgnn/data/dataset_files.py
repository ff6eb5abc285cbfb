"""Find the datasets on disk and read their user-item pairs line by line.

A run reads the files faster, by `recbole_lightgnn.data.atomic_reader`, which stops at the first
malformed line. Reading line by line finds all malformed lines. Both readers accept the same lines.
`refused` lists the other faults for which a run would refuse the files.

Reading needs 16 bytes of memory per pair, and memory for one token per user and item.
"""

import codecs
import json
from array import array
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recbole_lightgnn.config.files import read_yaml
from recbole_lightgnn.data.atomic_header import (
    AtomicFile,
    check_ids,
    check_new_columns,
    open_atomic,
)
from recbole_lightgnn.data.atomic_reader import read_columns, split_sequences
from recbole_lightgnn.data.download import BLOB_IDS
from recbole_lightgnn.data.features import check_header, read_features, with_times
from recbole_lightgnn.data.file_kinds import (
    DEFAULTS,
    FileSettings,
    feature_files,
    needed_columns,
    owned_ids,
    split_files,
)
from recbole_lightgnn.data.table_layout import split_line
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.registry import properties_dir
from recbole_lightgnn.utils.text import did_you_mean

WHOLE = "all"  # key used instead of a split for a dataset in one file
_IN_RECBOLE = "ml-100k"  # RecBole reads this dataset from its own package, whatever data_path is
_MAX_EXAMPLES = 3  # malformed lines of a file that are described


class DatasetFiles(NamedTuple):
    """The files of a dataset on disk.

    Attributes:
        name: name of the dataset.
        folder: folder of the dataset's files.
        files: path of each split's file, by split; only the key `WHOLE` for a dataset in one file.
        missing: paths of the splits' files that should exist but do not.
        settings: the settings of a run that say how to read the files.
    """

    name: str
    folder: Path
    files: dict[str, Path]
    missing: tuple[Path, ...]
    settings: FileSettings = DEFAULTS

    @property
    def card_file(self) -> Path:
        """Path of the dataset's card; the file may be missing."""
        return self.folder / f"{self.name}.card.json"


class Pairs(NamedTuple):
    """The user-item pairs of one file, in the order of the file.

    Attributes:
        users: index of each pair's user in `DatasetPairs.users`. Shape: (n_pairs,)
        items: index of each pair's item in `DatasetPairs.items`. Shape: (n_pairs,)
        n_malformed: number of malformed lines, which give no pairs.
        malformed: descriptions of the first malformed lines, such as ``line 7: expected ...``.
    """

    users: NDArray[np.int64]
    items: NDArray[np.int64]
    n_malformed: int
    malformed: tuple[str, ...]


class DatasetPairs(NamedTuple):
    """All user-item pairs of a dataset.

    Attributes:
        users: token (text in the files) of each user. Length: n_users
        items: token (text in the files) of each item. Length: n_items
        splits: pairs of each split, by name of the split.
    """

    users: list[str]
    items: list[str]
    splits: dict[str, Pairs]


def find_dataset(name: str, data_path: Path, settings: FileSettings | None = None) -> DatasetFiles:
    """Find the files of the dataset that a run with ``--dataset=name`` and ``settings`` uses.

    Raises:
        InputError: if the dataset does not exist.
    """
    folder = (_recbole_examples() if name == _IN_RECBOLE else data_path) / name
    found = _find_files(name, folder, settings)
    if found is None:
        parts = settings["benchmark_filename"] if settings else None
        looked = [*split_files(folder, name, parts).values()]
        looked = looked if parts else [folder / f"{name}.inter", looked[0]]
        raise dataset_not_found(name, data_path, looked)
    return found


def dataset_not_found(name: str, data_path: Path, files: Sequence[Path]) -> InputError:
    """Return the error for a dataset that does not exist or is incomplete.

    The message names the expected ``files``, the dataset with the most similar name, and commands
    that add a dataset.
    """
    similar = did_you_mean(name, {dataset.name for dataset in find_datasets(data_path)} - {name})
    if name in BLOB_IDS:
        remedy = (
            f"get it with `recbole-lightgnn data download {name}` or "
            f"`recbole-lightgnn import paper FOLDER --name {name}`"
        )
    else:
        remedy = (
            "`recbole-lightgnn data list` shows the datasets, `recbole-lightgnn import` adds one, "
            "and --data_path names another folder of datasets"
        )
    return InputError(
        f"dataset {name!r} not found{similar}: looked for {', '.join(map(str, files))}; {remedy}"
    )


def find_datasets(data_path: Path) -> list[DatasetFiles]:
    """Find every dataset under ``data_path`` and RecBole's example dataset, sorted by name.

    Raises:
        InputError: if ``data_path`` cannot be read.
    """
    folders = [_recbole_examples() / _IN_RECBOLE]
    if data_path.is_dir():
        try:
            folders += [f for f in data_path.iterdir() if f.name != _IN_RECBOLE]
        except OSError as error:
            raise InputError(f"{data_path} cannot be read: {error.strerror or error}") from error
    found = (
        _find_files(folder.name, folder, None) for folder in sorted(folders, key=lambda f: f.name)
    )
    return [dataset for dataset in found if dataset is not None]


def _find_files(name: str, folder: Path, settings: FileSettings | None) -> DatasetFiles | None:
    used = DEFAULTS if settings is None else settings
    whole = folder / f"{name}.inter"
    parts = split_files(folder, name, used["benchmark_filename"])
    present = {split: file for split, file in parts.items() if file.is_file()}
    if settings is None:
        is_split = bool(present) and _has_benchmark_settings(name)
    else:
        is_split = settings["benchmark_filename"] is not None
    if whole.is_file() and not is_split:
        return DatasetFiles(name, folder, {WHOLE: whole}, (), used)
    if not present:
        return None
    missing = tuple(file for split, file in parts.items() if split not in present)
    return DatasetFiles(name, folder, present, missing, used)


def _has_benchmark_settings(name: str) -> bool:
    """Whether our yaml file for a dataset says that the dataset has one file for each split."""
    file = properties_dir() / "dataset" / f"{name}.yaml"
    return file.is_file() and "benchmark_filename" in read_yaml(file)


def _recbole_examples() -> Path:
    spec = find_spec("recbole")
    if spec is None or spec.origin is None:
        raise InputError("RecBole is not installed; install this package with its dependencies")
    return Path(spec.origin).parent / "dataset_example"


def read_card(dataset: DatasetFiles) -> dict[str, Any] | None:
    """Read the card (description of the source) that an importer wrote; None if there is no card.

    Raises:
        InputError: if the card cannot be read.
    """
    try:
        card = json.loads(dataset.card_file.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InputError(
            f"{dataset.card_file} is not a dataset card ({error}); import again"
        ) from error
    if not isinstance(card, dict):
        raise InputError(
            f"{dataset.card_file} is not a dataset card (expected a JSON object); import again"
        )
    return card


def count_lines(file: Path) -> int:
    """Count the lines below the header of a file, malformed and empty lines included.

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


def read_dataset(dataset: DatasetFiles) -> DatasetPairs:
    """Read all pairs; raise InputError if a file is unreadable or lacks the columns of ids."""
    users, items = dict[str, int](), dict[str, int]()
    splits = {
        split: _read(file, dataset.settings, users, items) for split, file in dataset.files.items()
    }
    return DatasetPairs(list(users), list(items), splits)


def _read(
    path: Path, settings: FileSettings, users: dict[str, int], items: dict[str, int]
) -> Pairs:
    """Read the pairs of one file.

    Args:
        path: the file.
        settings: settings that say how to read the file.
        users: index of each user token; new tokens are added with the next index.
        items: index of each item token; new tokens are added with the next index.
    """
    user_indices, item_indices = array("q"), array("q")
    malformed: list[str] = []
    n_malformed = 0
    file = _open(path, settings)
    columns, separator = list(file.types), file.separator
    user, item = (columns.index(field) for field in needed_columns(settings, "inter"))
    width = len(columns)
    encoding = "utf-8-sig" if _is_utf8(file.encoding) else file.encoding
    try:
        # surrogateescape: a byte that is not text makes only its line malformed, not the file
        with path.open(encoding=encoding, errors="surrogateescape", newline="\n") as lines:
            next(lines, None)
            for number, line in enumerate(lines, start=2):
                cells = split_line(line.rstrip("\r\n"), separator)
                # A fast check accepts nearly every line; `_fault` examines only the others.
                valid = len(cells) == width and cells[user] and cells[item] and line.isascii()
                if valid or not (fault := _fault(cells, width, user, item, file.encoding)):
                    user_indices.append(users.setdefault(cells[user], len(users)))
                    item_indices.append(items.setdefault(cells[item], len(items)))
                elif cells != [""]:  # RecBole skips empty lines
                    n_malformed += 1
                    if len(malformed) < _MAX_EXAMPLES:
                        malformed.append(f"line {number}: {fault}")
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise InputError(f"{path} cannot be read: {why}") from error
    return Pairs(
        np.frombuffer(user_indices, dtype=np.int64),
        np.frombuffer(item_indices, dtype=np.int64),
        n_malformed,
        tuple(malformed),
    )


def read_ids(path: Path, kind: str, settings: FileSettings) -> set[str]:
    """Read the ids in a file of features; ``kind`` is ``user`` or ``item``.

    Raises:
        InputError: if the file cannot be read, or has no column of ids.
    """
    file = open_atomic(path, settings["field_separator"], settings["encoding"])
    name = owned_ids(settings)[kind]
    check_header(file, file.types, kind, settings)
    return set(read_columns(file, [name], {name})[name])


def _is_utf8(encoding: str) -> bool:
    return codecs.lookup(encoding).name in ("utf-8", "utf-8-sig")


def _open(path: Path, settings: FileSettings) -> AtomicFile:
    """Read the header of an interaction file; raise InputError without user and item columns."""
    file = open_atomic(path, settings["field_separator"], settings["encoding"])
    fields = needed_columns(settings, "inter")
    check_ids(file, fields)
    if missing := [field for field in fields if field not in file.types]:
        raise InputError(
            f"{path}, line 1: no column {missing[0]!r}; expected columns {fields[0]}:token and "
            f"{fields[1]}:token, separated by {file.separator!r}, got "
            f"{', '.join(map(repr, file.types))}"
        )
    return file


def _fault(cells: list[str], n_columns: int, user: int, item: int, encoding: str) -> str | None:
    """Describe what is wrong with the fields of a line; None if the line is valid."""
    if len(cells) != n_columns:
        return f"expected {n_columns} columns, got {len(cells)}"
    if not cells[user] or not cells[item]:
        return f"the {'item' if cells[user] else 'user'} is empty"
    if not (cells[user].isascii() and cells[item].isascii()) and not all(
        _is_text(cells[column]) for column in (user, item)
    ):
        return f"not {encoding.upper()}"
    return None


def _is_text(token: str) -> bool:
    """Whether a token has no surrogates, which stand for bytes that could not be decoded."""
    return not any("\ud800" <= character <= "\udfff" for character in token)


# --- what a run refuses -----------------------------------------------------------------------


def refused(dataset: DatasetFiles, content: DatasetPairs) -> list[str]:
    """Describe each fault for which a run that loads all columns would refuse the dataset.

    If an interaction file has no pairs or has malformed lines (`Pairs.malformed`), only its header
    is checked.
    """
    features = feature_files(dataset.folder, dataset.name, dataset.settings)
    files = [(file, "inter", split) for split, file in dataset.files.items()]
    files += [(file, kind, "") for kind, file in features.items() if file.is_file()]
    known: dict[str, tuple[str, str]] = {}
    dated: dict[str, bool] = {}
    faults = [
        f"{features[kind]} is missing; expected a file, because additional_feat_suffix names it: "
        "leave it out of this setting, or add the file"
        for kind in dataset.settings["additional_feat_suffix"] or ()
        if not features[kind].is_file()
    ]
    for file, kind, split in files:
        whole = not split or _is_well_formed(content.splits[split])
        try:
            _read_as_a_run(file, kind, dataset.settings, known, dated if whole else None)
        except InputError as error:
            faults.append(str(error))
    return faults


def _read_as_a_run(
    path: Path,
    kind: str,
    settings: FileSettings,
    known: dict[str, tuple[str, str]],
    dated: dict[str, bool] | None,
) -> None:
    """Read a file as a run does, to raise the InputError that the run would raise.

    Args:
        path: the file.
        kind: kind of the file, such as ``inter``.
        settings: settings that say how to read the file.
        known: kind of file and type of each column read so far, by name of the column; updated.
        dated: whether the time column has dates in the files read so far, by name of the column;
            updated. None to read only the header.
    """
    file = open_atomic(path, settings["field_separator"], settings["encoding"])
    check_header(file, file.types, kind, settings)
    file, time = with_times(file, file.types, kind, settings)
    if kind != "link":  # its columns are those of other files
        check_new_columns(file, file.types, kind, known, owned_ids(settings))
        known.update({name: (kind, type_) for name, type_ in file.types.items()})
    if dated is None:
        return
    frame = read_features(file, file.types, settings, time, dated)
    for name, type_ in file.types.items():
        if type_.endswith("_seq"):
            split_sequences(file, name, frame[name], settings["seq_separator"])


def _is_well_formed(pairs: Pairs) -> bool:
    return len(pairs.users) > 0 and not pairs.n_malformed
