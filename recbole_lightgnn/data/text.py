"""Text files in blocks of whole lines: flat memory, and a line number for whatever is wrong.

What is accepted: UTF-8 with or without a byte order mark, lines ended by LF or CRLF, a last line
without an end, empty lines at the very end.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recbole_lightgnn.data.atomic import progress
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.utils.jit import compiled

BLOCK = 2**20  # bytes; what is computed from a block fits the processor's cache
MAX_LINE = 2**26  # bytes; a user with ten million items
MAX_DIGITS = 18  # decimal digits that always fit 64 bits
_ZERO, _MINUS, _POINT = b"0-."
_TENS = np.array([10.0**k for k in range(16)])

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
        if not stat.S_ISREG(mode := path.stat().st_mode) and not stat.S_ISDIR(mode):
            raise InputError(
                f"{path} is a pipe or device, and is read more than once; expected a file: write "
                "it to one first"
            )
        with (
            path.open("rb") as file,
            progress(os.fstat(file.fileno()).st_size, str(path), "B") as bar,
        ):
            line, rest = 1, b""
            for nth, piece in enumerate(iter(lambda: file.read(BLOCK), b"")):
                bar.update(len(piece))
                if nth == 0:
                    piece = _told_from_foreign(path, piece)
                # Empty lines wait for what follows: at the end of the file they mean nothing.
                end = _last_line_end(piece)
                if end:
                    lines, rest = b"".join((rest, memoryview(piece)[:end])), piece[end:]
                    block = _checked(path, lines, line)
                    yield block
                    line += np.count_nonzero(np.frombuffer(block.data, np.uint8) == ord("\n"))
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
        raise InputError(
            f"{path} cannot be read ({error.strerror}); expected a text file: check the path and "
            "its permissions"
        ) from error


def _told_from_foreign(path: Path, piece: bytes) -> bytes:
    """The first piece of a text, without its byte order mark."""
    for start, what in _FOREIGN.items():
        if piece.startswith(start):
            raise InputError(f"{path} {what}; expected UTF-8 text: convert or unpack it first")
    return piece.removeprefix(b"\xef\xbb\xbf")


def _last_line_end(rest: bytes) -> int:
    """Just behind the last line of ``rest`` that is ended and not empty; 0 if there is none."""
    end = rest.rfind(b"\n") + 1
    if rest[max(0, end - 2) : end].strip(b"\r\n"):  # the last line is not empty
        return end
    end = len(rest[:end].rstrip(b"\r\n"))
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
    numbers = np.empty(len(starts), np.int64)
    starts, ends = np.ascontiguousarray(starts), np.ascontiguousarray(ends)  # one code for all
    return numbers if _integers(data, starts, ends, numbers) else None


@compiled
def _integers(
    data: NDArray[np.uint8],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    numbers: NDArray[np.int64],
) -> bool:
    for nth in range(len(starts)):
        numbers[nth] = integer(data, starts[nth], ends[nth])
        if numbers[nth] < 0:
            return False
    return True


@compiled
def integer(data: NDArray[np.uint8], start: int, end: int) -> int:
    """The number written at one place, as `integers` takes it; -1 for anything else."""
    if not 0 < end - start <= MAX_DIGITS or (data[start] == _ZERO and end - start > 1):
        return -1
    number = 0
    for place in range(start, end):
        digit = np.int64(data[place]) - _ZERO
        if not 0 <= digit <= 9:
            return -1
        number = 10 * number + digit
    return number


def floats(
    data: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> NDArray[np.float64] | None:
    """The numbers like ``4.5`` or ``-12`` at some places, if all are; as Python reads them.

    Args and shapes as `integers`; none if any place holds something else (``1e3``, a sign alone),
    or more than fifteen digits, which a float need not hold.
    """
    numbers = np.empty(len(starts), np.float64)
    return numbers if _floats(data, starts, ends, _TENS, numbers) else None


@compiled
def _floats(
    data: NDArray[np.uint8],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    tens: NDArray[np.float64],
    numbers: NDArray[np.float64],
) -> bool:
    for nth in range(len(starts)):
        start, end = starts[nth], ends[nth]
        negative = start < end and data[start] == _MINUS
        digits, number, point = 0, 0, -1
        for place in range(start + negative, end):
            digit = np.int64(data[place]) - _ZERO
            if 0 <= digit <= 9:
                number, digits = 10 * number + digit, digits + 1
            elif data[place] == _POINT and point < 0:
                point = digits
            else:
                return False
        if not 0 < digits < len(tens):
            return False
        # Both are exact, so the quotient is the float nearest to the decimal.
        value = number / tens[digits - point if point >= 0 else 0]
        numbers[nth] = -value if negative else value
    return True


def decimals(numbers: NDArray[np.int64]) -> NDArray[np.bytes_]:
    """Numbers from 0 on, as they are written. Shape: (n,)"""
    width = len(str(numbers.max(initial=0)))
    letters = np.zeros((len(numbers), width), np.uint8)
    _write(numbers, letters)
    return letters.view(f"S{width}")[:, 0]


@compiled
def _write(numbers: NDArray[np.int64], letters: NDArray[np.uint8]) -> None:
    for nth, number in enumerate(numbers):
        width, rest = 1, number // 10
        while rest:
            width, rest = width + 1, rest // 10
        for place in range(width - 1, -1, -1):
            letters[nth, place], number = _ZERO + number % 10, number // 10


def shown(token: bytes) -> str:
    """The start of a foreign token, for an error."""
    text = token[:40].decode(errors="replace")
    return ascii(text) if len(token) <= 40 else f"{text!a}..."
