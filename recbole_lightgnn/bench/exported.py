"""Exported models where they are used: cold start, one user, all users, memory.

Each is measured in processes that import what a service would: no torch, no RecBole.
"""

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recbole_lightgnn.bench.measure import WrongResult, conditions, row, summary
from recbole_lightgnn.errors import InputError

STARTS = 10
COLD, LOAD, ONE_USER, ALL_USERS = "cold start", "load", "top 20 for one user", "for all users"


def run(files: Sequence[Path]) -> dict[str, Any]:
    """Check and measure some models of one dataset.

    Args:
        files: of ``recbole-lightgnn export``.

    Returns:
        The result, of plain values: ``models``, ``bytes`` and ``peak_mb`` (10^6 bytes) of each;
        and ``rows``, the ``seconds`` of each from the start of a process to its first answer, of
        the part of that which is after the imports, of a user alone and of all users.

    Raises:
        InputError: if a file is no model, or two have one name or other users.
        WrongResult: if what is recommended is not the best.
    """
    names = [file.name for file in files]
    if len(set(names)) < len(names):
        raise InputError("two of the files have one name, by which the result tells them apart")
    before = conditions()
    found = {file.name: _measure(file) for file in files}
    first, *others = found.values()
    if any(other["about"] != first["about"] for other in others):
        raise InputError("the files are models of other users and items: measure them one by one")
    return {
        "bench": "infer",
        **first["about"],
        "deviation": max(one["deviation"] for one in found.values()),
        "conditions": before,
        "models": {
            file.name: {"bytes": file.stat().st_size, "peak_mb": found[file.name]["peak_mb"]}
            for file in files
        },
        "rows": [
            row(operation, {name: one["seconds"][operation] for name, one in found.items()})
            for operation in (COLD, LOAD, ONE_USER, ALL_USERS)
        ],
    }


def _measure(file: Path) -> dict[str, Any]:
    starts, loads = [], []
    for _ in range(STARTS + 1):
        begun = time.monotonic()
        first = _ask("first_answer", file)
        starts.append(first["ready"] - begun)
        loads.append(first["load"])
    answers = _ask("answers", file)
    if not answers["deviation"] <= 1e-5:
        raise WrongResult(f"{file}: recommendations are not the best, by {answers['deviation']}")
    return {
        "about": {
            "graph": answers["dataset"],
            "users": answers["users"],
            "items": answers["items"],
        },
        "deviation": answers["deviation"],
        "peak_mb": answers["peak_mb"],
        "seconds": {
            COLD: summary(starts[1:]),  # the first finds nothing in the system's cache
            LOAD: summary(loads[1:]),
            ONE_USER: summary(answers["one_user"]),
            ALL_USERS: summary(answers["all_users"]),
        },
    }


def _ask(what: str, file: Path) -> Any:
    command = [sys.executable, "-m", "recbole_lightgnn.serving.measure", what, str(file)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it was killed"])[-1]
        raise InputError(last.partition("InputError: ")[2] or f"{file} cannot be measured: {last}")
    return json.loads(done.stdout)


def text(result: Mapping[str, Any]) -> str:
    """The result, for reading: a line a file."""
    from tabulate import tabulate

    from recbole_lightgnn.bench.text import conditions_text, milliseconds

    lines = [["", "bytes", "peak memory", *(one["operation"] for one in result["rows"])]]
    for name, size in result["models"].items():
        taken = [milliseconds(one["seconds"][name]) for one in result["rows"]]
        lines.append([name, f"{size['bytes']:,}", f"{size['peak_mb']:.0f} MB", *taken])
    return "\n".join(
        [
            f"{result['graph']}: {result['users']} users, {result['items']} items",
            f"all recommendations are the best, to {result['deviation']:.1g} of the largest score",
            "",
            tabulate(lines, tablefmt="plain", disable_numparse=True),
            "",
            "median (quartiles) in milliseconds",
            conditions_text(result),
        ]
    )
