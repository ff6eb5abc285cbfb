"""The protocol of a comparison: the settings of data and evaluation that all its runs share."""

import re
from collections.abc import Mapping
from typing import Any

from recbole_lightgnn.config.settings_diff import WITHOUT_EFFECT, other_settings, shared_settings
from recbole_lightgnn.errors import InputError


def seeds_split_the_data(configs: Mapping[str, Any]) -> bool:
    """Whether runs with different seeds would have different splits of the data.

    True if there is a model for which neither the dataset's files nor ``split_seed`` fix the split.
    """
    return any(
        config["benchmark_filename"] is None and config["split_seed"] is None
        for config in configs.values()
    )


def shared_protocol(configs: Mapping[str, Any]) -> dict[str, Any]:
    """Check that all models share the settings of data and evaluation; return these settings.

    Args:
        configs: ``Config`` of each model, by name.

    Raises:
        InputError: if the settings differ between models, if ``valid_metric`` has no cutoff, or if
            ``metrics`` lacks Recall or NDCG.
    """
    protocols = {name: protocol_of(config) for name, config in configs.items()}
    first, *others = protocols
    protocol = protocols[first]
    for name in others:
        if differing := other_settings(protocol, protocols[name]):
            raise InputError(
                f"{name} and {first} would not have the same protocol: their settings of data or "
                f"evaluation differ ({', '.join(differing)}); give them for all, as --KEY=VALUE"
            )
    _check_metrics(protocol)
    return protocol


def protocol_of(config: Any) -> dict[str, Any]:
    """The settings of data and evaluation in one model's ``Config`` that affect the results."""
    ignored = WITHOUT_EFFECT | {"seed"}
    return {key: value for key, value in shared_settings(config).items() if key not in ignored}


def _check_metrics(protocol: Mapping[str, Any]) -> None:
    """Raise InputError if the tables need a metric or a cutoff that the protocol lacks."""
    selection, metrics = protocol["valid_metric"], protocol["metrics"]
    if not re.search(r"@\d+$", selection):
        raise InputError(
            "the tables take their cutoff from valid_metric, which must have one, as Recall@20 "
            f"does; got {selection}"
        )
    if not {"recall", "ndcg"} <= {metric.lower() for metric in metrics}:
        raise InputError(
            "the tables show Recall and NDCG: metrics must have both, got " + ", ".join(metrics)
        )
