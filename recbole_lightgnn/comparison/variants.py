"""Names that a comparison knows beside models: a model with settings that make it another rival."""

from __future__ import annotations

import re
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recbole_lightgnn.config.files import read_yaml
from recbole_lightgnn.errors import InputError


@dataclass(frozen=True)
class Rival:
    """What a name stands for.

    Attributes:
        model: name of a model.
        settings: those that it is given.
    """

    model: str
    settings: dict[str, Any]


def read_rivals(file: Path, models: Container[str]) -> dict[str, Rival]:
    """The rivals of a yaml file.

    Args:
        file: lines ``NAME: {model: MODEL, setting: value}``.
        models: names that models have, which a rival cannot have.

    Raises:
        InputError: if a line is of another form, or its name taken or unfit for a folder.
    """
    rivals = {}
    for name, content in read_yaml(file).items():
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", str(name)) or name in models:
            raise InputError(
                f"{file}: {name!r} cannot be a rival's name: expected letters, digits, - and _, "
                "and no model's name"
            )
        if not isinstance(content, dict) or not isinstance(content.get("model"), str):
            raise InputError(
                f"{file}: {name} must be {{model: MODEL, setting: value, ...}}, got {content!r}"
            )
        settings = {str(key): value for key, value in content.items() if key != "model"}
        rivals[name] = Rival(content["model"], settings)
    return rivals
