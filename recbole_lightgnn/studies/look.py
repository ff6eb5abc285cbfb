"""Colours and markers of the figures, and lines with confidence intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

# Okabe and Ito's colours, which colour-blind readers can tell apart. Each has its own marker.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
GREY = "#777777"


def draw_line(
    axes: Any,
    x: Sequence[float],
    means: Sequence[float],
    halves: Sequence[float],
    nth: int,
    name: str,
    *,
    dashed: bool = False,
) -> None:
    """Draw a line of means with error bars, in the look with this number."""
    axes.errorbar(
        x,
        means,
        np.nan_to_num(np.asarray(halves, dtype=float)),
        color=COLOURS[nth % len(COLOURS)],
        marker=MARKERS[nth % len(MARKERS)],
        linestyle="--" if dashed else "-",
        markersize=4,
        linewidth=1.2,
        label=name,
    )
