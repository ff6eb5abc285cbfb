"""Cost of the search for teachers (``recipe: auto``), beside the training that it precedes.

Three runs of LightGNN on one dataset, each in a process of its own: with the search; with the
settings that it found, without a search; and by the default recipe with the dataset's settings.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole_lightgnn.bench.measure import WrongResult, conditions, in_a_process, peak_mb
from recbole_lightgnn.bench.text import conditions_text, short

_SHARED = {"show_progress": False, "state": "ERROR"}


def run(dataset: str, trials: int, minutes: float) -> dict[str, Any]:
    """Measure the three runs, one after the other.

    Args:
        dataset: name of a dataset in ``dataset/``, or ``ml-100k``.
        trials: the setting ``search_trials``.
        minutes: the setting ``search_minutes``.

    Returns:
        The result, for a JSON file. ``rows`` has a row for each run, with ``recipe``, ``tried``
        (number of models in the search), ``search_seconds`` (0 without a search), ``seconds`` of
        the whole run, ``valid`` and ``test`` of the final student, and ``peak_mb``, the peak memory
        of the process in 10^6 bytes.

    Raises:
        InputError: if the dataset or a setting cannot be used.
        WrongResult: if the run without a search has another result than the run with it.
    """
    before = conditions()
    with tempfile.TemporaryDirectory() as folder:
        auto = {"recipe": "auto", "search_trials": trials, "search_minutes": minutes}
        searched = in_a_process(_measured, "search", dataset, auto, folder, None)
        found = str(next(Path(folder).rglob("recipe.yaml")))
        again = in_a_process(_measured, "found", dataset, {}, folder, found)
    if any(again[split] != searched[split] for split in ("valid", "test")):
        raise WrongResult(
            f"with the settings that were found, test is {again['test']}; with the search it is "
            f"{searched['test']}"
        )
    with tempfile.TemporaryDirectory() as folder:
        plain = in_a_process(_measured, "default", dataset, {"recipe": "default"}, folder, None)
    rows = [searched, again, plain]
    return {"bench": "search", "graph": dataset, "conditions": before, "rows": rows}


def _measured(
    name: str, dataset: str, settings: Mapping[str, Any], folder: str, file: str | None
) -> dict[str, Any]:
    """Run LightGNN; return its row."""
    from recbole_lightgnn.quick_start import run as train

    given = {**_SHARED, **settings, "checkpoint_dir": folder}
    record = train("LightGNN", dataset, config_files=[file] if file else [], settings=given)
    tried = record["rows"][0].get("search", [])
    return {
        "recipe": name,
        "tried": len(tried),
        "search_seconds": sum(one["seconds"] for one in tried),
        "seconds": record["seconds"],
        "valid": record["rows"][-1]["valid"],
        "test": record["rows"][-1]["test"],
        "peak_mb": peak_mb(),
    }


def text(result: dict[str, Any]) -> str:
    """Format `run`'s result (plus the key ``environment``) as a table with a line per run."""
    from tabulate import tabulate

    metric = next(iter(result["rows"][0]["valid"]))
    heads = ("run", "models tried", "search", "whole run", f"valid {metric}", "memory")
    lines = [
        (
            row["recipe"],
            row["tried"],
            f"{short(row['search_seconds'])} s",
            f"{short(row['seconds'])} s",
            f"{row['valid'][metric]:.4f}",
            f"{row['peak_mb'] / 1e3:.2f} GB",
        )
        for row in result["rows"]
    ]
    return "\n".join(
        [
            f"LightGNN on {result['graph']}",
            tabulate(lines, heads, tablefmt="plain", disable_numparse=True),
            "",
            "search: recipe auto; found: with the settings that it found; default: recipe default",
            conditions_text(result),
        ]
    )
