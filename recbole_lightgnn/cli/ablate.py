"""The command ``recbole-lightgnn ablate``.

Heavy libraries, such as torch, are imported only in `run`.
"""

import argparse
import sys
from collections.abc import Mapping
from typing import Any

from recbole_lightgnn.cli.options import (
    add_out_flag,
    add_run_options,
    add_seed_flag,
    add_variants_flag,
    with_seed,
)
from recbole_lightgnn.registry import properties_dir

_VARIANTS = "ablation.yaml"


def add_parsers(commands: Any) -> list[argparse.ArgumentParser]:
    """Add ``ablate`` to the subparsers ``commands``; return its parser in a list."""
    ablate = commands.add_parser(
        "ablate",
        allow_abbrev=False,
        help="LightGNN with one ingredient changed at a time",
        description="Train LightGNN as it is and with one ingredient changed at a time, through "
        "all pruning runs. Stages that a variant does not change are trained once. The same "
        "command continues a study that was stopped.",
        epilog="Settings given as --key=value hold for every variant.",
    )
    ablate.set_defaults(handler=run, takes_settings=True)
    add_run_options(ablate)
    add_seed_flag(ablate)
    add_variants_flag(ablate, "name: {setting: value}", _VARIANTS)
    ablate.add_argument(
        "--only", default="", metavar="NAME,NAME", help="run these variants (default: all)"
    )
    add_out_flag(ablate)
    return [ablate]


def run(options: argparse.Namespace, settings: Mapping[str, Any]) -> int:
    """Run all unfinished variants of an ablation, and print the results.

    Args:
        options: flags of the command, as parsed.
        settings: settings given as ``--key=value``.

    Returns:
        The exit status: 1 if a variant failed, else 0.

    Raises:
        InputError: if a setting, a variant or the folder cannot be used; see `Ablation`.
    """
    from recbole_lightgnn.tuning.ablation import (
        RESULTS_FILE,
        Ablation,
        compact,
        markdown,
        read_variants,
    )
    from recbole_lightgnn.utils.files import write_json

    only = [name.strip() for name in options.only.split(",") if name.strip()]
    file = options.variants or properties_dir() / "study" / _VARIANTS
    study = Ablation(
        options.dataset,
        config_files=options.config_files.split(),
        settings=with_seed(options, settings),
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
