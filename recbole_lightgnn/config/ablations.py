"""Apply the ablations of the paper's Table 3, which the setting ``ablation`` names."""

from functools import cache
from typing import Any

from recbole_lightgnn.config.files import defaults_of, read_yaml
from recbole_lightgnn.registry import STUDENT, properties_dir


@cache
def ablations() -> dict[str, dict[str, Any]]:
    """Settings of the student that each ablation of the paper changes, by name of the ablation."""
    return read_yaml(properties_dir() / "study" / "paper_ablations.yaml")


def apply_ablation(settings: dict[str, Any], intermediate: dict[str, Any]) -> None:
    """Change a student's settings in place as its setting ``ablation`` says.

    The ablation ``-BiAln`` leaves only the interaction loss. With this ablation, the intermediate
    model and every pruning run of the student use this loss. A weight of 0 for this loss becomes 1.

    Args:
        settings: the student's settings. If the ablation is unknown, no setting changes.
        intermediate: default settings of the intermediate model.
    """
    name = settings.get("ablation")
    changes = ablations().get(name, {}) if isinstance(name, str) else {}
    settings.update(changes)
    if name == "-BiAln":
        settings["interaction_weight"] = settings.get("interaction_weight") or 1.0
        settings["interaction_runs"] = defaults_of(STUDENT)["interaction_runs"]
        stage = {**(settings.get("intermediate_settings") or {}), **changes}
        weight = {**intermediate, **stage}.get("interaction_weight")
        settings["intermediate_settings"] = {**stage, "interaction_weight": weight or 1.0}
