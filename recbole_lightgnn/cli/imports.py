"""The command ``recbole-lightgnn import paper | lightgcn | pairs | npz``.

Heavy libraries are imported only in the functions that need them.
"""

import argparse
from pathlib import Path
from typing import Any

from recbole_lightgnn.errors import InputError

# Arguments of every importer: source, name, out, overwrite.
_Arguments = tuple[Path, str, Path, bool]


def add_parsers(commands: Any) -> list[argparse.ArgumentParser]:
    """Add ``import`` to the subparsers ``commands``; return the parsers of its formats."""
    importer = commands.add_parser("import", help="make a dataset from files in another format")
    formats = importer.add_subparsers(dest="format", required=True, metavar="FORMAT")
    parsers = {}
    for name, meaning, source in (
        (
            "paper",
            "a split of the LightGNN paper: three pickled matrices",
            "trnMat.pkl, valMat.pkl, tstMat.pkl",
        ),
        (
            "lightgcn",
            "a split of LightGCN: one line `user item item ...` per user",
            "train.txt, test.txt",
        ),
        ("npz", "three SciPy sparse matrices", "train.npz, valid.npz, test.npz"),
    ):
        parsers[name] = formats.add_parser(name, help=meaning)
        parsers[name].add_argument("source", type=Path, help=f"folder with {source}")
    pairs = parsers["pairs"] = formats.add_parser("pairs", help="a table of interactions")
    pairs.add_argument(
        "source", type=Path, help="delimited text, or a Parquet file named *.parquet"
    )
    for parser in parsers.values():
        parser.add_argument("--name", required=True, help="the dataset's name, as for --dataset")
        parser.add_argument(
            "--out",
            type=Path,
            default=Path("dataset"),
            help="folder of datasets (default: dataset)",
        )
        parser.add_argument(
            "--overwrite", action="store_true", help="replace an existing dataset of this name"
        )
    _add_lightgcn_flags(parsers["lightgcn"])
    _add_pairs_flags(pairs)
    importer.set_defaults(handler=run)
    return list(parsers.values())


def _add_lightgcn_flags(lightgcn: argparse.ArgumentParser) -> None:
    lightgcn.add_argument(
        "--valid-share",
        type=float,
        default=0.1,
        metavar="SHARE",
        help="share of each user's train items for validation, if there is no valid.txt "
        "(default: 0.1)",
    )
    lightgcn.add_argument(
        "--seed", type=int, default=2020, help="seed of the validation split (default: 2020)"
    )
    lightgcn.add_argument(
        "--skip-empty", action="store_true", help="skip lines of users without items"
    )


def _add_pairs_flags(pairs: argparse.ArgumentParser) -> None:
    for what in ("user", "item", "rating", "time"):
        pairs.add_argument(
            f"--{what}",
            metavar="COLUMN",
            help=f"name, or position from 1, of the {what} column (default: detected)",
        )
    pairs.add_argument(
        "--delimiter",
        metavar="CHARACTER",
        help="one character, or ::, between two fields (default: detected)",
    )
    pairs.add_argument(
        "--header",
        choices=("yes", "no"),
        help="whether line 1 has the names of the columns (default: detected)",
    )
    pairs.add_argument(
        "--min-rating", type=float, metavar="X", help="smallest rating used (default: use all)"
    )
    pairs.add_argument(
        "--k-core",
        type=int,
        default=1,
        metavar="K",
        help="smallest number of interactions of a user or item (default: 1)",
    )
    pairs.add_argument(
        "--split",
        choices=("random", "time"),
        default="random",
        help="split at random, or by time with the latest interactions in test (default: random)",
    )
    pairs.add_argument(
        "--per",
        choices=("user", "all"),
        default="user",
        help="split each user's interactions, or all at once (default: user)",
    )
    pairs.add_argument(
        "--ratio",
        default="0.8,0.1,0.1",
        metavar="A,B,C",
        help="shares of train, valid and test (default: 0.8,0.1,0.1)",
    )
    pairs.add_argument(
        "--seed", type=int, default=2020, help="seed of a random split (default: 2020)"
    )


def run(options: argparse.Namespace) -> int:
    """Import the dataset and print its folder; return the exit status."""
    arguments: _Arguments = (options.source, options.name, options.out, options.overwrite)
    folder = _IMPORTERS[options.format](arguments, options)
    flag = "" if options.out == Path("dataset") else f" --data_path={options.out}"
    print(f"wrote {folder}; run it with --dataset={options.name}{flag}")
    return 0


def _paper(arguments: _Arguments, options: argparse.Namespace) -> Path:
    from recbole_lightgnn.data.paper import import_paper

    return import_paper(*arguments)


def _lightgcn(arguments: _Arguments, options: argparse.Namespace) -> Path:
    from recbole_lightgnn.data.lightgcn import import_lightgcn

    return import_lightgcn(
        *arguments,
        valid_share=options.valid_share,
        seed=options.seed,
        skip_empty=options.skip_empty,
    )


def _npz(arguments: _Arguments, options: argparse.Namespace) -> Path:
    from recbole_lightgnn.data.npz import import_npz

    return import_npz(*arguments)


def _pairs(arguments: _Arguments, options: argparse.Namespace) -> Path:
    from recbole_lightgnn.data.pairs import Selection, import_pairs

    try:
        ratio = tuple(float(share) for share in options.ratio.split(","))
    except ValueError as error:
        raise InputError(
            f"--ratio {options.ratio!r} must be three shares such as 0.8,0.1,0.1"
        ) from error
    same_names = (
        "user",
        "item",
        "rating",
        "time",
        "delimiter",
        "min_rating",
        "k_core",
        "split",
        "per",
    )
    selection = Selection(
        **{key: getattr(options, key) for key in same_names},
        header=None if options.header is None else options.header == "yes",
        ratio=ratio,
        seed=options.seed,
    )
    return import_pairs(*arguments, selection=selection)


_IMPORTERS = {"paper": _paper, "lightgcn": _lightgcn, "pairs": _pairs, "npz": _npz}
