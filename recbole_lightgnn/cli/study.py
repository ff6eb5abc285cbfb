"""The command ``recbole-lightgnn study``.

Heavy libraries, such as torch, are imported only in `run`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recbole_lightgnn.cli.compare import seeds
from recbole_lightgnn.cli.options import count
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.utils.text import must_be_one_of

if TYPE_CHECKING:
    from recbole_lightgnn.studies.place import Place

_ALL, _LIST = "all", "list"


def add_parsers(commands: Any) -> list[argparse.ArgumentParser]:
    """Add ``study`` to the subparsers ``commands``; return its parser in a list."""
    study = commands.add_parser(
        "study",
        allow_abbrev=False,
        help="make an experiment of the LightGNN paper again",
        description="Train what a study needs, and write its numbers, tables and figures. The same "
        "command continues after an interruption. Studies in one folder share their runs.",
        epilog="--key=value changes a setting of every model, --MODEL.key=value of one model.",
    )
    study.set_defaults(handler=run, takes_settings=True)
    study.add_argument(
        "name", metavar="NAME", help="name of a study, `all` for every one, `list` to list them"
    )
    study.add_argument("--dataset", "-d", metavar="NAME", help="name of a dataset")
    study.add_argument(
        "--out", type=Path, metavar="FOLDER", help="folder of the runs, tables and figures"
    )
    study.add_argument(
        "--seeds", type=seeds, default=[1], metavar="1,2,...", help="seeds of the runs (default: 1)"
    )
    study.add_argument(
        "--jobs", type=count, default=1, metavar="N", help="number of runs at a time (default: 1)"
    )
    study.add_argument(
        "--comparison",
        type=Path,
        metavar="FOLDER",
        help="use and continue the runs of this comparison (default: `comparison` in --out)",
    )
    return [study]


def run(options: argparse.Namespace, settings: Mapping[str, Any]) -> int:
    """Make one study, or all; print findings and tables.

    Args:
        options: flags of the command, as parsed.
        settings: settings given as ``--key=value``.

    Returns:
        The exit status: 1 if a run of ``all`` failed, else 0.

    Raises:
        InputError: if a study, dataset, setting or folder cannot be used, or a run failed.
    """
    from recbole_lightgnn.studies.catalogue import STUDIES
    from recbole_lightgnn.studies.place import COMPARED, Place, Unsuitable
    from recbole_lightgnn.studies.report import PAGE
    from recbole_lightgnn.utils.files import check_matplotlib

    if options.name == _LIST:
        print(_catalogue())
        return 0
    must_be_one_of("NAME", options.name, [*STUDIES, _ALL, _LIST])
    for flag in ("dataset", "out"):
        if getattr(options, flag) is None:
            raise InputError(f"`study {options.name}` needs --{flag}")
    check_matplotlib("study")
    _check_out(options.out, options.dataset)
    place = Place(
        dataset=options.dataset,
        seeds=options.seeds,
        out=options.out,
        jobs=options.jobs,
        given=dict(settings),
        shared=options.comparison or options.out / COMPARED,
    )
    place.check()
    if options.name == _ALL:
        _train_together(place)
    skipped: list[str] = []
    failed: list[str] = []
    for name in STUDIES if options.name == _ALL else [options.name]:
        try:
            print(_made(name, place, _command(name, options, settings)))
        except InputError as reason:
            if options.name != _ALL:
                raise
            (skipped if isinstance(reason, Unsuitable) else failed).append(f"{name}: {reason}")
    for line in skipped:
        print(f"left out: {line}")
    for line in failed:
        print(f"error: {line}", file=sys.stderr)
    if (page := options.out / PAGE).is_file():
        print(f"page: {page}")
    return 1 if failed else 0


def _train_together(place: Place) -> None:
    """Train the runs that the studies share at once, so that ``--jobs`` of them are at work.

    A failed run is reported by the study that needs it.
    """
    from recbole_lightgnn.studies.catalogue import STUDIES
    from recbole_lightgnn.studies.place import Unfinished

    models: dict[str, None] = {}
    variants: dict[str, Any] = {}
    for study in STUDIES.values():
        names, changed = study.module.shared_runs()
        models |= dict.fromkeys(names)
        variants |= changed
    with contextlib.suppress(Unfinished):
        place.train(list(models), variants)


def _check_out(out: Path, dataset: str) -> None:
    """Raise InputError if the folder has studies of another dataset, or other files."""
    from recbole_lightgnn.studies.catalogue import STUDIES
    from recbole_lightgnn.studies.place import ABLATION, COMPARED
    from recbole_lightgnn.utils.files import check_folder, read_json

    check_folder("--out", out, out)
    files = {file.name for file in out.iterdir()} if out.is_dir() else set()
    ours = {COMPARED, ABLATION, *(f"{name}.json" for name in STUDIES)}
    if files and not files & ours and not any(name.startswith("noise-") for name in files):
        raise InputError(f"--out {out} has files, but none of a study: name a new folder")
    for name in STUDIES:
        content = read_json(out / f"{name}.json")
        other = content.get("dataset", dataset) if isinstance(content, dict) else dataset
        if other != dataset:
            raise InputError(
                f"--out {out} has studies of {other}, not of {dataset}: name another --out"
            )


def _made(name: str, place: Place, command: str) -> str:
    """Make a study; return its findings and tables as Markdown."""
    import torch

    from recbole_lightgnn.runs.record import environment
    from recbole_lightgnn.studies.catalogue import STUDIES
    from recbole_lightgnn.studies.report import write_study

    study = STUDIES[name]
    print(f"study {name}: {study.question}", flush=True)
    facts = {
        "study": name,
        "dataset": place.dataset,
        "seeds": place.seeds,
        "command": command,
        "environment": environment(threads=torch.get_num_threads(), device="cpu"),
    }
    try:
        content = {**facts, **study.module.measure(place)}
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt("continue with the same command") from stop
    return write_study(study, content, place.out)


def _command(name: str, options: argparse.Namespace, settings: Mapping[str, Any]) -> str:
    """The command that makes the study again, without --out, --jobs and --comparison."""
    parts = ["recbole-lightgnn", "study", name, "--dataset", options.dataset]
    parts += ["--seeds", ",".join(map(str, options.seeds))]
    parts += [f"--{key}={json.dumps(value)}" for key, value in settings.items()]
    return shlex.join(parts)


def _catalogue() -> str:
    """The names of all studies, and what each asks, needs and makes again."""
    from recbole_lightgnn.studies.catalogue import STUDIES

    lines = []
    for study in STUDIES.values():
        lines += [f"{study.name}: {study.question}", f"  paper: {study.paper}"]
        lines += [f"  trains: {study.needs}", f"  cost: {study.runs} runs for each seed"]
    return "\n".join(lines)
