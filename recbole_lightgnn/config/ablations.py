"""The ablations of the paper's Table 3, by name (the setting ``ablation``)."""

from functools import cache
from typing import Any

from recbole_lightgnn.config.files import defaults_of, read_yaml
from recbole_lightgnn.registry import STUDENT, properties_dir


@cache
def ablations() -> dict[str, dict[str, Any]]:
    """Return the settings of the student that each ablation changes, by the ablation's name."""
    return read_yaml(properties_dir() / "study" / "paper_ablations.yaml")


def apply_ablation(settings: dict[str, Any], intermediate: dict[str, Any]) -> None:
    """Apply the setting ``ablation`` to a student's settings, in place.

    The ablation ``-BiAln`` leaves only the interaction loss. This loss is then turned on in every
    run, with weight 1 if its weight was 0.

    Args:
        settings: the student's settings. An unknown ``ablation`` changes nothing.
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
