"""Text files in blocks of whole lines: flat memory, and a line number for whatever is wrong.

What is accepted: UTF-8 with or without a byte order mark, lines ended by LF or CRLF, a last line
without an end, empty lines at the very end.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recbole_lightgnn.data.atomic import progress
from recbole_lightgnn.errors import InputError

BLOCK = 2**20  # bytes; what is computed from a block fits the processor's cache
MAX_LINE = 2**26  # bytes; a user with ten million items
MAX_DIGITS = 18  # decimal digits that always fit 64 bits

_FOREIGN = {  # how files begin that are something else
    b"\xff\xfe": "is UTF-16",
    b"\xfe\xff": "is UTF-16",
    b"\x1f\x8b": "is compressed (gzip)",
    b"PK\x03\x04": "is compressed (zip)",
    b"BZh": "is compressed (bzip2)",
    b"\xfd7zXZ": "is compressed (xz)",
    b"\x28\xb5\x2f\xfd": "is compressed (zstd)",
    b"PAR1": "is Parquet; name it *.parquet",
    b"version https://git-lfs": "is a Git LFS pointer, not the file itself",
}


class Block(NamedTuple):
    """Some lines of a file, each ended by LF; CR, NUL and byte order mark are gone."""

    path: Path
    data: bytes
    line: int  # number of the first line, from 1

    def fault(self, offset: int, what: str, remedy: str) -> InputError:
        """The error at a byte of the block, with its line number."""
        line = self.line + self.data.count(b"\n", 0, offset)
        return InputError(f"{self.path}, line {line}: {what}; {remedy}")

    def line_at(self, offset: int) -> bytes:
        """The line that a byte of the block lies in, without its end."""
        start = self.data.rfind(b"\n", 0, offset) + 1
        return self.data[start : self.data.index(b"\n", offset)]


def blocks(path: Path) -> Iterator[Block]:
    """The lines of a text file, about a megabyte at a time.

    Raises:
        InputError: if the file cannot be read, is not UTF-8 text or has a line of more than
            ``MAX_LINE`` bytes.
    """
    try:
        with (
            path.open("rb") as file,
            progress(os.fstat(file.fileno()).st_size, str(path), "B") as bar,
        ):
            line, rest = 1, file.read(BLOCK)
            for start, what in _FOREIGN.items():
                if rest.startswith(start):
                    raise InputError(
                        f"{path} {what}; expected UTF-8 text: convert or unpack it first"
                    )
            rest = rest.removeprefix(b"\xef\xbb\xbf")
            while rest:
                piece = file.read(BLOCK)
                bar.update(len(piece))
                # Empty lines wait for what follows: at the end of the file they mean nothing.
                end = len(rest.rstrip(b"\r\n")) if not piece else _last_line_end(rest)
                if end == 0 and len(rest) > MAX_LINE:
                    raise InputError(
                        f"{path}, line {line}: more than {MAX_LINE} bytes without a line end; "
                        "expected a text file of interactions: check that it is the right file"
                    )
                if end:
                    block = _checked(path, rest[:end], line)
                    yield block
                    line += np.count_nonzero(np.frombuffer(block.data, np.uint8) == ord("\n"))
                if not piece:
                    return
                rest = rest[end:] + piece
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}); expected a text file: check the path and "
            "its permissions"
        ) from error


def _last_line_end(rest: bytes) -> int:
    """Just behind the last line of ``rest`` that is ended and not empty; 0 if there is none."""
    end = len(rest[: rest.rfind(b"\n") + 1].rstrip(b"\r\n"))
    return rest.index(b"\n", end) + 1 if end else 0


def _checked(path: Path, data: bytes, line: int) -> Block:
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n")
    if not data.endswith(b"\n"):
        data = data.removesuffix(b"\r") + b"\n"
    block = Block(path, data, line)
    for byte, what in ((b"\0", "a NUL byte"), (b"\r", "a CR without LF")):
        if byte in data:
            raise block.fault(
                data.index(byte), what, "expected UTF-8 text with LF or CRLF: convert the file"
            )
    if not data.isascii():
        try:
            data.decode()
        except UnicodeDecodeError as error:
            raise block.fault(
                error.start,
                f"byte 0x{data[error.start]:02x} is not UTF-8",
                "expected UTF-8 text: convert the file (e.g. with iconv)",
            ) from None
    return block


def integers(
    data: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> NDArray[np.int64] | None:
    """The numbers written at some places, if all are: decimal digits, no sign, no leading zero.

    Args:
        data: bytes.
        starts: where each begins. Shape: (n,)
        ends: just behind its last byte. Shape: (n,)

    Returns:
        The numbers, shape (n,); none if any place holds something else, or more than
        ``MAX_DIGITS`` digits.
    """
    lengths = ends - starts
    if len(lengths) == 0:
        return np.zeros(0, np.int64)
    longest = int(lengths.max())
    if lengths.min() < 1 or longest > MAX_DIGITS:
        return None
    if ((data[starts] == ord("0")) & (lengths > 1)).any():
        return None
    numbers = np.zeros(len(starts), np.int64)
    place = ends - 1
    for k in range(longest):  # from the last digit on
        digits = data[place] - ord("0")
        if (digits > 9).any():  # bytes below "0" wrap around
            return None
        digits *= lengths > k  # a shorter number has come to its first digit again
        numbers += np.multiply(digits, 10**k, dtype=np.int64)
        place = np.maximum(place - 1, starts)
    return numbers
