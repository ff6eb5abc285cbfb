"""The command line: ``recbole-lightgnn run | tune | ablate | compare | export | ...``.

Nothing heavy is imported before the arguments have been read.
"""

import argparse
import itertools
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from recbole_lightgnn import __version__
from recbole_lightgnn.cli import ablate as ablate_command
from recbole_lightgnn.cli import bench as bench_command
from recbole_lightgnn.cli import compare as compare_command
from recbole_lightgnn.cli import data as data_command
from recbole_lightgnn.cli import export as export_command
from recbole_lightgnn.cli import imports as import_command
from recbole_lightgnn.cli import recommend as serving_command
from recbole_lightgnn.cli import report as report_command
from recbole_lightgnn.cli import serve as service_command
from recbole_lightgnn.cli import tune as tune_command
from recbole_lightgnn.config.schema import (
    Setting,
    defaults_of,
    did_you_mean,
    our_models,
    properties_dir,
    read_value,
    read_yaml,
    recipes,
    table_of,
)
from recbole_lightgnn.errors import InputError

# What is no setting of the commands that take settings.
_FLAGS = {
    "run": "model dataset config_files resume result_file debug nproc world_size ip port "
    "group_offset",
    "tune": tune_command.FLAGS,
    "ablate": ablate_command.FLAGS,
    "compare": compare_command.FLAGS,
}


