"""Tables of text for the terminal."""

from collections.abc import Sequence
from typing import Any


def cell(value: Any, form: str) -> str:
    """A value as text: ``-`` for None, a float in the given format, others as they are."""
    if value is None:
        return "-"
    return format(value, form) if isinstance(value, float) else str(value)


def aligned(lines: Sequence[Sequence[str]], numbers: bool = False) -> str:
    """Rows of cells as lines with aligned columns.

    Args:
        lines: rows with the same number of cells.
        numbers: whether all columns but the first are aligned to the right.
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
