"""Read the type, range and meaning of each setting from the comments in the yaml files.

One line of a yaml file in ``properties/`` defines a setting::

    temperature: 0.2  # (float, > 0) Temperature of the softmax.

The form of the line is ``key: default  # (TYPE[, RANGE][, or empty]) Meaning.``, where

- TYPE is ``int``, ``float``, ``bool``, ``str``, ``dict``, ``path`` (of a file, or empty), ``path or
  list of paths``, ``list of int``, ``list of str`` (one or several), ``model`` (a recommender's
  name), ``recipe`` or ``ablation`` (the name of one), ``text`` (not read as YAML, such as a comma),
  or a notation of `recbole_lightgnn.config.notations`, such as ``interval``;
- RANGE is ``> 0``, ``>= 1``, ``0 < x <= 1``, ``0 <= x <= 1``, or ``one of a | b`` (``one of any
  case a | b`` if upper and lower case are not distinguished);
- a line without such a comment changes the default of a setting that an included file describes;
- indented lines describe the keys of the ``dict`` above them. No other key is allowed in this
  ``dict``. A key is optional unless its line says ``required``.

`describe` finds the settings of a model; `check_value` checks a value. `recbole-lightgnn settings`,
the ranges of ``tune`` and the reference in the documentation are made from the same lines.
"""

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from recbole_lightgnn.config.ablations import ablations
from recbole_lightgnn.config.files import property_files, read_value, recipes
from recbole_lightgnn.config.notations import NOTATIONS
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.registry import our_models, properties_dir
from recbole_lightgnn.utils.text import did_you_mean, must_be_one_of

_NAMES: dict[str, Callable[[], list[str]]] = {
    "recipe": recipes,
    "ablation": lambda: list(ablations()),
}
_TYPES = {"int", "float", "bool", "str", "dict", "path", "path or list of paths", "model", *_NAMES}
_TYPES |= {"list of int", "list of str", "text", *NOTATIONS}
_SINGLE = {"list of int": "int", "list of str": "str", "path or list of paths": "path"}
_LINE = re.compile(r"( *)(\w+):.*?\s# \((.+?)\) (.+)")
_BOUND = re.compile(
    r"(?:(?P<low>\S+) (?P<above><=?) x (?P<below><=?) (?P<high>\S+))|(?P<from>>=?) (?P<least>\S+)"
)


@dataclass(frozen=True)
class Setting:
    """Type, range and meaning of one setting.

    Attributes:
        key: name of the setting in yaml files and on the command line.
        type: one of the types that this module's docstring lists.
        range: range of allowed numbers, such as ``> 0``; empty to allow any number.
        choices: allowed names; empty to allow any name.
        optional: whether the value may be empty (``None``).
        meaning: what the setting does.
        any_case: whether upper and lower case are not distinguished in an allowed name.
        required: for a key of a mapping, whether the mapping must have the key.
        inner: for a mapping, the description of each allowed key; empty to allow any key.
    """

    key: str
    type: str
    range: str = ""
    choices: tuple[str, ...] = ()
    optional: bool = False
    meaning: str = ""
    any_case: bool = False
    required: bool = False
    inner: tuple["Setting", ...] = ()

    @property
    def allowed(self) -> str:
        """Type and range, or allowed names, as a text: ``int >= 1``, ``bpr | softmax``."""
        names = self.choices or tuple(_NAMES[self.type]() if self.type in _NAMES else ())
        if names:
            return " | ".join(names)
        return " ".join(filter(None, (self.type, self.range, "or empty" * self.optional)))


def read_settings(file: Path) -> dict[str, Setting]:
    """Read the settings that a yaml file describes in its comments, by name of the setting.

    Raises:
        ValueError: if a comment does not have the form that this module's docstring gives.
    """
    found: dict[str, Setting] = {}
    outer = ""
    for line in file.read_text(encoding="utf-8").splitlines():
        if match := _LINE.match(line):
            indent, key, specification, meaning = match.groups()
            setting = _setting(key, specification, meaning, f"{file.name}: {key}")
            if indent:
                found[outer] = replace(found[outer], inner=(*found[outer].inner, setting))
            else:
                found[key], outer = setting, key
    return found


def _setting(key: str, specification: str, meaning: str, where: str) -> Setting:
    kind, *rest = specification.split(", ")
    if kind not in _TYPES:
        raise ValueError(f"{where}: no type is named {kind!r}")
    setting = Setting(key, kind, meaning=meaning)
    for part in rest:
        if part == "or empty":
            setting = replace(setting, optional=True)
        elif part == "required":
            setting = replace(setting, required=True)
        elif part.startswith("one of "):
            names = part.removeprefix("one of ").removeprefix("any case ")
            any_case = part.startswith("one of any case ")
            setting = replace(setting, choices=tuple(names.split(" | ")), any_case=any_case)
        elif _BOUND.fullmatch(part):
            setting = replace(setting, range=part)
        else:
            raise ValueError(f"{where}: no range is written {part!r}")
    return setting


@cache
def _general() -> dict[str, Setting]:
    """The settings that every model has, from our two yaml files for all models."""
    files = (properties_dir() / "recbole.yaml", properties_dir() / "overall.yaml")
    return {key: one for file in files for key, one in read_settings(file).items()}