class _Parser(argparse.ArgumentParser):
    """argparse, but a wrong command is an InputError: one line, without the usage before it."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (see `{self.prog} --help`)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the arguments; by default the process's own.

    Returns:
        The exit status: 0, 2 for bad input (one line ``error: ...`` on standard error), 1 for an
        error of ours (one line ``internal error: ...``), where ``data check`` finds errors and
        where every trial of ``tune`` failed, 130 when interrupted. With ``--debug`` a traceback
        comes first.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    try:
        return _dispatch([argument for argument in arguments if argument != "--debug"])
    except InputError as error:
        return _fail(f"error: {error}", 2, debug)
    except KeyboardInterrupt as stop:
        run_dir = getattr(stop, "run_dir", None)
        hint = f"; continue with the same command and --resume={run_dir}" if run_dir else ""
        hint = f"; {stop}" if str(stop) else hint
        return _fail(f"interrupted{hint}", 130, debug)
    except BrokenPipeError:  # `... | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # the last resort: no traceback unless asked for
        message = f"internal error: {type(error).__name__}: {error}"
        return _fail(f"{message} (run with --debug for the traceback)", 1, debug)


def _fail(message: str, status: int, debug: bool) -> int:
    if debug:
        import traceback

        traceback.print_exc()
    print(" ".join(message.split()), file=sys.stderr)
    return status


def _dispatch(arguments: list[str]) -> int:
    # RecBole's way: any setting as --key=value. They are taken out before argparse sees them.
    command, settings = arguments[0] if arguments else "", []
    if flags := _FLAGS.get(command):
        known = set(flags.split())
        settings = [
            a for a in arguments if (m := re.match(r"--([\w.-]+)=", a)) and m[1] not in known
        ]
        arguments = [a for a in arguments if a not in settings]
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    if rest:
        raise InputError(_explain(rest[0]))
    if options.command == "run":
        return _run(options, settings)
    if options.command == "tune":
        return _tune(options, settings)
    if options.command == "ablate":
        return ablate_command.run(options, _read_settings(settings))
    if options.command == "compare":
        return compare_command.run(
            options, _read_settings(settings), report=report_command.of_comparison
        )
    if options.command == "settings":
        return _settings(options.model)
    if options.command == "import":
        return import_command.run(options)
    if options.command == "data":
        return data_command.run(options)
    if options.command in ("export", "explain"):
        return export_command.run(options)
    if options.command == "recommend":
        return serving_command.run(options)
    if options.command == "serve":
        return service_command.run(options)
    if options.command == "bench":
        return _bench(options)
    if options.command == "report":
        return report_command.run(options)
    print(f"recbole-lightgnn {__version__}")
    return 0


def _explain(argument: str) -> str:
    if argument.startswith("--"):
        return f"{argument}: settings are written {argument.split('=')[0]}=VALUE, with the `=`"
    return f"unexpected argument {argument!r}; settings are written --key=value"


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="recbole-lightgnn", description="LightGNN as a plugin of RecBole.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    run = commands.add_parser(
        "run",
        allow_abbrev=False,
        help="train, test and record a model",
        description="Train a model, RecBole's or ours, and test what validation chose.",
        epilog="Any other setting is given as --key=value (YAML), e.g. --epochs=5 --recipe=paper "
        "--teacher_settings.n_layers=8; `recbole-lightgnn settings MODEL` lists them.",
    )
    run.add_argument("--model", "-m", help="name of a model (default: LightGNN)")
    run.add_argument("--dataset", "-d", help="name of a dataset (default: ml-100k)")
    run.add_argument("--config_files", default="", help="yaml files, parted by spaces")
    run.add_argument(
        "--resume",
        nargs="?",
        const=True,
        metavar="FOLDER",
        help="continue an interrupted run: its run folder, or the latest",
    )
    run.add_argument("--result_file", help="where the JSON record goes")
    for flag in ("nproc", "world_size", "ip", "port", "group_offset"):
        run.add_argument(f"--{flag}", help=argparse.SUPPRESS)

    tune = tune_command.add_parser(commands)
    ablate = ablate_command.add_parser(commands)
    compare = compare_command.add_parser(commands)

    settings = commands.add_parser("settings", help="every setting of a model, with its default")
    settings.add_argument("model", help="name of a model")

    imports = import_command.add_parsers(commands)
    data = data_command.add_parsers(commands)

    exports = export_command.add_parsers(commands)
    servings = [*serving_command.add_parsers(commands), service_command.add_parser(commands)]
    benches = bench_command.add_parsers(commands)
    report = report_command.add_parser(commands)

    version = commands.add_parser("version", help="print the version")
    groups = (imports, data, exports, servings, benches)
    single = (run, tune, ablate, compare, settings, version, report)
    for command in itertools.chain(single, *groups):
        command.add_argument("--debug", action="store_true", help="show tracebacks")
    return parser


# --- run ------------------------------------------------------------------------------------


def _run(options: argparse.Namespace, arguments: list[str]) -> int:
    for flag in ("nproc", "world_size"):
        if (getattr(options, flag) or "1") not in ("1", "-1"):
            raise InputError(
                f"--{flag}={getattr(options, flag)}: more than one process is not supported yet; "
                f"leave --{flag} out"
            )
    settings = _read_settings(arguments)

    from recbole_lightgnn.quick_start import run  # only now: it loads torch and RecBole

    record = run(
        options.model,
        options.dataset,
        config_files=options.config_files.split(),
        settings=settings,
        resume=options.resume,
        result_file=options.result_file,
    )
    print(results_table(record["rows"]))
    print(f"record: {record['result_file']}")
    return 0


def _read_settings(arguments: list[str]) -> dict[str, Any]:
    import yaml

    settings: dict[str, Any] = {}
    for argument in arguments:
        key, _, text = argument[2:].partition("=")
        try:
            value = read_value(text)
        except yaml.YAMLError as error:
            raise InputError(f"--{key}: {text!r} is not YAML") from error
        if key in settings and settings[key] != value:
            raise InputError(f"--{key} is given twice: {settings[key]!r} and {value!r}")
        settings[key] = value
    return settings


def results_table(rows: Sequence[dict[str, Any]]) -> str:
    """One line per stage and pruning run: what is kept, and the metrics it is judged by."""
    names = list(rows[-1]["test"])
    shown = [n for n in ("recall@20", "ndcg@20") if n in names] or names[:2]
    head = ["stage", "run", "epochs", "seconds", "interactions", "kept", "entries", "kept", "bytes"]
    head += [f"{split} {name}" for split in ("valid", "test") for name in shown]
    keys = ["stage", "run", "epochs", "seconds", "interactions", "interactions_kept"]
    keys += ["entries", "entries_kept", "bytes"]
    lines = [head]
    for row in rows:
        cells = [_cell(row.get(key), ".3f" if key.endswith("_kept") else ".1f") for key in keys]
        for split in ("valid", "test"):
            cells += [_cell((row.get(split) or {}).get(name), ".4f") for name in shown]
        lines.append(cells)
    return _aligned(lines)


def _cell(value: Any, form: str) -> str:
    if value is None:
        return "-"
    return format(value, form) if isinstance(value, float) else str(value)


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = ("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) for line in lines)
    return "\n".join(line.rstrip() for line in padded)


# --- tune -----------------------------------------------------------------------------------


def _tune(options: argparse.Namespace, arguments: list[str]) -> int:
    settings = _read_settings(arguments)

    import torch

    from recbole_lightgnn.runs.record import environment

    return tune_command.run(
        options,
        settings,
        environment=lambda device: environment(threads=torch.get_num_threads(), device=device),
    )


# --- bench ----------------------------------------------------------------------------------


def _bench(options: argparse.Namespace) -> int:
    import torch

    from recbole_lightgnn.runs.record import environment

    return bench_command.run(
        options,
        import_table=import_table,
        environment=lambda: environment(threads=torch.get_num_threads(), device="cpu"),
    )


def import_table(table: Path, name: str, out: Path, overwrite: bool) -> Path:
    """As `recbole_lightgnn.data.pairs.import_pairs`, which is loaded only now."""
    from recbole_lightgnn.data.pairs import import_pairs

    return import_pairs(table, name, out, overwrite)


# --- settings -------------------------------------------------------------------------------


def _settings(model: str) -> int:
    print("\n".join(describe_settings(model)))
    return 0


def describe_settings(model: str) -> list[str]:
    """Lines with every setting of a model: key, default, meaning, range. RecBole is not loaded.

    Raises:
        InputError: if there is no such model.
    """
    recbole = _recbole_properties()
    theirs = sorted(file.stem for file in (recbole / "model").glob("*.yaml"))
    if model not in (*our_models(), *theirs):
        raise InputError(f"no model is named {model!r}{did_you_mean(model, our_models() + theirs)}")
    if model in our_models():
        own = defaults_of(model)
        comments: dict[str, str] = {}
    else:
        own = read_yaml(recbole / "model" / f"{model}.yaml")
        comments = _comments(recbole / "model" / f"{model}.yaml")
    overall = {
        **read_yaml(recbole / "overall.yaml"),
        **read_yaml(properties_dir() / "overall.yaml"),
    }
    comments = {**_comments(recbole / "overall.yaml"), **comments}
    general = {key: value for key, value in overall.items() if key not in own}
    described = []
    for key, value in [*own.items(), *general.items()]:
        row = table_of(model).get(key)
        meaning = comments.get(key, "") if row is None else f"{row.meaning}: {_allowed(row)}"
        described.append(f"{key:26} {'~' if value is None else value!s:22} {meaning}".rstrip())
    return [
        f"Settings of {model}, with their defaults. On the command line: --setting=value.",
        "",
        *described[: len(own)],
        "",
        "And of every model:",
        "",
        *described[len(own) :],
    ]


def _allowed(row: Setting) -> str:
    if row.key == "recipe":
        return " | ".join(recipes())
    if row.type in ("int", "float", "ints"):
        return f"{row.type} in {row.allowed}"
    return row.allowed or row.type


def _recbole_properties() -> Path:
    from importlib.util import find_spec

    spec = find_spec("recbole")
    if spec is None or spec.origin is None:
        raise InputError("RecBole is not installed; install this package with its dependencies")
    return Path(spec.origin).parent / "properties"


def _comments(file: Path) -> dict[str, str]:
    """``key: value  # (type) meaning`` of RecBole's yaml, as key -> comment."""
    lines = file.read_text(encoding="utf-8").splitlines()
    found = (re.match(r"(\w+):.*?#\s*(.*)", line) for line in lines)
    return {match[1]: match[2].strip() for match in found if match}


if __name__ == "__main__":
    sys.exit(main())
