"""Time and memory of exported models: cold start, and recommendation for one or all users.

The measured processes import only what a service imports: neither torch nor RecBole.
"""

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recbole_lightgnn.bench.measure import WrongResult, conditions, row, summary
from recbole_lightgnn.bench.text import conditions_text, milliseconds
from recbole_lightgnn.errors import InputError

STARTS = 10  # measured starts of a process
COLD, LOAD, ONE_USER, ALL_USERS = "cold start", "load", "top 20 for one user", "for all users"


def run(files: Sequence[Path]) -> dict[str, Any]:
    """Check and measure some exported models of one dataset.

    Args:
        files: models exported by ``recbole-lightgnn export``.

    Returns:
        The result, for a JSON file. ``models``: ``bytes`` and ``peak_mb`` (10^6 bytes) of each
        model. ``rows``: seconds of each model for four operations: ``cold start``, from the start
        of a process to its first answer; ``load``, the part of the cold start after the imports;
        ``top 20 for one user``; ``for all users``, the top 20 of every user.

    Raises:
        InputError: if a file is not a model, if two files have the same name, or if the models have
            different users or items.
        WrongResult: if a recommended item is not among the best items.
    """
    names = [file.name for file in files]
    if len(set(names)) < len(names):
        raise InputError("two of the files have one name, so the result could not separate them")
    before = conditions()
    measured = {file.name: _measure(file) for file in files}
    first, *others = measured.values()
    if any(other["about"] != first["about"] for other in others):
        raise InputError(
            "the files are models of different users or items: measure them one by one"
        )
    return {
        "bench": "infer",
        **first["about"],
        "deviation": max(model["deviation"] for model in measured.values()),
        "conditions": before,
        "models": {
            file.name: {"bytes": file.stat().st_size, "peak_mb": measured[file.name]["peak_mb"]}
            for file in files
        },
        "rows": [
            row(operation, {name: model["seconds"][operation] for name, model in measured.items()})
            for operation in (COLD, LOAD, ONE_USER, ALL_USERS)
        ],
    }


def _measure(file: Path) -> dict[str, Any]:
    """Measure the times and the memory of one model.

    Raises:
        WrongResult: if a recommended item is not among the best items.
    """
    starts, loads = [], []
    for _ in range(STARTS + 1):
        begun = time.monotonic()
        first = _in_new_process("first_answer", file)
        starts.append(first["ready"] - begun)
        loads.append(first["load"])
    answers = _in_new_process("answers", file)
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
            COLD: summary(starts[1:]),  # at the first start, no file is in the system's cache
            LOAD: summary(loads[1:]),
            ONE_USER: summary(answers["one_user"]),
            ALL_USERS: summary(answers["all_users"]),
        },
    }


def _in_new_process(what: str, file: Path) -> Any:
    """Run `recbole_lightgnn.serving.measure` in a new process; return its measurements."""
    command = [sys.executable, "-m", "recbole_lightgnn.serving.measure", what, str(file)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it was killed"])[-1]
        raise InputError(last.partition("InputError: ")[2] or f"{file} cannot be measured: {last}")
    return json.loads(done.stdout)


def text(result: Mapping[str, Any]) -> str:
    """Format `run`'s result (plus the key ``environment``) as a table with one line per file."""
    from tabulate import tabulate

    lines = [["", "bytes", "peak memory", *(each["operation"] for each in result["rows"])]]
    for name, size in result["models"].items():
        times = [milliseconds(each["seconds"][name]) for each in result["rows"]]
        lines.append([name, f"{size['bytes']:,}", f"{size['peak_mb']:.0f} MB", *times])
    return "\n".join(
        [
            f"{result['graph']}: {result['users']} users, {result['items']} items",
            "all recommendations are the best ones; largest error of a score: "
            f"{result['deviation']:.1g} of the largest score",
            "",
            tabulate(lines, tablefmt="plain", disable_numparse=True),
            "",
            "median (quartiles) in milliseconds",
            conditions_text(result),
        ]
    )
