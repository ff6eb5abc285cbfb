"""The command ``recbole-lightgnn settings MODEL``."""

import argparse
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recbole_lightgnn.config.files import defaults_of, read_yaml
from recbole_lightgnn.config.schema import Setting, describe
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.registry import our_models, properties_dir
from recbole_lightgnn.utils.text import did_you_mean


def add_parsers(commands: Any) -> list[argparse.ArgumentParser]:
    """Add ``settings`` to the command line's subparsers; return its parser in a list."""
    parser = commands.add_parser("settings", help="every setting of a model, with its default")
    parser.set_defaults(handler=run)
    parser.add_argument("model", help="name of a model")
    return [parser]


def run(options: argparse.Namespace) -> int:
    """Print the settings of a model; return 0, the exit status."""
    print("\n".join(describe_settings(options.model)))
    return 0


def describe_settings(model: str) -> list[str]:
    """Describe the settings of a model, one in each line: name, default, type and range, meaning.

    Raises:
        InputError: if there is no such model.
    """
    recbole = _recbole_properties()
    theirs = sorted(file.stem for file in (recbole / "model").glob("*.yaml"))
    if model not in (*our_models(), *theirs):
        raise InputError(
            f"no model is named {model!r}{did_you_mean(model, [*our_models(), *theirs])}"
        )
    if model in our_models():
        own = defaults_of(model)
        comments: dict[str, str] = {}
    else:
        own = read_yaml(recbole / "model" / f"{model}.yaml")
        comments = _comments(recbole / "model" / f"{model}.yaml")
    known = describe(model)
    of_data = read_yaml(recbole / "dataset" / "sample.yaml")
    overall = {
        **read_yaml(recbole / "overall.yaml"),
        **read_yaml(properties_dir() / "overall.yaml"),
        **{key: value for key, value in of_data.items() if key in known},
    }
    comments = {**_comments(recbole / "overall.yaml"), **comments}
    general = {key: value for key, value in overall.items() if key not in own}

    def lines(settings: dict[str, Any]) -> Iterator[str]:
        for key, value in settings.items():
            setting = known.get(key)
            yield _line(key, value, comments.get(key, "") if setting is None else setting)
            for inner in setting.inner if setting else ():
                default = value.get(inner.key) if isinstance(value, dict) else None
                yield _line(f"{key}.{inner.key}", default, inner)

    return [
        f"Settings of {model}, with their defaults. On the command line: --setting=value.",
        "",
        *lines(own),
        "",
        "And of every model:",
        "",
        *lines(general),
    ]


def _line(key: str, value: Any, setting: Setting | str) -> str:
    meaning = setting if isinstance(setting, str) else f"({setting.allowed}) {setting.meaning}"
    shown = "~" if value is None else repr(value) if str(value).isspace() else value
    return f"{key:26} {shown!s:22} {meaning}".rstrip()


def _recbole_properties() -> Path:
    from importlib.util import find_spec

    spec = find_spec("recbole")
    if spec is None or spec.origin is None:
        raise InputError("RecBole is not installed; install this package with its dependencies")
    return Path(spec.origin).parent / "properties"


def _comments(file: Path) -> dict[str, str]:
    """Comments ``key: value  # comment`` in one of RecBole's yaml files, by name of the setting."""
    lines = file.read_text(encoding="utf-8").splitlines()
    found = (re.match(r"(\w+):.*?#\s*(.*)", line) for line in lines)
    return {match[1]: match[2].strip() for match in found if match}
