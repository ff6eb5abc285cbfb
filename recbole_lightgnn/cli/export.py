"""The commands ``recbole-lightgnn export RUN`` and ``explain RUN``.

Heavy libraries are imported only in the functions that run.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole_lightgnn.cli.options import add_key_flag, read_secret
from recbole_lightgnn.errors import InputError


def add_parsers(commands: Any) -> list[argparse.ArgumentParser]:
    """Add both to the command line's subparsers; returns the parsers."""
    export = commands.add_parser("export", help="a trained model as one small file that serves")
    export.add_argument(
        "run", type=Path, metavar="RUN", help="folder of a run (saved/LightGNN-...)"
    )
    export.add_argument("--out", type=Path, required=True, metavar="FILE", help="where it goes")
    export.add_argument(
        "--row", metavar="KEY", help="which model, such as student-05 (default: the last student)"
    )
    export.add_argument(
        "--values",
        choices=("float32", "float16", "int8"),
        default="float32",
        help="what entries and weights are stored as (default: float32, exact)",
    )
    export.add_argument(
        "--ids",
        choices=("tokens", "hashed", "none"),
        default="tokens",
        help="what users and items are called: as in the dataset, hashed with --key, or numbers",
    )
    add_key_flag(export)
    export.add_argument(
        "--form",
        choices=("graph", "final"),
        help="entries and edges, or final embeddings (default: whichever is smaller)",
    )
    export.add_argument(
        "--seen",
        choices=("kept", "all", "none"),
        default="kept",
        help="interactions in the file: what pruning kept, all, or none (form final only)",
    )
    explain = commands.add_parser("explain", help="why a user is recommended what it is")
    explain.add_argument(
        "run", type=Path, metavar="RUN", help="folder of a run; or a model that `export` wrote"
    )
    explain.add_argument("--user", required=True, metavar="TOKEN", help="whom it is recommended to")
    explain.add_argument("--item", metavar="TOKEN", help="what (default: the --k best)")
    explain.add_argument("--k", type=int, default=5, metavar="N", help="how many (default: 5)")
    explain.add_argument("--row", metavar="KEY", help="which student of a run (default: the last)")
    explain.add_argument("--json", action="store_true", help="print JSON instead, with every part")
    add_key_flag(explain)
    export.set_defaults(handler=_export)
    explain.set_defaults(handler=_explain)
    return [export, explain]


def _explain(options: argparse.Namespace) -> int:
    from recbole_lightgnn.serving.explaining import explained_scores, lines
    from recbole_lightgnn.serving.recommender import Recommender

    asked = options.user, options.item, options.k
    if options.run.is_dir():
        from recbole_lightgnn.export import served_model
        from recbole_lightgnn.runs.finished_run import TrainedRun
        from recbole_lightgnn.runs.history import history

        trained = TrainedRun(options.run)
        key = trained.row(options.row)["key"]
        recommender = Recommender(served_model(trained, key, form="graph"))
        scores = explained_scores(recommender, *asked)
        explained = {"interactions": history(trained, key, options.user), "scores": scores}
    else:
        if options.row is not None:
            raise InputError(f"--row is of a run's folder, and {options.run} is none")
        recommender = Recommender.load(options.run, read_secret(options.key))
        explained = {"scores": explained_scores(recommender, *asked)}
    if options.json:
        print(json.dumps(explained, indent=2, allow_nan=False))
    else:
        print("\n".join(lines(explained)))
    return 0


def _export(options: argparse.Namespace) -> int:
    from recbole_lightgnn.export import export
    from recbole_lightgnn.runs.finished_run import TrainedRun

    result = export(
        TrainedRun(options.run),
        options.out,
        row=options.row,
        values=options.values,
        ids=options.ids,
        secret=read_secret(options.key),
        form=options.form,
        seen=options.seen,
    )
    print(text(result))
    print(f"model: {options.out}")
    return 0


def text(result: Mapping[str, Any]) -> str:
    """What an export came to, for reading."""
    from recbole_lightgnn.export import parts

    lines = [
        f"{result['row']}, form {result['form']}, {result['values']}: {result['bytes']:,} bytes, "
        f"{result['of_dense']:.2%} of embeddings of 64 columns in float32",
        ", ".join(f"{name} {size:,}" for name, size in parts(result).items()),
    ]
    valid = result["valid"] or {}
    for name in [n for n in ("recall@20", "ndcg@20") if n in valid] or list(valid)[:2]:
        lines.append(
            f"validation {name}: {result['run_valid'][name]:.6f} in the run, "
            f"{valid[name]:.6f} from the file"
        )
    return "\n".join(lines)
