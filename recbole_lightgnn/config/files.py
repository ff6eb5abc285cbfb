"""Read and merge the yaml files of settings."""

import re
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from recbole_lightgnn.config.aliases import renamed
from recbole_lightgnn.config.intervals import has_interval
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.registry import properties_dir

# Mappings with the settings of an earlier stage. They are merged key by key, not replaced whole.
STAGE_SETTINGS = ("teacher_settings", "intermediate_settings")
# Mappings with keys that may be given one by one, as --eval_args.mode=full.
BY_KEY = (*STAGE_SETTINGS, "eval_args", "train_neg_sample_args", "clip_grad_norm")
# Keys of a model's yaml that are no settings.
_ABOUT_THE_FILE = ("class", "family", "include")


@cache
def _loader() -> Any:
    """Class of YAML loader that reads ``1e-3`` as a number, as RecBole's loader does."""
    import yaml  # not at the top: a service has no yaml

    loader: Any = type("Loader", (yaml.SafeLoader,), {})
    loader.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?(?:[0-9][0-9_]*)(?:\.[0-9_]*)?[eE][-+]?[0-9]+$"),
        list("-+0123456789"),
    )
    return loader


def read_value(text: str) -> Any:
    """Read the text of a flag ``--key=text`` as YAML. ``None`` is read as no value, as in RecBole.

    Raises:
        yaml.YAMLError: if the text is not YAML.
    """
    import yaml

    return None if text == "None" else yaml.load(text, Loader=_loader())


def read_yaml(path: Path) -> dict[str, Any]:
    """Read the settings in a yaml file and translate old names; an empty file has no settings.

    Raises:
        InputError: if the file is missing, is not YAML or holds no mapping.
    """
    import yaml

    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_loader())
    except OSError as error:
        raise InputError(f"config file {path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"config file {path} is not YAML: {_reason(error)}") from error
    if values is not None and not isinstance(values, dict):
        raise InputError(f"config file {path} must hold `key: value` lines")
    return renamed(values or {}, f"config file {path}")


def _reason(error: Exception) -> str:
    """Describe a YAML error in one line, with a hint if an interval lacks quotes."""
    mark: Any = getattr(error, "problem_mark", None)
    around = mark.buffer[max(0, mark.index - 40) : mark.index + 1] if mark and mark.buffer else ""
    hint = "; put an interval in quotes, such as '[5,inf)'" if has_interval(around) else ""
    return " ".join(str(error).split()) + hint


def nested(layer: Mapping[str, Any]) -> dict[str, Any]:
    """Turn dotted names of settings into nested mappings.

    ``{"teacher_settings.epochs": 3}`` becomes ``{"teacher_settings": {"epochs": 3}}``.
    """
    found: dict[str, Any] = {}
    for key, value in layer.items():
        stage, _, rest = str(key).partition(".")
        if rest and stage in BY_KEY:
            merge(found, {stage: nested({rest: value})}, BY_KEY)
        else:
            merge(found, {key: value}, BY_KEY)
    return found


def merge(
    under: dict[str, Any], over: Mapping[str, Any], by_key: tuple[str, ...] = STAGE_SETTINGS
) -> None:
    """Overwrite settings in place with settings of higher precedence.

    Args:
        under: the settings to change.
        over: the settings of higher precedence.
        by_key: names of settings that are mappings to be merged key by key. Any other setting is
            replaced as a whole.
    """
    for key, value in over.items():
        if key in by_key and isinstance(value, Mapping):
            own = dict(under[key]) if isinstance(under.get(key), Mapping) else {}
            merge(own, value, by_key)
            under[key] = own
        else:
            under[key] = value


def recipes() -> list[str]:
    """Values that ``--recipe`` may have: ``default``, and the name of each recipe's yaml file."""
    return ["default", *sorted(f.stem for f in (properties_dir() / "recipe").glob("*.yaml"))]


def defaults_of(model: str) -> dict[str, Any]:
    """Default settings of one of our models, from its yaml file and the files that it includes."""
    values: dict[str, Any] = {}
    for file in property_files(f"model/{model}"):
        values.update(read_yaml(file))
    return {key: value for key, value in values.items() if key not in _ABOUT_THE_FILE}


def property_files(name: str) -> list[Path]:
    """Paths of the files that a yaml file includes, then the path of the yaml file itself.

    A file includes others with the line ``include: [FOLDER/NAME, ...]``. ``name`` is the folder and
    name of the yaml file in ``properties/``, without ``.yaml``.
    """
    file = properties_dir() / f"{name}.yaml"
    included = [property_files(other) for other in read_yaml(file).get("include", ())]
    return [*(file for files in included for file in files), file]


@cache
def recbole_yaml(name: str) -> dict[str, Any]:
    """Content of RecBole's yaml file ``name``, such as ``model/BPR``; empty if there is no file."""
    spec = find_spec("recbole")  # not an import: files of settings are read without RecBole
    if spec is None or spec.origin is None:
        return {}
    folder = Path(spec.origin).parent / "properties"
    # The names of its files for XGBoost and LightGBM are in lower case.
    files = [folder / f"{spelling}.yaml" for spelling in (name, name.lower())]
    return next((read_yaml(file) for file in files if file.is_file()), {})
