"""The commands ``recbole-lightgnn export RUN`` and ``recbole-lightgnn explain RUN``.

Heavy libraries, such as torch, are imported only in the functions that run a command.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole_lightgnn.cli.options import add_key_flag, read_secret
from recbole_lightgnn.errors import InputError


def add_parsers(commands: Any) -> list[argparse.ArgumentParser]:
    """Add ``export`` and ``explain`` to the subparsers ``commands``; return both parsers."""
    return [_add_export(commands), _add_explain(commands)]


def _add_export(commands: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        "export", help="write a trained model as one small file for serving"
    )
    parser.add_argument(
        "run", type=Path, metavar="RUN", help="folder of a run (saved/LightGNN-...)"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="file to write")
    parser.add_argument(
        "--row",
        metavar="KEY",
        help="model to export, such as student-05 (default: the last student)",
    )
    parser.add_argument(
        "--values",
        choices=("float32", "float16", "int8"),
        default="float32",
        help="number type of entries and edge weights (default: float32, exact)",
    )
    parser.add_argument(
        "--ids",
        choices=("tokens", "hashed", "none"),
        default="tokens",
        help="names of users and items: the dataset's tokens, their hashes with --key, or only "
        "numbers (default: tokens)",
    )
    add_key_flag(parser)
    parser.add_argument(
        "--form",
        choices=("graph", "final"),
        help="pruned embeddings and edges, or final embeddings (default: the smaller file)",
    )
    parser.add_argument(
        "--seen",
        choices=("kept", "all", "none"),
        default="kept",
        help="interactions in the file: those that pruning kept, all, or none (none needs the "
        "form final; default: kept)",
    )
    parser.set_defaults(handler=_export)
    return parser


def _add_explain(commands: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        "explain", help="explain a user's recommendations"
    )
    parser.add_argument(
        "run", type=Path, metavar="RUN", help="folder of a run, or model written by `export`"
    )
    parser.add_argument("--user", required=True, metavar="TOKEN", help="the user")
    parser.add_argument(
        "--item", metavar="TOKEN", help="item to explain (default: the --k best unseen items)"
    )
    parser.add_argument(
        "--k", type=int, default=5, metavar="N", help="items to explain (default: 5)"
    )
    parser.add_argument(
        "--row", metavar="KEY", help="student of a run, such as student-05 (default: the last)"
    )
    parser.add_argument(
        "--json", action="store_true", help="print JSON, with all contributions to every score"
    )
    add_key_flag(parser)
    parser.set_defaults(handler=_explain)
    return parser


def _explain(options: argparse.Namespace) -> int:
    from recbole_lightgnn.serving.explaining import explain_scores, explanation_lines
    from recbole_lightgnn.serving.recommender import Recommender

    query = options.user, options.item, options.k
    if options.run.is_dir():
        from recbole_lightgnn.export import served_model
        from recbole_lightgnn.runs.finished_run import TrainedRun
        from recbole_lightgnn.runs.history import history

        trained = TrainedRun(options.run)
        key = trained.row(options.row)["key"]
        recommender = Recommender(served_model(trained, key, form="graph"))
        scores = explain_scores(recommender, *query)
        explained = {"interactions": history(trained, key, options.user), "scores": scores}
    else:
        if options.row is not None:
            raise InputError(f"--row needs the folder of a run, and {options.run} is no folder")
        recommender = Recommender.load(options.run, read_secret(options.key))
        explained = {"scores": explain_scores(recommender, *query)}
    if options.json:
        print(json.dumps(explained, indent=2, allow_nan=False))
    else:
        print("\n".join(explanation_lines(explained)))
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
    """Format the result of an export: file size, bytes of each part, and validation metrics."""
    from recbole_lightgnn.export import bytes_by_part

    lines = [
        f"{result['row']}, form {result['form']}, {result['values']}: {result['bytes']:,} bytes, "
        f"{result['of_dense']:.2%} of embeddings of 64 columns in float32",
        ", ".join(f"{name} {size:,}" for name, size in bytes_by_part(result).items()),
    ]
    valid = result["valid"] or {}
    for name in [n for n in ("recall@20", "ndcg@20") if n in valid] or list(valid)[:2]:
        lines.append(
            f"validation {name}: {result['run_valid'][name]:.6f} in the run, "
            f"{valid[name]:.6f} from the file"
        )
    return "\n".join(lines)
