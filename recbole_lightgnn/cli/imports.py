"""The command ``recbole-lightgnn import paper | lightgcn | pairs | npz``.

Heavy libraries are imported only in the functions that run.
"""

import argparse
from pathlib import Path
from typing import Any

from recbole_lightgnn.errors import InputError


def add_parsers(commands: Any) -> list[argparse.ArgumentParser]:
    """Add ``import`` to the command line's subparsers; returns the parsers of its formats."""
    importer = commands.add_parser("import", help="make a dataset of files in another format")
    formats = importer.add_subparsers(dest="format", required=True, metavar="FORMAT")
    parsers = {}
    for name, meaning, source in (
        (
            "paper",
            "the paper's split: three pickled matrices",
            "trnMat.pkl, valMat.pkl, tstMat.pkl",
        ),
        ("lightgcn", "LightGCN's: a line a user, `user item item ...`", "train.txt, test.txt"),
        ("npz", "three SciPy sparse matrices", "train.npz, valid.npz, test.npz"),
    ):
        parsers[name] = formats.add_parser(name, help=meaning)
        parsers[name].add_argument("source", type=Path, help=f"folder with {source}")
    pairs = parsers["pairs"] = formats.add_parser("pairs", help="a table, a line an interaction")
    pairs.add_argument("source", type=Path, help="delimited text, or Parquet named *.parquet")
    for parser in parsers.values():
        parser.add_argument("--name", required=True, help="the dataset's name, as for --dataset")
        parser.add_argument("--out", type=Path, default=Path("dataset"), help="folder of datasets")
        parser.add_argument("--overwrite", action="store_true", help="replace a dataset")
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
        help="of each user's train items, where there is no valid.txt (default: 0.1)",
    )
    lightgcn.add_argument("--seed", type=int, default=2020, help="of that draw (default: 2020)")
    lightgcn.add_argument(
        "--skip-empty", action="store_true", help="leave out lines of a user without items"
    )


def _add_pairs_flags(pairs: argparse.ArgumentParser) -> None:
    for what in ("user", "item", "rating", "time"):
        pairs.add_argument(
            f"--{what}", metavar="COLUMN", help="its name or position from 1 (default: recognized)"
        )
    pairs.add_argument("--delimiter", metavar="CHARACTER", help="or :: (default: recognized)")
    pairs.add_argument(
        "--header", choices=("yes", "no"), help="does line 1 name columns (default: recognized)"
    )
    pairs.add_argument("--min-rating", type=float, metavar="X", help="least rating taken")
    pairs.add_argument(
        "--k-core", type=int, default=1, metavar="K", help="least interactions of a user or item"
    )
    pairs.add_argument(
        "--split", choices=("random", "time"), default="random", help="what is tested: any, or last"
    )
    pairs.add_argument(
        "--per", choices=("user", "all"), default="user", help="cut each user's, or the whole table"
    )
    pairs.add_argument(
        "--ratio", default="0.8,0.1,0.1", metavar="A,B,C", help="train, valid and test"
    )
    pairs.add_argument("--seed", type=int, default=2020, help="of a random split (default: 2020)")


def run(options: argparse.Namespace) -> int:
    """Import what was asked for; returns the exit status."""
    place = options.source, options.name, options.out, options.overwrite
    folder = _IMPORTERS[options.format](place, options)
    where = "" if options.out == Path("dataset") else f" --data_path={options.out}"
    print(f"wrote {folder}; run it with --dataset={options.name}{where}")
    return 0


def _paper(place: tuple[Any, ...], options: argparse.Namespace) -> Path:
    from recbole_lightgnn.data.paper import import_paper

    return import_paper(*place)


def _lightgcn(place: tuple[Any, ...], options: argparse.Namespace) -> Path:
    from recbole_lightgnn.data.lightgcn import import_lightgcn

    return import_lightgcn(
        *place,
        valid_share=options.valid_share,
        seed=options.seed,
        skip_empty=options.skip_empty,
    )


def _npz(place: tuple[Any, ...], options: argparse.Namespace) -> Path:
    from recbole_lightgnn.data.npz import import_npz

    return import_npz(*place)


def _pairs(place: tuple[Any, ...], options: argparse.Namespace) -> Path:
    from recbole_lightgnn.data.pairs import Selection, import_pairs

    try:
        ratio = tuple(float(share) for share in options.ratio.split(","))
    except ValueError as error:
        raise InputError(
            f"--ratio {options.ratio!r} must be three shares such as 0.8,0.1,0.1"
        ) from error
    given = ("user", "item", "rating", "time", "delimiter", "min_rating", "k_core", "split", "per")
    selection = Selection(
        **{key: getattr(options, key) for key in given},
        header=None if options.header is None else options.header == "yes",
        ratio=ratio,
        seed=options.seed,
    )
    return import_pairs(*place, selection=selection)


_IMPORTERS = {"paper": _paper, "lightgcn": _lightgcn, "pairs": _pairs, "npz": _npz}
