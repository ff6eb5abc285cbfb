"""Drawing for the pictures of a page: style, ticks, and labels that do not overlap."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Callable, Sequence
from typing import Any

from recbole_lightgnn.comparison.table import duration, size

_AXES = "#555555"
_SIZE = (5.2, 3.9)  # inches
_STYLE: Any = {  # matplotlib's names and values
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": _AXES,
    "axes.labelcolor": "#222222",
    "axes.grid": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.6,
    "xtick.color": _AXES,
    "ytick.color": _AXES,
    "xtick.labelcolor": "#222222",
    "ytick.labelcolor": "#222222",
    "legend.frameon": False,
    "legend.fontsize": 8,
    "svg.fonttype": "path",  # looks the same whatever fonts are installed
    "svg.hashsalt": "recbole-lightgnn",
}
# Values that ticks may have; later lists have fewer values.
_BYTES = [
    [n * 10.0**power for power in range(2, 12) for n in of] for of in ((1, 2, 5), (1, 3), (1,))
]
_UNDER_1 = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
_SECONDS = [
    [*_UNDER_1, *(unit * n for unit in (1, 60, 3600) for n in of)]
    for of in ((1, 2, 5, 10, 30), (1, 3, 10, 30), (1, 10))
]
# Offsets of a label from its point, with the label's alignment; near offsets first. A later offset
# is chosen only if the label then covers over _MIN_GAIN square pixels less.
_MIN_GAIN = 40
_OFFSETS = [
    (dx * step, dy * step, ha, va)
    for step in (1, 2, 3.5, 5.5, 8)
    for dx, dy, ha, va in (
        (7, 0, "left", "center"),
        (-7, 0, "right", "center"),
        (0, 7, "center", "bottom"),
        (0, -7, "center", "top"),
        (6, 6, "left", "bottom"),
        (6, -6, "left", "top"),
        (-6, 6, "right", "bottom"),
        (-6, -6, "right", "top"),
    )
]


def svg_of(
    draw: Callable[[Any], None],
    *,
    size: tuple[float, float] = _SIZE,
    panels: tuple[int, int] | None = None,
) -> str:
    """Draw a picture and return its SVG element.

    XML prolog and metadata are cut off, because they contain addresses of other sites.

    Args:
        draw: function that draws into matplotlib's ``Axes``; with ``panels``, into an array of
            them. Shape: (rows, columns)
        size: width and height in inches.
        panels: numbers of rows and columns of panels; ``None`` for a single one.
    """
    text = io.StringIO()
    _save(draw, text, size, panels, format="svg", metadata={"Date": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    return re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)


def png_of(
    draw: Callable[[Any], None],
    *,
    size: tuple[float, float] = _SIZE,
    panels: tuple[int, int] | None = None,
) -> bytes:
    """Draw a picture as `svg_of` does, and return it as a PNG file with 200 dots per inch."""
    content = io.BytesIO()
    _save(draw, content, size, panels, format="png", dpi=200, metadata={"Software": None})
    return content.getvalue()


def _save(
    draw: Callable[[Any], None],
    file: Any,
    size: tuple[float, float],
    panels: tuple[int, int] | None,
    **options: Any,
) -> None:
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure  # not pyplot: no display, no global state

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)  # `place_labels` needs it to measure texts
        draw(figure.subplots(*panels or (1, 1), squeeze=panels is None))
        figure.savefig(file, **options)


def byte_ticks(axes: Any) -> None:
    """Set the ticks of a logarithmic x axis in bytes."""
    _log_ticks(axes, _BYTES, size)


def time_ticks(axes: Any) -> None:
    """Set the ticks of a logarithmic x axis in seconds."""
    _log_ticks(axes, _SECONDS, lambda s: duration(s) if s < 3600 else f"{s / 3600:g} h")


def _log_ticks(axes: Any, choices: Sequence[Sequence[float]], text: Callable[[float], str]) -> None:
    """Set ticks: the first of ``choices`` with at most six values in view, or the last choice."""
    low, high = axes.get_xlim()
    if high < 4 * low:  # on a shorter axis there might be no tick in view
        low, high = axes.set_xlim(low / 2, high * 2)
    for places in choices:
        seen = [place for place in places if low <= place <= high]
        if len(seen) <= 6:
            break
    axes.set_xticks(seen, [re.sub(r"\.0 ", " ", text(place)) for place in seen])
    axes.minorticks_off()


def place_labels(
    axes: Any,
    labels: Sequence[tuple[float, float, str, str]],
    lines: Sequence[Sequence[tuple[float, float]]],
    notes: Sequence[Any] = (),
) -> None:
    """Write a label beside each point, where the label covers as little else as possible.

    A thin line connects a label with its point if they are not close.

    Args:
        axes: matplotlib's ``Axes``, in which everything else is already drawn.
        labels: x, y, text and colour of each label; the first labels are placed first.
        lines: points (x, y) of each line that labels should not cover.
        notes: matplotlib texts that labels should not cover.
    """
    from matplotlib.text import Text

    figure = axes.figure
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    points = [axes.transData.transform((x, y)) for x, y, *_ in labels]
    for line in lines:
        bends = [axes.transData.transform(place) for place in line]
        for one, other in itertools.pairwise(bends):
            points += [one + share * (other - one) for share in (0.0, 0.25, 0.5, 0.75)]
    taken = [_box(x - 5, y - 5, x + 5, y + 5) for x, y in points]
    taken += [note.get_window_extent(renderer) for note in notes]
    frame = axes.get_window_extent(renderer)
    for x, y, text, colour in labels:
        best: tuple[float, Any, Any] | None = None
        for dx, dy, ha, va in _OFFSETS:
            place = {"textcoords": "offset points", "ha": ha, "va": va, "fontsize": 8}
            if max(abs(dx), abs(dy)) > 7:
                place["arrowprops"] = {"arrowstyle": "-", "color": colour, "lw": 0.5, "shrinkA": 0}
            note = axes.annotate(text, (x, y), (dx, dy), **place)
            note.update_positions(renderer)
            box = Text.get_window_extent(note, renderer)  # without the connecting line
            covered = sum(_overlap(box, other) for other in taken)
            covered += box.width * box.height - _overlap(box, frame)  # outside the axes
            if best is None or covered < best[0] - _MIN_GAIN:
                if best is not None:
                    best[1].remove()
                best = covered, note, box
            else:
                note.remove()
        if best is not None:
            best[1].set_color(colour)
            taken.append(best[2])


def _box(x0: float, y0: float, x1: float, y1: float) -> Any:
    from matplotlib.transforms import Bbox

    return Bbox.from_extents(x0, y0, x1, y1)


def _overlap(one: Any, other: Any) -> float:
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return float(max(width, 0.0) * max(height, 0.0))
