"""Format tables of text for the terminal."""

from collections.abc import Sequence
from typing import Any


def cell(value: Any, float_format: str) -> str:
    """Format a table's value: None as ``-``, floats by ``float_format``, others by ``str``."""
    if value is None:
        return "-"
    return format(value, float_format) if isinstance(value, float) else str(value)


def aligned(lines: Sequence[Sequence[str]], numbers: bool = False) -> str:
    """Format a table as lines with aligned columns.

    Args:
        lines: rows of the table; all rows have the same number of cells.
        numbers: whether all columns except the first are aligned to the right.
    """
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = (
        "  ".join(
            text.rjust(width) if numbers and column else text.ljust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )
    return "\n".join(line.rstrip() for line in padded)
