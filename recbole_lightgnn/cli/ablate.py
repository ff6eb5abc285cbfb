"""The command ``recbole-lightgnn ablate``.

Heavy libraries are imported only in `run`.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole_lightgnn.cli.options import add_run_options
from recbole_lightgnn.config.files import properties_dir, read_value


def add_parsers(commands: Any) -> list[argparse.ArgumentParser]:
    """Add ``ablate`` to the command line's subparsers; returns its parser in a list."""
    ablate = commands.add_parser(
        "ablate",
        allow_abbrev=False,
        help="LightGNN with one ingredient changed at a time",
        description="Train LightGNN as it is and with one ingredient changed at a time, through "
        "every pruning run. What a variant leaves alone is trained once. The same command goes on "
        "with a study that was stopped.",
        epilog="Settings given as --key=value hold for every variant.",
    )
    ablate.set_defaults(handler=run, takes_settings=True)
    add_run_options(ablate)
    ablate.add_argument(
        "--variants",
        type=Path,
        metavar="FILE.yaml",
        help="lines `name: {setting: value}` (default: properties/study/ablation.yaml)",
    )
    ablate.add_argument("--only", default="", metavar="NAME,NAME", help="some of them")
    ablate.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="where to keep it"
    )
    return [ablate]


def run(options: argparse.Namespace, settings: Mapping[str, Any]) -> int:
    """``recbole-lightgnn ablate``. Returns the exit status: 1 if a variant failed."""
    from recbole_lightgnn.tuning.ablation import (
        RESULTS_FILE,
        Ablation,
        compact,
        markdown,
        read_variants,
    )
    from recbole_lightgnn.utils.files import write_json

    given = {**settings} if options.seed is None else {**settings, "seed": read_value(options.seed)}
    only = [name.strip() for name in options.only.split(",") if name.strip()]
    file = options.variants or properties_dir() / "study" / "ablation.yaml"
    study = Ablation(
        options.dataset,
        config_files=options.config_files.split(),
        settings=given,
        variants=read_variants(file, only),
        out=options.out,
    )
    try:
        failed = study.run(lambda line: print(line, flush=True))
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt("continue with the same command") from stop
    finally:
        if results := compact(study.results()):
            write_json(options.out / RESULTS_FILE, results)
    print(markdown(results, "valid"), markdown(results, "test"), sep="\n\n")
    for name, reason in failed.items():
        print(f"{name} failed: {reason}", file=sys.stderr)
    return 1 if failed else 0
