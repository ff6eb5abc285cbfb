"""Where the settings of each model in a comparison come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from recbole_lightgnn.comparison.request import Request
from recbole_lightgnn.comparison.study import Study
from recbole_lightgnn.config.settings_diff import model_settings
from recbole_lightgnn.config.teachers import searches_teachers


def searches_itself(config: Any) -> bool:
    """Whether a model's runs search for its teachers (``recipe: auto``)."""
    return searches_teachers(config.final_config_dict)


def sources_after(
    searches: Sequence[Study], request: Request, configs: Mapping[str, Any]
) -> dict[str, str]:
    """Source of each model's settings (``tuned, N trials`` or ``not tuned``), after a search.

    A model that searches in each run has its source by `_settings_source`.
    """
    found = {study.name: study.settings_source() for study in searches}
    own = {
        name: _settings_source(config, request.given_to(name))
        for name, config in configs.items()
        if searches_itself(config)
    }
    return dict.fromkeys(configs, "not tuned") | found | own


def sources(request: Request, configs: Mapping[str, Any]) -> dict[str, str]:
    """Source of each model's settings, as in `_settings_source`, without a search."""
    return {
        name: _settings_source(config, request.given_to(name)) for name, config in configs.items()
    }


def _settings_source(config: Any, given: Mapping[str, Any]) -> str:
    """Tell where the settings of a model come from: ``by hand``, ``tuned`` or ``default``.

    - ``by hand``: the command or a variant gives a setting of the model; or the dataset's yaml file
      has settings for the model that were chosen after few manual trials or none.
    - ``tuned``: the dataset's yaml file has settings for the model that were chosen by a search or
      in many manual trials; or a search is a part of the run (``recipe: auto``).
    - ``default``: no setting of the model is given, in the command, in a variant or in the yaml
      file.

    Args:
        config: the model's ``Config``.
        given: settings given for the model, including the settings of a variant.
    """
    keys = model_settings(config).keys() - {"accelerate"}
    if searches_itself(config):
        keys -= {"recipe", "search_trials", "search_minutes"}  # they are about the search
    if any(key.partition(".")[0] in keys for key in given):
        return "by hand"
    if config.tuned or searches_itself(config):
        return "tuned"
    return "by hand" if config.of_dataset.get(config["model"]) else "default"
