"""Plot the degrees of a dataset; needs matplotlib (extra ``plot``)."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_lightgnn.data.dataset_files import DatasetPairs
from recbole_lightgnn.data.inspect import degrees
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.utils.files import check_can_draw


def draw_degrees(name: str, content: DatasetPairs, file: Path) -> None:
    """Plot how many users, and how many items, have at least d pairs in each split, against d.

    Both axes are logarithmic. The numbers are cumulative, because most bars of a plain histogram of
    such a heavy-tailed distribution would have height 1.

    Args:
        name: name of the dataset, for the title.
        content: user-item pairs of the dataset.
        file: path of the picture to write; its suffix decides the picture's format.

    Raises:
        InputError: as `check_can_draw`; also if the picture cannot be written.
    """
    check_can_draw(file)
    from matplotlib.figure import Figure  # pyplot would need a display and global state

    figure = Figure(figsize=(9, 4.8), layout="constrained")
    figure.suptitle(f"Degrees of {name}")
    for axes, what in zip(figure.subplots(1, 2, sharey=True), ("users", "items"), strict=True):
        _draw(axes, what, {split: getattr(pairs, what) for split, pairs in content.splits.items()})
    try:
        figure.savefig(file, dpi=150)
    except OSError as error:
        raise InputError(f"--plot {file} cannot be written: {error.strerror or error}") from error


def _draw(axes: Any, what: str, splits: dict[str, NDArray[np.int64]]) -> None:
    for split, nodes in splits.items():
        if len(nodes):
            degree, at_least = survival(degrees(nodes))
            x, y = np.r_[1, degree], np.r_[at_least[0], at_least]  # all nodes have at least 1 pair
            label = f"{split} (median {np.median(degrees(nodes)):g})"
            axes.step(x, y, where="pre", marker=".", markersize=4, label=label)
    axes.set(xscale="log", yscale="log", xlabel=f"pairs per {what[:-1]}, at least", ylabel=what)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")
    axes.yaxis.set_tick_params(labelleft=True)
    axes.grid(which="major", alpha=0.3)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)  # above the curves


def survival(degree: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the degrees that occur, ascending, and the number of nodes with at least each degree.

    Args:
        degree: number of pairs of each node (user or item). Shape: (n,) -> 2 x (n_degrees,)
    """
    values, counts = np.unique(degree, return_counts=True)
    return values, counts[::-1].cumsum()[::-1]
