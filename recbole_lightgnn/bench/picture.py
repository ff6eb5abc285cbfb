"""Pictures of benchmark results; matplotlib is an optional extra."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recbole_lightgnn.errors import InputError
from recbole_lightgnn.utils.files import check_can_draw


def draw(result: Mapping[str, Any], file: Path) -> None:
    """Draw a benchmark's result: one panel per operation, with median and quartiles per contender.

    For a result with ``sizes``, draw the growth of time and memory.

    Args:
        result: result of a benchmark's ``run``, with ``rows`` (see `measure.row`) or with ``sizes``
            and ``fits`` (see `recbole_lightgnn.bench.scale`).
        file: path of the picture; its ending determines the format.

    Raises:
        InputError: if matplotlib is not installed, or if the picture cannot be written.
    """
    check_can_draw(file)
    from matplotlib.figure import Figure  # pyplot would need global state, and perhaps a display

    figure = Figure(layout="constrained")
    figure.suptitle(f"bench {result['bench']}: {result['graph']}")
    if "sizes" in result:
        _growth(figure, result)
    else:
        _panels(figure, result["rows"])
    try:
        figure.savefig(file, dpi=150)
    except OSError as error:
        raise InputError(f"--plot {file} cannot be written: {error.strerror or error}") from error


def _panels(figure: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    figure.set_size_inches(8, 0.8 + sum(0.5 + 0.3 * len(row["seconds"]) for row in rows))
    ratios = [1 + len(row["seconds"]) for row in rows]
    panels = figure.subplots(len(rows), 1, squeeze=False, height_ratios=ratios)[:, 0]
    for axes, row in zip(panels, rows, strict=True):
        _bars(axes, row)
    panels[-1].set_xlabel("milliseconds, median and quartiles")


def _bars(axes: Any, row: Mapping[str, Any]) -> None:
    names = list(row["seconds"])
    times = [row["seconds"][name] for name in names]
    median = [1e3 * t["median"] for t in times]
    spread = [
        [1e3 * (t["median"] - t["lower"]) for t in times],
        [1e3 * (t["upper"] - t["median"]) for t in times],
    ]
    bars = axes.barh(names, median, xerr=spread, color=["C0", *["C7"] * (len(names) - 1)])
    labels = ["", *(f"x {row['times_ours'][name]:.3g}" for name in names[1:])]
    axes.bar_label(bars, labels, padding=4)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_title(row["operation"], loc="left", fontsize="medium")


def _growth(figure: Any, result: Mapping[str, Any]) -> None:
    figure.set_size_inches(8, 4)
    n = [size["interactions"] for size in result["sizes"]]
    panels = figure.subplots(1, 2)
    for axes, name, key, unit, label in (
        (panels[0], "seconds", "seconds_per_interaction", 1, "seconds per step"),
        (panels[1], "memory", "bytes_per_interaction", 1e-9, "GB without the libraries"),
    ):
        each = [size[key] * unit for size in result["sizes"]]
        axes.loglog(n, [x * y for x, y in zip(n, each, strict=True)], "o", color="C0")
        if fit := result["fits"].get(name):
            ends = [max(n[0], result["fitted_from"]), n[-1]]
            line = [unit * fit["factor"] * x ** fit["exponent"] for x in ends]
            axes.loglog(ends, line, color="C7", label=f"interactions^{fit['exponent']:.3f}")
            axes.legend()
        axes.set_xlabel("interactions")
        axes.set_title(label, loc="left", fontsize="medium")
