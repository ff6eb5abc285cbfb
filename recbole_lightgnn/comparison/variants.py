"""Read variants: models with changed settings, which a comparison shows under their own names."""

from __future__ import annotations

import re
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recbole_lightgnn.config.files import read_yaml
from recbole_lightgnn.errors import InputError


@dataclass(frozen=True)
class Variant:
    """A model with changed settings, compared under a name of its own.

    Attributes:
        model: name of the model.
        settings: the changed settings, with their values.
    """

    model: str
    settings: dict[str, Any]


def read_variants(file: Path, models: Container[str]) -> dict[str, Variant]:
    """Read the variants of a yaml file.

    Args:
        file: yaml file with lines ``NAME: {model: MODEL, setting: value}``.
        models: names of all models; no variant may have one of these names.

    Raises:
        InputError: if a line does not have this form; or if a variant's name is the name of a
            model, or has characters other than letters, digits, ``-`` and ``_``.
    """
    variants = {}
    for name, content in read_yaml(file).items():
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", str(name)) or name in models:
            raise InputError(
                f"{file}: {name!r} cannot be a variant's name: expected letters, digits, - and _, "
                "and no model's name"
            )
        if not isinstance(content, dict) or not isinstance(content.get("model"), str):
            raise InputError(
                f"{file}: {name} must be {{model: MODEL, setting: value, ...}}, got {content!r}"
            )
        settings = {str(key): value for key, value in content.items() if key != "model"}
        variants[name] = Variant(content["model"], settings)
    return variants
