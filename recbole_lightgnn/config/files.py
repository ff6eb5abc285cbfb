"""The yaml files of settings: reading, merging, and where they are."""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from recbole_lightgnn.errors import InputError

# Settings of an earlier stage, given as a mapping: merged key by key, never replaced as a whole.
STAGE_SETTINGS = ("teacher_settings", "intermediate_settings")


@cache
def _loader() -> Any:
    """YAML as RecBole reads it: ``1e-3`` is a number. Loaded only now: who serves has none."""
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?(?:[0-9][0-9_]*)(?:\.[0-9_]*)?[eE][-+]?[0-9]+$"),
        list("-+0123456789"),
    )
    return Loader


def read_value(text: str) -> Any:
    """The value of ``--key=text``: YAML, and ``None`` for nothing, as RecBole's users write it.

    Raises:
        yaml.YAMLError: if it is not YAML.
    """
    import yaml

    return None if text == "None" else yaml.load(text, Loader=_loader())


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a yaml file; empty where the file is.

    Raises:
        InputError: if the file is missing, is not YAML or holds no mapping.
    """
    import yaml

    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_loader())
    except OSError as error:
        raise InputError(f"config file {path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"config file {path} is not YAML: {reason}") from error
    if values is not None and not isinstance(values, dict):
        raise InputError(f"config file {path} must hold `key: value` lines")
    return values or {}


def properties_dir() -> Path:
    """The folder of our yaml files: in the package (a wheel) or beside it (a checkout).

    Raises:
        FileNotFoundError: if it is in neither place, that is, the installation is broken.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "properties", package.parent / "properties"):
        if (folder / "overall.yaml").is_file():
            return folder
    raise FileNotFoundError(f"no properties folder in {package} or beside it: install again")


def nested(layer: Mapping[str, Any]) -> dict[str, Any]:
    """``{"teacher_settings.epochs": 3}`` as ``{"teacher_settings": {"epochs": 3}}``."""
    found: dict[str, Any] = {}
    for key, value in layer.items():
        stage, _, rest = str(key).partition(".")
        if rest and stage in STAGE_SETTINGS:
            merge(found, {stage: nested({rest: value})})
        else:
            merge(found, {key: value})
    return found


def merge(under: dict[str, Any], over: Mapping[str, Any]) -> None:
    """Put ``over`` on top of ``under`` in place; settings of stages are merged key by key."""
    for key, value in over.items():
        if key in STAGE_SETTINGS and isinstance(value, Mapping):
            own = dict(under[key]) if isinstance(under.get(key), Mapping) else {}
            merge(own, value)
            under[key] = own
        else:
            under[key] = value


def our_models() -> list[str]:
    """Names of the models with a yaml of ours."""
    return sorted(file.stem for file in (properties_dir() / "model").glob("*.yaml"))


def recipes() -> list[str]:
    """Names for ``--recipe``; ``default`` is the model's own yaml and has no file."""
    return ["default", *sorted(f.stem for f in (properties_dir() / "recipe").glob("*.yaml"))]


def defaults_of(model: str) -> dict[str, Any]:
    """One of our models' own yaml."""
    return read_yaml(properties_dir() / "model" / f"{model}.yaml")
