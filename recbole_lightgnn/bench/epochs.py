"""Time of an epoch, and peak memory, of baselines.

Each model is trained in a process of its own, for two epochs per stage.
"""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recbole_lightgnn.bench.measure import conditions, in_a_process, peak_mb
from recbole_lightgnn.bench.text import conditions_text, short
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.registry import ACCELERATED, STAGES, model_names, our_models
from recbole_lightgnn.utils.text import did_you_mean

EPOCHS = 2  # the first epoch also compiles kernels, so the second one is reported
RECBOLES = (
    *("EASE", "ItemKNN", "Pop", "BPR", "ENMF", "NeuMF", "SimpleX", "DGCF", "GCMC", "LightGCN"),
    *("NGCF", "NCL", "SGL", "MultiVAE", "RecVAE"),
)


def run(dataset: str, models: Sequence[str] = ()) -> dict[str, Any]:
    """Measure epochs and memory of models, one model after the other.

    Args:
        dataset: name of a dataset in ``dataset/``, or ``ml-100k``.
        models: names of the models; if empty, `baselines`.

    Returns:
        The result, for a JSON file. ``rows`` has a row for each model, with ``model``, ``epochs``
        and ``peak_mb``. ``epochs`` lists the ``stage`` and ``seconds`` of each trained
        stage: seconds of the second epoch and its validation. For a model without epochs, these are
        the seconds of the whole computation. ``peak_mb`` is the peak memory of the process in 10^6
        bytes, with reading the data and the test ranking.

    Raises:
        InputError: if there is no model of a given name, or if a training fails.
    """
    known = model_names()
    for model in models:
        if model not in known:
            raise InputError(f"--models: no model is named {model!r}{did_you_mean(model, known)}")
    before, rows = conditions(), []
    for model in models or baselines():
        measured = in_a_process(_measured, model, dataset)
        rows.append({"model": model, **measured})
        print(" | ".join(_cells(rows[-1])), flush=True)  # a benchmark of all models takes an hour
    return {"bench": "epochs", "graph": dataset, "conditions": before, "rows": rows}


def baselines() -> list[str]:
    """List our baselines, and RecBole's models that the comparisons in ``results/`` have."""
    return sorted([*(name for name in our_models() if name not in STAGES), *RECBOLES])


def _measured(model: str, dataset: str) -> dict[str, Any]:
    """Train a model for two epochs per stage, and test it; return ``epochs`` and ``peak_mb``."""
    from recbole.utils import ModelType, get_model

    from recbole_lightgnn.quick_start import run as train

    settings = {"show_progress": False, "state": "ERROR", "accelerate": model in ACCELERATED}
    kind = get_model(model)
    if kind.type != ModelType.TRADITIONAL:
        settings["epochs"] = EPOCHS
    if getattr(kind, "learns_from_teacher", False):
        settings["teacher_settings.epochs"] = EPOCHS
    with tempfile.TemporaryDirectory() as folder:
        settings["checkpoint_dir"] = folder
        file = Path(folder, "record.json")
        record = train(model, dataset, settings=settings, result_file=file)
    epochs = []
    for row in record["rows"]:
        if row.get("curve"):
            ends = [0.0, *row["curve"]["seconds"]]
            epochs.append({"stage": row["key"], "seconds": ends[-1] - ends[-2]})
    return {"epochs": epochs, "peak_mb": peak_mb()}


def text(result: dict[str, Any]) -> str:
    """Format `run`'s result (plus the key ``environment``) as a table with a line per model."""
    from tabulate import tabulate

    lines = [_cells(row) for row in result["rows"]]
    heads = ("model", f"epoch on {result['graph']}", "memory")
    return "\n".join(
        [
            tabulate(lines, heads, tablefmt="plain", disable_numparse=True),
            "",
            "seconds of the second epoch of each stage, the teacher first; memory at its peak",
            conditions_text(result),
        ]
    )


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    seconds = ", ".join(f"{short(epoch['seconds'])} s" for epoch in row["epochs"])
    return row["model"], seconds, f"{row['peak_mb'] / 1e3:.2f} GB"
