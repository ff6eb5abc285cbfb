"""Settings of a run as JSON, and where two runs differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recbole_lightgnn.utils.files import plain

# Settings that say where and how loudly to run, not what to compute.
_ENVIRONMENT = {
    *("gpu_id", "use_gpu", "device", "local_rank", "single_spec", "state", "verbose"),
    *("show_progress", "checkpoint_dir", "data_path", "result_file", "resume", "debug"),
    *("log_wandb", "wandb_project", "config_files", "nproc", "world_size", "offset", "ip", "port"),
}


# Settings of data and evaluation that RecBole reads, though its lists of such do not have them.
_UNLISTED = {
    *("split_seed", "eval_mask", "worker", "shuffle", "wandb_project", "encoding", "tail_ratio"),
    *("discretization", "numerical_features", "kg_reverse_r"),
    *("relation_kg_num_interval", "entity_kg_num_interval"),
}


# Scores made at once: memory and time alone, so that a run out of memory can go on with fewer.
WITHOUT_EFFECT = {"eval_batch_size"}


def settings_of(config: Any) -> dict[str, Any]:
    """Every setting in force that says what to compute, as JSON has it."""
    return {
        key: plain(value)
        for key, value in sorted(config.final_config_dict.items())
        if key not in _ENVIRONMENT
    }


def other_settings(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Names of the settings that differ and matter; one that an older version lacks is as unset."""
    keys = (one.keys() | other.keys()) - WITHOUT_EFFECT
    return sorted(key for key in keys if one.get(key) != other.get(key))


def model_settings(config: Any) -> dict[str, Any]:
    """The settings of model and training alone, without those of data and evaluation."""
    shared = shared_keys(config)
    return {key: value for key, value in _set_settings(config).items() if key not in shared}


def shared_settings(config: Any) -> dict[str, Any]:
    """The settings of data and evaluation, which all stages of a run have in common."""
    shared = shared_keys(config)
    return {key: value for key, value in _set_settings(config).items() if key in shared}


def shared_keys(config: Any) -> set[str]:
    """Names of the settings of data and evaluation."""
    groups = ("General", "Evaluation", "Dataset")
    return _UNLISTED | {key for group in groups for key in config.parameters[group]}


def _set_settings(config: Any) -> dict[str, Any]:
    """Those of `settings_of` that are set, not derived: RecBole works the others out again."""
    derived = {"model", "dataset", "eval_type", "valid_neg_sample_args", "test_neg_sample_args"}
    derived |= {"MODEL_TYPE", "MODEL_INPUT_TYPE"}
    return {key: value for key, value in settings_of(config).items() if key not in derived}
