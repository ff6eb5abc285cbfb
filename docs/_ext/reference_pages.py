"""The pages of reference that are made from the code: settings, commands, Python API."""

from __future__ import annotations

import argparse
import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recbole_lightgnn.cli import main as command_line
from recbole_lightgnn.comparison.families import FAMILIES, models_by_family
from recbole_lightgnn.config import aliases
from recbole_lightgnn.config.files import defaults_of, nested, read_yaml, recipes
from recbole_lightgnn.config.schema import Setting, describe, read_settings
from recbole_lightgnn.registry import STAGES, our_models, properties_dir

_PACKAGE = Path(command_line.__file__).resolve().parents[1]
# Packages on the pages of the Python API, in the order of the layers.
_PACKAGES = {
    "": "one call that trains, tests and records; export; names of models; errors",
    "serving": "exported models, with NumPy alone",
    "losses": "one function per equation",
    "nn": "graph, propagation, prunable embeddings, pruning",
    "ops": "sparse products over a fixed pattern",
    "models": "teacher, intermediate and student",
    "baselines": "models that RecBole lacks, one file each",
    "config": "settings: yaml files, schema, validation",
    "data": "importers, atomic files, loaders, fingerprints",
    "runs": "the files of a run: writing and reading them",
    "trainer": "the stages, training, full ranking, resume",
    "integration": "changes to RecBole itself",
    "comparison": "models under one protocol: plan, runs, tables, figures, page",
    "tuning": "searches of settings, and ablations",
    "studies": "the paper's experiments: statistics, tables and figures",
    "service": "an exported model over HTTP",
    "utils": "files, compiled loops, memory, text",
}


def fragments() -> Iterator[tuple[str, str]]:
    """Name and Markdown of each fragment that a page includes."""
    yield "settings.md", _settings()
    yield "old-names.md", _old_names()
    yield "commands.md", _commands()
    yield "families.md", _families()


# --- settings -----------------------------------------------------------------------------------


def _settings() -> str:
    general = _general()
    defaults = {
        **_recbole_defaults(),
        **read_yaml(properties_dir() / "overall.yaml"),
    }
    parts = ["## Every model", "", *_table(general, defaults), ""]
    models = [*reversed(STAGES), *(name for name in our_models() if name not in STAGES)]
    for model in models:
        own = defaults_of(model)
        known = describe(model)
        parts += [f"## {model}", "", f"{{py:obj}}`{_class_of(model)}`", ""]
        parts += [*_table({key: known[key] for key in own if key in known}, own), ""]
    for recipe in recipes():
        if recipe != "default":
            parts += [f"## Recipe `{recipe}`", "", *_recipe(recipe), ""]
    return "\n".join(parts)


def _class_of(model: str) -> str:
    return our_models()[model].replace(":", ".")


def _general() -> dict[str, Setting]:
    files = (properties_dir() / "overall.yaml", properties_dir() / "recbole.yaml")
    return {key: one for file in files for key, one in read_settings(file).items()}


def _recbole_defaults() -> dict[str, Any]:
    from importlib.util import find_spec

    spec = find_spec("recbole")
    if spec is None or spec.origin is None:
        return {}
    folder = Path(spec.origin).parent / "properties"
    return {**read_yaml(folder / "dataset" / "sample.yaml"), **read_yaml(folder / "overall.yaml")}


def _table(settings: dict[str, Setting], defaults: dict[str, Any]) -> list[str]:
    lines = ["| setting | default | allowed | meaning |", "|---|---|---|---|"]
    for key, setting in settings.items():
        default = defaults.get(key)
        lines.append(_row(key, default, setting))
        for inner in setting.inner:
            own = default.get(inner.key) if isinstance(default, dict) else None
            lines.append(_row(f"{key}.{inner.key}", own, inner))
    return ["{.wrapped}", *lines]


def _row(key: str, default: Any, setting: Setting) -> str:
    cells = [f"`{key}`", f"`{_value(default)}`", setting.allowed, setting.meaning]
    return "| " + " | ".join(_cell(cell) for cell in cells) + " |"


