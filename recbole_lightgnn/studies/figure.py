"""A figure of a study: how it is drawn, and what is said about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Figure:
    """A figure of a study.

    Attributes:
        name: name of the figure, for file names.
        draw: function that draws into matplotlib's ``Axes``; with ``panels``, into an array of
            them. Shape: (rows, columns)
        caption: what the figure shows and how to read it.
        alt: the figure's content in words and numbers, for readers who cannot see it.
        size: width and height in inches.
        panels: numbers of rows and columns of panels; ``None`` for a single one.
    """

    name: str
    draw: Callable[[Any], None]
    caption: str
    alt: str
    size: tuple[float, float] = (5.2, 3.9)
    panels: tuple[int, int] | None = None
