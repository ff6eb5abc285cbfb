"""Translate old names of settings, of their values and of keys in files to the current names.

`renamed` is applied wherever settings are read: yaml files, the command line, ``run.json``,
checkpoints, studies and records. So a file of an earlier version keeps its meaning.
"""

from collections.abc import Mapping
from typing import Any

from recbole_lightgnn.errors import InputError, warn

# Old name -> new name, of settings.
SETTINGS = {
    "our_products": "accelerate",
    "batches": "batch_by",
    "ranking_own": "ranking_self_weight",
}
# New name of a setting -> old value -> new value.
VALUES = {
    "batch_by": {"interactions": "interaction", "users": "user"},
    "teacher_scale": {"spread": "std"},
}
# Old name -> new name, of keys in files that we write.
KEYS = {
    "footing": "protocol",
    "rivals": "variants",
    "fruitless": "epochs_without_improvement",
}
# Old module -> new module, in `recbole_lightgnn`. Importing an old one fails and names the new one.
MODULES = {
    "allocator": "utils.allocator",
    "bench.command": "cli.bench",
    "checks": "config.validation",
    "compat": "integration.compat",
    "compiled": "utils.jit",
    "data.command": "cli.data",
    "data.compute": "data.prefetch",
    "data.import_command": "cli.imports",
    "encoder": "nn.propagation",
    "export_command": "cli.export",
    "files": "utils.files",
    "graph": "nn.graph",
    "history": "runs.history",
    "losses.by_rows": "losses.chunked",
    "models.ease": "integration.ease",
    "models.faster": "integration.accelerate",
    "models.frozen": "models.frozen_teacher",
    "models.tables": "models.scoring_tables",
    "pruning": "nn.pruning",
    "report.accuracy": "comparison.seeds_report",
    "report.command": "cli.report",
    "report.comparison": "comparison.results",
    "report.comparison_report": "comparison.report",
    "report.drawing": "comparison.drawing",
    "report.figures": "comparison.figures",
    "report.kept": "comparison.archive",
    "report.page": "comparison.page",
    "report.paper": "comparison.paper_numbers",
    "report.results": "runs.record",
    "report.significance": "comparison.significance",
    "report.table": "comparison.table",
    "report.users": "runs.user_metrics",
    "service.command": "cli.serve",
    "serving.command": "cli.recommend",
    "settings": "config.schema",
    "splits": "data.loaders",
    "stock_checkpoint": "runs.recbole_loaders",
    "studies.ablation_command": "cli.ablate",
    "studies.command": "cli.tune",
    "studies.compare_command": "cli.compare",
    "studies.desk": "tuning.trial_locks",
    "studies.grid": "comparison.plan",
    "studies.progress": "comparison.progress",
    "studies.rivals": "comparison.variants",
    "studies.runner": "comparison.runner",
    "studies.search": "tuning.search",
    "studies.space": "tuning.space",
    "trained": "runs.finished_run",
    "trainer.checkpoint": "runs.checkpoint",
    "trainer.masking": "integration.eval_mask",
    "trainer.rows": "trainer.record_rows",
    "trainer.run_folder": "runs.run_folder",
    "trainer.stock_evaluation": "trainer.recbole_evaluation",
    "trainer.stock_pickle": "runs.recbole_pickle",
    "trainer.stock_progress": "trainer.recbole_resume",
    "trainer.stored": "runs.checkpoint_model",
    "report": "comparison",
}

_warned: set[str] = set()


def renamed(settings: Mapping[str, Any], where: str | None = None) -> dict[str, Any]:
    """Translate old names and values of settings to current ones, in nested mappings, too.

    Args:
        settings: settings by old or current name, also with a prefix: ``teacher_settings.batches``.
        where: where the settings were given, such as ``the command line``. Each old name is then
            reported once, in one line on standard error. ``None`` reports nothing; it is for files
            that an earlier version wrote.

    Raises:
        InputError: if a setting is given under its old name and under its current name.
    """
    result: dict[str, Any] = {}
    for key, value in settings.items():
        prefix, dot, name = str(key).rpartition(".")
        new = SETTINGS.get(name, name)
        new_key = f"{prefix}{dot}{new}" if isinstance(key, str) else key
        if new != name and new_key in settings:
            raise InputError(
                f"{key} is the old name of {new_key}, and both are given: leave {key} out"
            )
        new_value = _renamed_value(new, value, where)
        if where is not None and new != name:
            _warn(f"{where}: the setting {name} is called {new} now")
        elif where is not None and new_value != value and not isinstance(value, Mapping):
            _warn(f"{where}: {name} {value!r} is called {new_value!r} now")
        result[new_key] = new_value
    return result


def renamed_keys(content: Mapping[str, Any]) -> dict[str, Any]:
    """Translate the old keys in the content of one of our JSON files, but not nested keys."""
    return {KEYS.get(key, key): value for key, value in content.items()}


def _renamed_value(name: str, value: Any, where: str | None) -> Any:
    values = VALUES.get(name, {})
    if isinstance(value, Mapping):
        if values and "choices" in value:  # of a search space
            return {**value, "choices": [values.get(one, one) for one in value["choices"]]}
        return renamed(value, where)
    if isinstance(value, list):  # such as the rows of a record
        return [renamed(one, where) if isinstance(one, Mapping) else one for one in value]
    return values.get(value, value) if isinstance(value, str) else value


def _warn(message: str) -> None:
    if message not in _warned:
        _warned.add(message)
        warn(message)