def _recipe(name: str) -> list[str]:
    lines = ["| setting | value |", "|---|---|"]
    for key, value in _flat(nested(read_yaml(properties_dir() / "recipe" / f"{name}.yaml"))):
        lines.append(f"| `{key}` | `{_value(value)}` |")
    return [f"What `--recipe={name}` changes:", "", *lines]


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _value(value: Any) -> str:
    return "empty" if value is None else repr(value) if str(value).isspace() else str(value)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _old_names() -> str:
    lines = ["| old | new |", "|---|---|"]
    lines += [f"| `{old}` | `{new}` |" for old, new in aliases.SETTINGS.items()]
    for key, values in aliases.VALUES.items():
        lines += [f"| `{key}: {old}` | `{key}: {new}` |" for old, new in values.items()]
    return "\n".join(lines) + "\n"


def _families() -> str:
    models = models_by_family()
    lines = [
        f"| {name} | {what} | {', '.join(f'`{model}`' for model in models[name])} |"
        for name, what in FAMILIES.items()
    ]
    head = ["{.wrapped}", "| family | what its models have in common | models |", "|---|---|---|"]
    return "\n".join([*head, *lines]) + "\n"


# --- commands -----------------------------------------------------------------------------------


def _commands() -> str:
    parser, _ = command_line._parser()
    parts: list[str] = []
    for name, child, summary in _subcommands(parser):
        parts += _command(f"recbole-lightgnn {name}", child, summary, level=2)
    return "\n".join(parts)


def _command(name: str, parser: argparse.ArgumentParser, summary: str, level: int) -> Iterator[str]:
    yield from ("#" * level + f" `{name}`", "", _sentence(parser.description or summary), "")
    if children := list(_subcommands(parser)):
        for child_name, child, child_summary in children:
            yield from _command(f"{name} {child_name}", child, child_summary, level + 1)
        return
    usage = " ".join(parser.format_usage().removeprefix("usage: ").split())
    yield from ("```text", usage, "```", "")
    shown = [
        action
        for action in parser._actions
        if action.help != argparse.SUPPRESS and "--help" not in action.option_strings
    ]
    yield from ("{.wrapped}", "| argument | meaning |", "|---|---|")
    for action in shown:
        yield f"| {_argument(action)} | {_meaning(action, parser)} |"
    yield ""
    if parser.epilog:
        yield from (_sentence(parser.epilog), "")


def _subcommands(
    parser: argparse.ArgumentParser,
) -> Iterator[tuple[str, argparse.ArgumentParser, str]]:
    """Name, parser and line of help of each command below a parser."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for choice in action._choices_actions:
                yield choice.dest, action.choices[choice.dest], choice.help or ""


def _argument(action: argparse.Action) -> str:
    names: list[str] = list(action.option_strings)
    value = str(action.metavar or action.dest.upper())
    if action.choices and not action.metavar:
        value = "{" + ",".join(map(str, action.choices)) + "}"
    if not names:
        return f"`{_cell(value)}`"
    if action.nargs != 0:
        names = [f"{name} {value}" for name in names]
    return ", ".join(f"`{_cell(name)}`" for name in names)


def _meaning(action: argparse.Action, parser: argparse.ArgumentParser) -> str:
    text = (action.help or "") % {**vars(action), "prog": parser.prog}
    if action.required and action.option_strings:
        text += " (required)"
    return _cell(_sentence(text))


def _sentence(text: str) -> str:
    text = " ".join(text.split())
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", ":")) else ".")


# --- Python API ---------------------------------------------------------------------------------


def api_pages() -> Iterator[tuple[str, str]]:
    """A page for each package, with every public module in it."""
    for package, purpose in _PACKAGES.items():
        name = ".".join(filter(None, ("recbole_lightgnn", package)))
        folder = _PACKAGE / package
        modules = [file.stem for file in sorted(folder.glob("*.py")) if file.stem[0] != "_"]
        parts = [f"# `{name}`", "", _sentence(purpose), ""]
        if not package or _has_content(folder / "__init__.py"):
            parts += _automodule(name, "The package itself")
        for module in modules:
            parts += _automodule(f"{name}.{module}", f"`{module}`")
        yield f"{package or 'package'}.md", "\n".join(parts)


def _automodule(module: str, title: str) -> list[str]:
    return [f"## {title}", "", "```{eval-rst}", f".. automodule:: {module}", "```", ""]


def _has_content(file: Path) -> bool:
    """Whether a package's own file defines or imports anything."""
    body = ast.parse(file.read_text(encoding="utf-8")).body
    return any(not isinstance(node, ast.Expr) for node in body)