@cache
def unlisted() -> dict[str, Setting]:
    """Settings that RecBole's code reads although no yaml file of RecBole's lists them, by name."""
    return read_settings(properties_dir() / "recbole_unlisted.yaml")


@cache
def describe(model: str) -> dict[str, Setting]:
    """Type, range and meaning of a model's settings; for RecBole's models, only general ones."""
    settings = dict(_general())
    if model in our_models():
        for file in property_files(f"model/{model}"):
            settings |= read_settings(file)
    return settings


def read_given(key: str, text: str) -> Any:
    """Read the value of a flag ``--key=text`` as YAML, except for a separator or an interval.

    The text of these two is kept, because YAML refuses ``,`` and ``[5,inf)``, and reads a space as
    no value.

    Raises:
        yaml.YAMLError: if the text is not YAML.
    """
    import yaml

    setting = _general().get(key)
    if setting is None or setting.type not in ("text", "interval"):
        return read_value(text)
    try:
        value = read_value(text)
    except yaml.YAMLError:
        return text
    if value is None and setting.optional:
        return None
    # YAML has read a text in quotes. For any other value, such as a number, keep the given text.
    return value if isinstance(value, str) and value else text


def owners(key: str) -> list[str]:
    """Our models that have a setting of this name; empty if every model or no model has it."""
    return [model for model in our_models() if key in describe(model).keys() - _general().keys()]


def check_value(setting: Setting, value: Any, prefix: str = "") -> None:
    """Raise InputError if ``value`` is not of the setting's type or not in its range.

    ``prefix`` stands before the setting's name in messages, such as ``teacher_settings.``.
    """
    key, kind = prefix + setting.key, setting.type
    if value is None and setting.optional and kind not in ("int", "float"):
        return
    if kind in _SINGLE:
        single = replace(setting, key=key, type=_SINGLE[kind])
        for one in _several(key, value):
            check_value(single, one)
    elif kind in NOTATIONS:
        NOTATIONS[kind](key, value)
    elif kind == "path":
        _check_path(key, value)
    elif kind == "dict":
        _check_dict(key, setting, value)
    elif kind == "bool":
        if not isinstance(value, bool):
            raise InputError(f"{key} must be True or False, got {value!r}")
    elif kind in ("int", "float"):
        _check_number(key, setting, value)
    elif not isinstance(value, str):
        raise InputError(f"{key} must be a name, got {value!r}")
    elif names := setting.choices or (_NAMES[kind]() if kind in _NAMES else ()):
        must_be_one_of(key, value.lower() if setting.any_case else value, names)
    elif kind == "text" and not value:
        raise InputError(f"{key} must be a text, got an empty one")


def _check_dict(key: str, setting: Setting, value: Any) -> None:
    known = {inner.key: inner for inner in setting.inner}
    if value is None and not known:  # as an empty mapping
        return
    if not isinstance(value, dict):
        name, example = _example(setting)
        raise InputError(
            f"{key} must be a mapping, got {value!r}; write --{key}.{name}={example}, "
            f"or {{{name}: {example}}} in a config file"
        )
    for name in value if known else ():
        if name not in known:
            raise InputError(
                f"{key} has no {name!r}{did_you_mean(name, known)}: it may have {', '.join(known)}"
            )
    for name, inner in known.items():
        if name in value:
            check_value(inner, value[name], f"{key}.")
        elif inner.required:
            raise InputError(f"{key} needs {name}, got {value!r}: add --{key}.{name}=1")


def _example(setting: Setting) -> tuple[str, str]:
    """A key that a mapping may have and a value for the key, as an example in a message."""
    if not setting.inner:
        return "epochs", "3"
    first = setting.inner[0]
    return first.key, {"mode": "full"}.get(first.type) or (*first.choices, "1")[0]


def _several(key: str, value: Any) -> Iterator[Any]:
    values = value if isinstance(value, list | tuple) else [value]
    if not values:
        raise InputError(f"{key} must name at least one, got an empty list")
    yield from values


def _check_path(key: str, value: Any) -> None:
    if value is None:
        return
    if not isinstance(value, str):
        raise InputError(f"{key} must be the path of a file, or nothing, got {value!r}")
    if not Path(value).is_file():
        raise InputError(f"{key}: there is no file {value}")


def _check_number(key: str, setting: Setting, value: Any) -> None:
    if value is None and setting.optional:
        return
    kind = "an integer" if setting.type == "int" else "a number"
    types = int if setting.type == "int" else (int, float)
    finite = isinstance(value, types) and not isinstance(value, bool) and math.isfinite(value)
    if not finite or not within(float(value), setting.range):
        bound = f"x with {setting.range}" if "x" in setting.range else setting.range
        expected = f"{kind} {bound}".rstrip() + ", or empty" * setting.optional
        raise InputError(f"{key} must be {expected}, got {value!r}")


def within(value: float, range: str) -> bool:
    """Whether a number is in a range such as ``> 0``; an empty text allows any number."""
    match = _BOUND.fullmatch(range)
    if match is None:
        return True
    if match["from"]:
        least = float(match["least"])
        return value >= least if match["from"] == ">=" else value > least
    low, high = float(match["low"]), float(match["high"])
    above = low <= value if match["above"] == "<=" else low < value
    return above and (value <= high if match["below"] == "<=" else value < high)
