"""Read text files in blocks of whole lines; parse numbers and write numbers as text.

The needed memory does not grow with the size of the file.

Files may have text in UTF-8, with or without a byte order mark, or in an encoding that the caller
names. Lines may end with LF or CRLF. The last line may have no line ending. Empty lines at the end
of the file are ignored.
"""

import codecs
import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recbole_lightgnn.data.atomic import progress_bar
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.utils.jit import compiled

BLOCK = 2**20  # bytes read at once; the arrays computed from a block fit the processor's cache
MAX_LINE = 2**26  # bytes; enough for a user with ten million items
MAX_DIGITS = 18  # every number with that many decimal digits fits 64 bits
_ZERO, _MINUS, _POINT = b"0-."
_POWERS_OF_TEN = np.array([10.0**k for k in range(16)])

_OTHER_FORMATS = {  # first bytes of files that are not UTF-8 text
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
    """Consecutive lines of a file.

    Attributes:
        path: the file.
        data: UTF-8 lines, each with LF at its end; without CR, NUL and byte order mark.
        line: number of the first line, from 1.
    """

    path: Path
    data: bytes
    line: int

    def fault(self, offset: int, what: str, remedy: str) -> InputError:
        """Return an InputError that names the line of the block's byte ``offset``."""
        line = self.line + self.data.count(b"\n", 0, offset)
        return InputError(f"{self.path}, line {line}: {what}; {remedy}")

    def line_at(self, offset: int) -> bytes:
        """Return the line of the block that contains byte ``offset``, without the line feed."""
        start = self.data.rfind(b"\n", 0, offset) + 1
        return self.data[start : self.data.index(b"\n", offset)]


def first_line(path: Path, encoding: str = "utf-8") -> str:
    """Return a file's first line without its ending; raise InputError if the file is not text."""
    try:
        with path.open("rb") as file:
            head = next(_pieces(path, file, encoding), b"")
    except OSError as error:
        raise _unreadable(path, error) from error
    line = _checked_start(path, head).partition(b"\n")[0]
    return _checked(path, line, 1).data.decode().rstrip("\n")


def blocks(path: Path, encoding: str = "utf-8") -> Iterator[Block]:
    """Yield the lines of a text file in blocks of about ``BLOCK`` bytes.

    Raises:
        InputError: if the file cannot be read, is not text in the encoding ``encoding``, or has a
            line with more than ``MAX_LINE`` bytes.
    """
    try:
        if not stat.S_ISREG(mode := path.stat().st_mode) and not stat.S_ISDIR(mode):
            raise InputError(
                f"{path} is a pipe or device, but it must be read more than once; expected a file: "
                "write the data to a file first"
            )
        with (
            path.open("rb") as file,
            progress_bar(os.fstat(file.fileno()).st_size, str(path), "B") as bar,
        ):
            line, rest = 1, b""
            for nth, piece in enumerate(_pieces(path, file, encoding)):
                bar.update(len(piece))
                if nth == 0:
                    piece = _checked_start(path, piece)
                # Trailing empty lines wait in `rest`: at the end of the file they are ignored.
                end = _last_line_end(piece)
                if end:
                    lines, rest = b"".join((rest, memoryview(piece)[:end])), piece[end:]
                    block = _checked(path, lines, line)
                    yield block
                    line += int(np.count_nonzero(np.frombuffer(block.data, np.uint8) == ord("\n")))
                else:
                    rest += piece
                if len(rest) > MAX_LINE:
                    raise InputError(
                        f"{path}, line {line}: more than {MAX_LINE} bytes without a line end; "
                        "expected a text file of interactions: check that it is the right file"
                    )
            if rest := rest.rstrip(b"\r\n"):
                yield _checked(path, rest, line)
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(
        f"{path} cannot be read ({error.strerror}); expected a text file: check the path and its "
        "permissions"
    )


def _pieces(path: Path, file: BinaryIO, encoding: str) -> Iterator[bytes]:
    """Yield the content of a file as UTF-8, piece by piece.

    UTF-8 is not checked here. An error in the decoding of another encoding raises InputError.
    """
    try:
        if codecs.lookup(encoding).name in ("utf-8", "utf-8-sig"):
            yield from iter(lambda: file.read(BLOCK), b"")
        else:
            text = io.TextIOWrapper(file, encoding, newline="")
            yield from (piece.encode() for piece in iter(lambda: text.read(BLOCK), ""))
    except LookupError as error:
        raise InputError(
            f"encoding {encoding!r} is not known; expected one that Python has, such as utf-8, "
            "gbk or latin-1: correct the setting `encoding`"
        ) from error
    except UnicodeError as error:
        why = getattr(error, "reason", error)
        raise InputError(
            f"{path} is not {encoding} text ({why}); correct the setting `encoding`, or convert "
            "the file to UTF-8"
        ) from error


def _checked_start(path: Path, piece: bytes) -> bytes:
    """Return a file's first piece without byte order mark; raise InputError if it is not text."""
    for start, what in _OTHER_FORMATS.items():
        if piece.startswith(start):
            raise InputError(f"{path} {what}; expected UTF-8 text: convert or unpack it first")
    return piece.removeprefix(b"\xef\xbb\xbf")


def _last_line_end(rest: bytes) -> int:
    """Return the position after the last complete line that is not empty; 0 without such a line."""
    end = rest.rfind(b"\n") + 1
    if rest[max(0, end - 2) : end].strip(b"\r\n"):  # the last complete line is not empty
        return end
    end = len(rest[:end].rstrip(b"\r\n"))
    return rest.index(b"\n", end) + 1 if end else 0


def _checked(path: Path, data: bytes, line: int) -> Block:
    """Make every line end with LF; raise InputError at the first byte that is not UTF-8 text."""
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


def parse_integers(
    data: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> NDArray[np.int64] | None:
    """Parse tokens that are integers of 0 or more: decimal digits without sign or leading zero.

    Args:
        data: bytes of the text. Shape: (n_bytes,)
        starts: position of the first byte of each token. Shape: (n,)
        ends: position after the last byte of each token. Shape: (n,)

    Returns:
        The integers. Shape: (n,). None if any token is not such an integer or has more than
        ``MAX_DIGITS`` digits.
    """
    numbers = np.empty(len(starts), np.int64)
    # one memory layout, so that numba compiles the loop only once
    starts, ends = np.ascontiguousarray(starts), np.ascontiguousarray(ends)
    return numbers if _parse_integers(data, starts, ends, numbers) else None


@compiled
def _parse_integers(
    data: NDArray[np.uint8],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    numbers: NDArray[np.int64],
) -> bool:
    for nth in range(len(starts)):
        numbers[nth] = parse_integer(data, starts[nth], ends[nth])
        if numbers[nth] < 0:
            return False
    return True


@compiled
def parse_integer(data: NDArray[np.uint8], start: int, end: int) -> int:
    """Parse the token ``data[start:end]`` as `parse_integers` does; return -1 if this fails."""
    if not 0 < end - start <= MAX_DIGITS or (data[start] == _ZERO and end - start > 1):
        return -1
    number = 0
    for position in range(start, end):
        digit: Any = np.int64(data[position]) - _ZERO
        if not 0 <= digit <= 9:
            return -1
        number = 10 * number + digit
    return number


def parse_floats(
    data: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> NDArray[np.float64] | None:
    """Parse tokens such as ``4.5`` as Python's ``float`` does; arguments as of `parse_integers`.

    Returns None if any token has another form (``1e3``, a sign alone) or more than 15 digits.
    """
    numbers = np.empty(len(starts), np.float64)
    return numbers if _parse_floats(data, starts, ends, _POWERS_OF_TEN, numbers) else None


@compiled
def _parse_floats(
    data: NDArray[np.uint8],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    powers_of_ten: NDArray[np.float64],
    numbers: NDArray[np.float64],
) -> bool:
    for nth in range(len(starts)):
        start, end = starts[nth], ends[nth]
        negative = start < end and data[start] == _MINUS
        digits, number, point = 0, 0, -1
        for position in range(start + negative, end):
            digit: Any = np.int64(data[position]) - _ZERO
            if 0 <= digit <= 9:
                number, digits = 10 * number + digit, digits + 1
            elif data[position] == _POINT and point < 0:
                point = digits
            else:
                return False
        if not 0 < digits < len(powers_of_ten):
            return False
        # Both operands are exact floats, so the quotient is the float nearest to the decimal.
        value = number / powers_of_ten[digits - point if point >= 0 else 0]
        numbers[nth] = -value if negative else value
    return True


def format_integers(numbers: NDArray[np.int64]) -> NDArray[np.bytes_]:
    """Write integers of 0 or more as decimal digits. Shape: (n,) -> (n,)"""
    width = len(str(numbers.max(initial=0)))
    letters = np.zeros((len(numbers), width), np.uint8)
    _write_digits(numbers, letters)
    return letters.view(f"S{width}")[:, 0]


@compiled
def _write_digits(numbers: NDArray[np.int64], letters: NDArray[np.uint8]) -> None:
    for nth, number in enumerate(numbers):
        width, rest = 1, number // 10
        while rest:
            width, rest = width + 1, rest // 10
        for position in range(width - 1, -1, -1):
            letters[nth, position], number = _ZERO + number % 10, number // 10


def quote_token(token: bytes) -> str:
    """Quote the first 40 bytes of a token in ASCII, for an error message."""
    text = token[:40].decode(errors="replace")
    return ascii(text) if len(token) <= 40 else f"{text!a}..."
