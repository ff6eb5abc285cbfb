"""Give a run's settings as JSON values, by groups, and compare the settings of two runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recbole_lightgnn.config.view import RunConfig
from recbole_lightgnn.utils.files import plain

# Settings that do not change the result: where to run, what to print.
_ENVIRONMENT = {
    *("gpu_id", "use_gpu", "device", "local_rank", "single_spec", "state", "verbose"),
    *("show_progress", "checkpoint_dir", "data_path", "result_file", "resume", "debug"),
    *("log_wandb", "wandb_project", "config_files", "nproc", "world_size", "offset", "ip", "port"),
}
# Settings of data and evaluation that RecBole's own lists of such settings lack.
_UNLISTED = {
    *(
        "split_seed",
        "eval_mask",
        "refit",
        "train_noise",
        "worker",
        "shuffle",
        "wandb_project",
        "encoding",
        "tail_ratio",
    ),
    *("discretization", "numerical_features", "kg_reverse_r"),
    *("relation_kg_num_interval", "entity_kg_num_interval"),
}
# Settings that change memory and time but not the result. A run may be resumed with other values.
WITHOUT_EFFECT = {"eval_batch_size"}
# Settings that earlier versions did not have, each with the value that their runs had in effect.
_ADDED: dict[str, Any] = {
    "catalog_metrics": "exact",
    "candidates": "auto",
    "draw_by": "interaction",
    "epoch_steps": 1,
    "item_degree_exponent": 0.5,
    "max_edge_visits": 0,
    "max_epoch_steps": 0,
    "n_candidates": 8192,
    "prediction_kd_entropy": 0.57,
    "search_minutes": 10.0,
    "search_trials": 24,
    "refit": False,
    "rewind": False,
    "teachers": [],
    "train_noise": 0.0,
    "user_degree_exponent": 0.5,
}


def settings_of(config: RunConfig) -> dict[str, Any]:
    """All settings of a run that affect the result, as JSON values, by name."""
    return {
        key: plain(value)
        for key, value in sorted(config.final_config_dict.items())
        if key not in _ENVIRONMENT
    }


def other_settings(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Names of the settings that differ between two runs and affect the result.

    If a run of an older version lacks a setting, the value is taken from `_ADDED`, or is ``None``.
    """
    keys = (one.keys() | other.keys()) - WITHOUT_EFFECT
    values = ((key, _ADDED.get(key)) for key in keys)
    return sorted(
        key for key, missing in values if one.get(key, missing) != other.get(key, missing)
    )


def model_settings(config: RunConfig) -> dict[str, Any]:
    """A run's settings of model and training, as JSON values, by name."""
    shared = shared_keys(config)
    return {key: value for key, value in _set_settings(config).items() if key not in shared}


def shared_settings(config: RunConfig) -> dict[str, Any]:
    """A run's settings of data and evaluation, which its stages share, as JSON values, by name."""
    shared = shared_keys(config)
    return {key: value for key, value in _set_settings(config).items() if key in shared}


def shared_keys(config: RunConfig) -> set[str]:
    """Names of the settings of data and evaluation, which all stages of a run share."""
    groups = ("General", "Evaluation", "Dataset")
    return _UNLISTED | {key for group in groups for key in config.parameters[group]}


def _set_settings(config: RunConfig) -> dict[str, Any]:
    """The settings of `settings_of`, except those that RecBole derives from other settings."""
    derived = {"model", "dataset", "eval_type", "valid_neg_sample_args", "test_neg_sample_args"}
    derived |= {"MODEL_TYPE", "MODEL_INPUT_TYPE"}
    return {key: value for key, value in settings_of(config).items() if key not in derived}
