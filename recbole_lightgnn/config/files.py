"""The yaml files of settings: reading, merging, and where they are."""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from recbole_lightgnn.config.aliases import renamed
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.registry import properties_dir

# Settings of an earlier stage, given as a mapping: merged key by key, never replaced as a whole.
STAGE_SETTINGS = ("teacher_settings", "intermediate_settings")
# Keys of a model's yaml that are no settings.
_ABOUT_THE_FILE = ("class", "include")


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
    return renamed(values or {}, f"config file {path}")


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


def recipes() -> list[str]:
    """Names for ``--recipe``; ``default`` is the model's own yaml and has no file."""
    return ["default", *sorted(f.stem for f in (properties_dir() / "recipe").glob("*.yaml"))]


def defaults_of(model: str) -> dict[str, Any]:
    """The defaults in the yaml of one of our models, with those of the files that it includes."""
    values: dict[str, Any] = {}
    for file in property_files(f"model/{model}"):
        values.update(read_yaml(file))
    return {key: value for key, value in values.items() if key not in _ABOUT_THE_FILE}


def property_files(name: str) -> list[Path]:
    """A file of ours and, before it, the ones that it includes (``include: [FOLDER/NAME, ...]``).

    Args:
        name: folder and name in ``properties/``, without ``.yaml``.
    """
    file = properties_dir() / f"{name}.yaml"
    included = [property_files(other) for other in read_yaml(file).get("include", ())]
    return [*(file for files in included for file in files), file]
