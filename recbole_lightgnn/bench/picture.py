"""A benchmark's result as a picture. matplotlib is an optional extra."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole_lightgnn.errors import InputError
from recbole_lightgnn.files import check_can_draw


def draw(result: Mapping[str, Any], file: Path) -> None:
    """Draw the medians and quartiles of each row, a panel a row, all contenders side by side.

    Args:
        result: what a part's ``run`` returned; its ``rows`` hold ``operation`` and ``seconds`` by
            contender.
        file: the picture; its ending says the format.

    Raises:
        InputError: as `check_can_draw`, and if the picture cannot be written.
    """
    check_can_draw(file)
    from matplotlib.figure import Figure  # not pyplot: no display, no global state

    rows = result["rows"]
    height = 0.8 + sum(0.5 + 0.3 * len(row["seconds"]) for row in rows)
    figure = Figure(figsize=(8, height), layout="constrained")
    figure.suptitle(f"bench {result['bench']}: {result['graph']}")
    ratios = [1 + len(row["seconds"]) for row in rows]
    panels = figure.subplots(len(rows), 1, squeeze=False, height_ratios=ratios)[:, 0]
    for axes, row in zip(panels, rows, strict=True):
        _bars(axes, row)
    panels[-1].set_xlabel("milliseconds, median and quartiles")
    try:
        figure.savefig(file, dpi=150)
    except OSError as error:
        raise InputError(f"--plot {file} cannot be written: {error.strerror or error}") from error


def _bars(axes: Any, row: Mapping[str, Any]) -> None:
    names = list(row["seconds"])
    taken = [row["seconds"][name] for name in names]
    median = [1e3 * t["median"] for t in taken]
    spread = [
        [1e3 * (t["median"] - t["lower"]) for t in taken],
        [1e3 * (t["upper"] - t["median"]) for t in taken],
    ]
    bars = axes.barh(names, median, xerr=spread, color=["C0", *["C7"] * (len(names) - 1)])
    labels = ["", *(f"x {row['times_ours'][name]:.3g}" for name in names[1:])]
    axes.bar_label(bars, labels, padding=4)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_title(row["operation"], loc="left", fontsize="medium")
