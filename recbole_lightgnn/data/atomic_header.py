"""Open an atomic file: read its header, and check the columns that the header names.

The header has ``NAME:TYPE`` for each column. `atomic_reader` reads the lines below the header.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from recbole_lightgnn.data.text import Block, blocks, first_line
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.utils.text import did_you_mean

TYPES = ("float", "float_seq", "token", "token_seq")
_SEPARATORS = ("\t", ",", ";", "|", " ", "::")


class AtomicFile(NamedTuple):
    """An atomic file and what its header says.

    Attributes:
        path: the file.
        types: type of each column, such as ``token``, by name, in the order of the file.
        separator: text between two fields.
        encoding: encoding of the file's text, such as ``utf-8``.
    """

    path: Path
    types: dict[str, str]
    separator: str = "\t"
    encoding: str = "utf-8"

    def fault(self, row: int, what: str, remedy: str) -> InputError:
        """Return an InputError that names the line of a row.

        Args:
            row: row from 0; the header and empty lines are not counted.
            what: what is wrong in the row.
            remedy: what was expected, and what to do.
        """
        return InputError(f"{self.path}, line {_line_of(self, row)}: {what}; {remedy}")


def open_atomic(path: Path, separator: str = "\t", encoding: str | None = None) -> AtomicFile:
    """Read the header of an atomic file, which has ``NAME:TYPE`` for each column.

    Args:
        path: the file.
        separator: text between two fields.
        encoding: encoding of the file's text; None for UTF-8.

    Raises:
        InputError: if the file cannot be read, a column is not ``NAME:TYPE``, or two columns have
            the same name.
    """
    encoding = encoding or "utf-8"
    if not separator:
        raise InputError(
            "field_separator is empty; expected the text between fields, such as a tab"
        )
    header = first_line(path, encoding)
    types: dict[str, str] = {}
    for column in header.split(separator):
        name, _, kind = column.partition(":")
        if name.strip() and kind.strip() in TYPES and (name.strip(), kind.strip()) != (name, kind):
            raise InputError(
                f"{path}, line 1: expected columns NAME:TYPE without a blank at an end of name or "
                f"type, got {column!r}: remove the blank"
            )
        if not name or kind not in TYPES:
            near = _other_separator(header) or (did_you_mean(kind, TYPES) if name else "")
            if not column:
                near = "; the line is empty or ends in a separator: write names, or remove it"
            raise InputError(
                f"{path}, line 1: expected columns NAME:TYPE with TYPE one of {', '.join(TYPES)}, "
                f"separated by {separator!r}, got {column!r}{near}"
            )
        if name in types:
            raise InputError(
                f"{path}, line 1: two columns are named {name!r}; expected different names: rename "
                "or remove one of them"
            )
        types[name] = kind
    return AtomicFile(path, types, separator, encoding)


def _other_separator(header: str) -> str:
    """End of a message that suggests a separator which fits the header; empty if none fits."""
    for separator in _SEPARATORS:
        kinds = [column.partition(":")[2] for column in header.split(separator)]
        if len(kinds) > 1 and all(kind in TYPES for kind in kinds):
            flag = f"--field_separator='{json.dumps(separator)}'"
            return (
                f" (the columns are separated by {separator!r}: set field_separator to it, {flag})"
            )
    return ""


def check_columns(file: AtomicFile, columns: Collection[str], needed: Collection[str]) -> None:
    """Check that all needed columns of a file are loaded.

    Raises:
        InputError: if a name in ``needed`` is not in ``columns``, the names of the loaded columns.
    """
    for name in needed:
        if name not in columns:
            why = "is not loaded" if name in file.types else "is not in the file"
            remedy = "add it to load_col" if name in file.types else "correct the header"
            raise InputError(
                f"{file.path}, line 1: column {name!r} {why}; expected it beside "
                f"{', '.join(map(repr, columns))}: {remedy}, or the setting that names it"
            )


def check_ids(file: AtomicFile, ids: Collection[str]) -> None:
    """Raise InputError if a column of ``ids`` is in the file and its type is not ``token``."""
    for name in ids:
        if file.types.get(name, "token") != "token":
            raise InputError(
                f"{file.path}, line 1: expected {name}:token, got {name}:{file.types[name]}; an id "
                "is one token: correct the header"
            )


def check_new_columns(
    file: AtomicFile,
    columns: Collection[str],
    kind: str,
    known: Mapping[str, tuple[str, str]],
    ids: Mapping[str, str],
) -> None:
    """Check that a file's columns do not conflict with columns of the files read before.

    RecBole keeps one column per name: a second column would silently replace the first. RecBole
    concatenates the interaction files, so all interaction files must have the same columns.

    Args:
        file: the file.
        columns: names of the file's columns that are loaded.
        kind: kind of the file, such as ``inter`` or ``user``.
        known: kind of file and type of each column in the files read before, by name of the column.
        ids: name of the id column of ``user`` files and of ``item`` files, by kind of file;
            ``inter`` files may have these columns, too.

    Raises:
        InputError: if a column conflicts, or interaction files have different columns.
    """
    for name in columns:
        here = file.types[name]
        other, type_there = known.get(name, (kind, here))
        if other != kind and not (name == ids.get(kind) and other == "inter"):
            raise InputError(
                f"{file.path}, line 1: the .{other} file has a column {name!r}, too; expected "
                "different names, because RecBole would mix the two: rename one of them"
            )
        if type_there != here:
            raise InputError(
                f"{file.path}, line 1: {name}:{here} here, but {name}:{type_there} in the .{other} "
                "file read before; expected the same type in each: correct the header"
            )
    before = {name for name, (other, _) in known.items() if other == kind}
    if kind == "inter" and before and (odd := before.symmetric_difference(columns)):
        is_here = "is" if min(odd) in columns else "is not"
        raise InputError(
            f"{file.path}, line 1: column {min(odd)!r} {is_here} in this file, unlike in the "
            ".inter file read before; expected the same columns in each: add or remove it"
        )


def body(file: AtomicFile) -> Iterator[Block]:
    """Yield the lines of a file below its header, in blocks."""
    for nth, block in enumerate(blocks(file.path, file.encoding)):
        if nth == 0:
            block = Block(file.path, block.data[block.data.index(b"\n") + 1 :], 2)
        if block.data:
            yield block


def _line_of(file: AtomicFile, row: int) -> int:
    """Find the line number of a row (from 0, without empty lines) by reading the file again."""
    for block in body(file):
        for nth, line in enumerate(block.data.split(b"\n")[:-1]):
            if line:
                row -= 1
            if row < 0:
                return block.line + nth
    raise IndexError(row)
