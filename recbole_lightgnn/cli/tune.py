"""The command ``recbole-lightgnn tune``.

Heavy libraries are imported only in `run`.
"""

import argparse
import json
import re
import shlex
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from recbole_lightgnn.cli.options import add_run_options, count, minutes
from recbole_lightgnn.config.files import nested, read_value
from recbole_lightgnn.errors import InputError

_TRIALS = 30
# A run tells of every epoch; of a trial, one line is enough.
_QUIET = {"state": "warning", "show_progress": False}


def add_parsers(commands: Any) -> list[argparse.ArgumentParser]:
    """Add ``tune`` to the command line's subparsers; returns its parser in a list."""
    tune = commands.add_parser(
        "tune",
        allow_abbrev=False,
        help="search settings by validation",
        description="Search settings of a model, RecBole's or ours, by its best validation score. "
        "Test interactions are never ranked. The same command continues a search; given several "
        "times at once, it shares one.",
        epilog="Settings given as --key=value are held fixed, also where the space has them.",
    )
    tune.set_defaults(handler=run, takes_settings=True)
    tune.add_argument("--model", "-m", help="name of a model (default: LightGNN)")
    add_run_options(tune)
    tune.add_argument(
        "--space",
        type=Path,
        metavar="FILE.yaml",
        help="what is searched: lines `key: {low: , high: }` or `key: {choices: [...]}` (default: "
        "the model's in properties/space)",
    )
    tune.add_argument(
        "--trials",
        type=count,
        metavar="N",
        help=f"of the whole study, the failed and stopped included (default: {_TRIALS}, or no "
        "bound where --minutes is given)",
    )
    tune.add_argument(
        "--minutes", type=minutes, metavar="M", help="after which no more trials are begun"
    )
    tune.add_argument(
        "--median-stopping",
        action="store_true",
        help="end a trial whose best score is worse than the median of finished ones after the "
        "same epoch: for models of a single stage that train by epochs",
    )
    tune.add_argument("--study", metavar="NAME", help="its name (default: MODEL-DATASET)")
    tune.add_argument(
        "--storage",
        type=Path,
        metavar="FILE",
        help="where it is kept (default: tuning/STUDY.log); beside it go the results, STUDY.json",
    )
    return [tune]


def run(options: argparse.Namespace, settings: Mapping[str, Any]) -> int:
    """Search, and print what was found.

    Args:
        options: what the parser read.
        settings: those given as ``--key=value``.

    Returns:
        The exit status: 1 if every trial failed.

    Raises:
        InputError: as `Search`; or if Optuna is not installed.
    """
    if options.study is not None and not re.fullmatch(r"[\w-][\w.-]*", options.study):
        raise InputError(
            f"--study={options.study}: expected letters, digits, `-`, `_` and `.`, as files have "
            "its name"
        )
    try:
        import optuna  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != "optuna":
            raise
        raise InputError(
            "tune needs Optuna, which is not installed: pip install 'recbole-lightgnn[tune]'"
        ) from error
    import torch

    from recbole_lightgnn.runs.record import environment
    from recbole_lightgnn.tuning.search import Search
    from recbole_lightgnn.tuning.space import flat, space_file

    given = flat(nested(settings))
    if options.seed is not None:
        given["seed"] = read_value(options.seed)
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
        bound = _TRIALS if options.trials is None and options.minutes is None else options.trials
        search.run(bound, options.minutes, lambda trial: print(_line(search, trial), flush=True))
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt("continue with the same command") from stop
    finally:
        search.close()
    return _tell(search, given, config_files)


def _model(given: str | None, config_files: Iterable[str]) -> str:
    """The model's name as a run would find it."""
    from recbole_lightgnn.quick_start import names

    return names(given, None, config_files)[0]


def _line(search: Any, trial: Any) -> str:
    """A trial that is over in a line."""
    from recbole_lightgnn.tuning.search import reason_of

    known = trial.user_attrs
    result = reason_of(trial)
    if trial.state.name == "FAIL":
        result = f"failed: {result}"
    elif result is None:
        best = " *" if search.best().number == trial.number else ""
        result = f"{search.metric} {trial.value:.4f}{best}"
    values = ", ".join(f"{key} {_short(value)}" for key, value in known["settings"].items())
    return f"trial {trial.number} [{known['seconds']:.1f}s, {values}] {result}"


def _tell(search: Any, given: Mapping[str, Any], config_files: list[str]) -> int:
    """Print the best trial, or why there is none."""
    from recbole_lightgnn.tuning.search import reason_of

    finished, failed = search.trials("finished"), search.trials("failed")
    stopped, others = len(search.trials("stopped")), len(search.trials("running"))
    counts = f"{len(finished)} trials finished, {len(failed)} failed"
    if stopped:
        counts += f", {stopped} stopped by the median"
    if others:
        counts += f", {others} under way in other processes"
    if not finished:
        if failed and not others:
            reason = reason_of(failed[-1])
            print(f"error: every trial failed ({len(failed)}); the last: {reason}", file=sys.stderr)
            return 1
        print(counts)
        return 0
    best = search.best()
    chosen = best.user_attrs["settings"]
    command = ["recbole-lightgnn", "run", f"--model={search.model}", f"--dataset={search.dataset}"]
    if config_files:
        command.append(f"--config_files={' '.join(config_files)}")
    command += [f"--{key}={_text(value)}" for key, value in {**given, **chosen}.items()]
    print(f"\n{counts}; best is trial {best.number}: validation {search.metric} {best.value}\n")
    import yaml

    print(yaml.safe_dump(nested(chosen), sort_keys=False))
    print(shlex.join(command))
    print(f"\nrecord: {search.record_file}")
    return 0


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else _text(value)


def _text(value: Any) -> str:
    """A value as the command line reads it."""
    if isinstance(value, str):
        return value if read_value(value) == value else json.dumps(value)
    if value is None or isinstance(value, bool | int | float):
        return str(value)
    return json.dumps(value)
