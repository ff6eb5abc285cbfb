"""Results of benchmarks as text for the terminal."""

from collections.abc import Mapping
from typing import Any


def rows_text(result: Mapping[str, Any]) -> str:
    """Format a benchmark's result as a table with one line per operation.

    Args:
        result: result of a benchmark's ``run``, plus the key ``environment``.
    """
    from tabulate import tabulate

    names = list(dict.fromkeys(name for row in result["rows"] for name in row["seconds"]))
    lines = [["", *(cell for name in names for cell in (name, ""))]]
    for row in result["rows"]:
        cells = [row["operation"]]
        for name in names:
            seconds = row["seconds"].get(name)
            times = row["times_ours"].get(name)
            cells += [milliseconds(seconds), "" if times is None else f"x {short(times)}"]
        lines.append(cells)
    return "\n".join(
        [
            *head_text(result),
            "",
            tabulate(lines, tablefmt="plain", disable_numparse=True),
            "",
            "median (quartiles) in milliseconds; x: times ours",
            *result.get("notes", []),
            conditions_text(result),
        ]
    )


def head_text(result: Mapping[str, Any]) -> list[str]:
    """Two lines on a benchmark's result: size of the graph, and largest error of the check."""
    return [
        f"{result['graph']}: {result['users']} users, {result['items']} items, "
        f"{result['interactions']} interactions; width {result['width']}",
        f"all results are right, to {result['deviation']:.1g} of their largest entry",
    ]


def conditions_text(result: Mapping[str, Any]) -> str:
    """One line on the machine and its libraries (``environment``) and on its load before a run."""
    where = result["environment"]
    libraries = (f"{name} {where['libraries'][name]}" for name in ("torch", "numpy", "scipy"))
    return (
        f"{where['threads']} threads of {where['processor']}, {where['cores']} cores; "
        f"{', '.join(libraries)}; load before: {result['conditions']['load']:.1f}"
    )


def milliseconds(seconds: Mapping[str, float] | None) -> str:
    """Format a `measure.summary` as median and quartiles in milliseconds; ``-`` for ``None``."""
    if seconds is None:
        return "-"
    median, lower, upper = (short(1e3 * seconds[k]) for k in ("median", "lower", "upper"))
    return f"{median} ({lower}-{upper})"


def short(number: float) -> str:
    """Format a number with three significant digits; from 100 on, as a whole number."""
    return f"{number:.0f}" if number >= 100 else f"{number:.3g}"
