"""The ablations of the paper's Table 3, by name (the setting ``ablation``)."""

from functools import cache
from typing import Any

from recbole_lightgnn.config.files import defaults_of, read_yaml
from recbole_lightgnn.registry import STUDENT, properties_dir


@cache
def ablations() -> dict[str, dict[str, Any]]:
    """Name of an ablation -> what it changes in the student's settings."""
    return read_yaml(properties_dir() / "study" / "paper_ablations.yaml")


def apply_ablation(settings: dict[str, Any], intermediate: dict[str, Any]) -> None:
    """Change a student's settings in place to those of its ``ablation``.

    Without alignment (``-BiAln``) the interaction loss is all that is left to learn from. It is
    then turned on in every run, with weight 1 if it had none.

    Args:
        settings: the student's settings, ``ablation`` among them; an unknown one changes nothing.
        intermediate: the intermediate's own defaults.
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
