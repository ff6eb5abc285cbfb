"""The command ``recbole-lightgnn tune``.

Heavy libraries, such as torch, are imported only in `run`.
"""

import argparse
import json
import re
import shlex
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from recbole_lightgnn.cli.options import (
    add_model_flag,
    add_run_options,
    add_seed_flag,
    count,
    minutes,
    with_seed,
)
from recbole_lightgnn.config.files import nested, read_value
from recbole_lightgnn.errors import InputError

_TRIALS = 30  # default number of trials
# A trial prints one line, not a line for every epoch.
_QUIET = {"state": "warning", "show_progress": False}


def add_parsers(commands: Any) -> list[argparse.ArgumentParser]:
    """Add ``tune`` to the subparsers ``commands``; return its parser in a list."""
    tune = commands.add_parser(
        "tune",
        allow_abbrev=False,
        help="search settings by validation",
        description="Search for the settings of a model, RecBole's or ours, with the best "
        "validation score. No test metrics are computed. The same command continues a search; "
        "several processes with the same command share one search.",
        epilog="Settings given as --key=value are fixed, even if the search space contains them.",
    )
    tune.set_defaults(handler=run, takes_settings=True)
    add_model_flag(tune)
    add_run_options(tune)
    add_seed_flag(tune)
    tune.add_argument(
        "--space",
        type=Path,
        metavar="FILE.yaml",
        help="searched settings, with lines `key: {low: , high: }` or `key: {choices: [...]}` "
        "(default: the model's file in properties/space)",
    )
    tune.add_argument(
        "--trials",
        type=count,
        metavar="N",
        help="number of trials of the whole study, failed and stopped ones included (default: "
        f"{_TRIALS}, or no limit if --minutes is given)",
    )
    tune.add_argument(
        "--minutes", type=minutes, metavar="M", help="begin no trial after this time in minutes"
    )
    tune.add_argument(
        "--median-stopping",
        action="store_true",
        help="stop a trial if its best score is worse than the median of the finished trials "
        "after the same epoch; not for models that train several stages",
    )
    tune.add_argument("--study", metavar="NAME", help="name of the study (default: MODEL-DATASET)")
    tune.add_argument(
        "--storage",
        type=Path,
        metavar="FILE",
        help="journal of the study (default: tuning/STUDY.log); the results go to STUDY.json in "
        "the same folder",
    )
    return [tune]


def run(options: argparse.Namespace, settings: Mapping[str, Any]) -> int:
    """Search for the best settings of a model, and print them.

    Args:
        options: flags of the command, as parsed.
        settings: settings given as ``--key=value``; the search does not change them.

    Returns:
        The exit status: 1 if every trial failed, else 0.

    Raises:
        InputError: if an option cannot be used (see `Search`), or if Optuna is not installed.
    """
    if options.study is not None and not re.fullmatch(r"[\w-][\w.-]*", options.study):
        raise InputError(
            f"--study={options.study}: expected letters, digits, `-`, `_` and `.`, as it names "
            "files"
        )
    check_optuna("tune")
    import torch

    from recbole_lightgnn.runs.record import environment
    from recbole_lightgnn.tuning.search import Search
    from recbole_lightgnn.tuning.space import flat, space_file

    given = with_seed(options, flat(nested(settings)))
    config_files = options.config_files.split()
    search = Search(
        options.model,
        options.dataset,
        config_files=config_files,
        settings=_QUIET | given,
        space=space_file(_model(options.model, config_files), options.space),
        name=options.study,
        storage=options.storage,
        environment=lambda device: environment(threads=torch.get_num_threads(), device=device),
        median_stopping=options.median_stopping,
    )
    try:
        print(f"study {search.name} in {search.storage}: searching {', '.join(search.space)}")
        trials = _TRIALS if options.trials is None and options.minutes is None else options.trials
        search.run(trials, options.minutes, lambda trial: print(_line(search, trial), flush=True))
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt("continue with the same command") from stop
    finally:
        search.close()
    return _print_best(search, given, config_files)


def check_optuna(what: str) -> None:
    """Raise InputError if Optuna is not installed; the message says that ``what`` needs it."""
    try:
        import optuna  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != "optuna":
            raise
        raise InputError(
            f"{what} needs Optuna, which is not installed: pip install 'recbole-lightgnn[tune]'"
        ) from error


def _model(given: str | None, config_files: Iterable[str]) -> str:
    """Name of the model, from the command line, the config files or the default."""
    from recbole_lightgnn.quick_start import names

    return names(given, None, config_files)[0]


def _line(search: Any, trial: Any) -> str:
    """One line of text on a trial (a run of the search) that has ended."""
    from recbole_lightgnn.tuning.trial_states import reason_of

    known = trial.user_attrs
    result = reason_of(trial)
    if trial.state.name == "FAIL":
        result = f"failed: {result}"
    elif result is None:
        best = " *" if search.best().number == trial.number else ""
        result = f"{search.metric} {trial.value:.4f}{best}"
    values = ", ".join(f"{key} {_short(value)}" for key, value in known["settings"].items())
    return f"trial {trial.number} [{known['seconds']:.1f}s, {values}] {result}"


def _print_best(search: Any, given: Mapping[str, Any], config_files: list[str]) -> int:
    """Print the best trial and the command that repeats the trial; return the exit status."""
    import yaml

    from recbole_lightgnn.tuning.trial_states import reason_of

    failed, best = search.trials("failed"), search.best()
    if best is None and failed and not search.trials("running"):
        reason = reason_of(failed[-1])
        print(f"error: every trial failed ({len(failed)}); the last: {reason}", file=sys.stderr)
        return 1
    if best is None:
        print(_counts(search))
        return 0
    score = f"validation {search.metric} {best.value}"
    print(f"\n{_counts(search)}; best is trial {best.number}: {score}\n")
    searched = best.user_attrs["settings"]
    print(yaml.safe_dump(nested(searched), sort_keys=False))
    print(_command(search, {**given, **searched}, config_files))
    print(f"\nrecord: {search.record_file}")
    return 0


def _counts(search: Any) -> str:
    """Text with the number of trials in each state (finished, failed, stopped, running)."""
    finished, failed, stopped, running = (
        len(search.trials(state)) for state in ("finished", "failed", "stopped", "running")
    )
    counts = f"{finished} trials finished, {failed} failed"
    if stopped:
        counts += f", {stopped} stopped by the median"
    if running:
        counts += f", {running} running in other processes"
    return counts


def _command(search: Any, settings: Mapping[str, Any], config_files: list[str]) -> str:
    """The command line that trains a model with the given settings."""
    command = ["recbole-lightgnn", "run", f"--model={search.model}", f"--dataset={search.dataset}"]
    if config_files:
        command.append(f"--config_files={' '.join(config_files)}")
    return shlex.join(command + [f"--{key}={_text(value)}" for key, value in settings.items()])


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else _text(value)


def _text(value: Any) -> str:
    """Format a setting's value as on the command line."""
    if isinstance(value, str):
        return value if read_value(value) == value else json.dumps(value)
    if value is None or isinstance(value, bool | int | float):
        return str(value)
    return json.dumps(value)
