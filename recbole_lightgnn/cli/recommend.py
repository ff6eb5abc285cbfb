"""The command ``recbole-lightgnn recommend FILE``, which needs no more than the file's reader does.

Heavy libraries are imported only in the functions that run.
"""

import argparse
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recbole_lightgnn.cli.options import add_approximate_flag, add_key_flag, read_secret
from recbole_lightgnn.errors import InputError

_USERS = 1024  # between two writes


def add_parsers(commands: Any) -> list[argparse.ArgumentParser]:
    """Add ``recommend`` to the command line's subparsers; returns the parsers."""
    recommend = commands.add_parser("recommend", help="the best items for users, from a model file")
    recommend.add_argument("file", type=Path, metavar="FILE", help="a model that `export` wrote")
    who = recommend.add_mutually_exclusive_group(required=True)
    who.add_argument(
        "--user", action="append", metavar="TOKEN", help="a user; may be given several times"
    )
    who.add_argument("--all-users", action="store_true", help="every user; needs --out")
    recommend.add_argument(
        "--k", type=int, default=10, metavar="N", help="how many items (default: 10)"
    )
    recommend.add_argument(
        "--out",
        type=Path,
        metavar="TABLE",
        help="write user, rank, item, score to .csv or .parquet",
    )
    recommend.add_argument(
        "--include-seen", action="store_true", help="also interactions that the file holds"
    )
    add_key_flag(recommend)
    add_approximate_flag(recommend)
    recommend.set_defaults(handler=run)
    return [recommend]


def run(options: argparse.Namespace) -> int:
    """Recommend; returns 0, the exit status.

    Raises:
        InputError: if the file, a user, k or the place to write to is no good.
    """
    from recbole_lightgnn.serving.recommender import Recommender
    from recbole_lightgnn.serving.table import check_table, writing

    if options.out is not None:
        check_table(options.out)
    elif options.all_users:
        raise InputError("--all-users needs --out TABLE, a name that ends in .csv or .parquet")
    recommender = Recommender.load(
        options.file, read_secret(options.key), share=options.approximate
    )
    users = options.user or recommender.users.names(slice(None, -1)).tolist()
    seen = not options.include_seen
    if options.out is None:
        ranked = recommender.recommend(users, options.k, seen)
        for user, items, scores in zip(users, ranked.items, ranked.scores, strict=True):
            for rank, (item, score) in enumerate(zip(items, scores, strict=True), 1):
                if item is not None:
                    print(f"{user}\t{rank}\t{item}\t{score:.6g}")
        return 0
    with writing(options.out) as write, _progress(len(users)) as done:
        for start in range(0, len(users), _USERS):
            part = users[start : start + _USERS]
            write(part, recommender.recommend(part, options.k, seen))
            done(len(part))
    print(f"recommendations: {options.out}")
    return 0


@contextlib.contextmanager
def _progress(n_users: int) -> Iterator[Any]:
    """A bar on standard error; nothing where that is no terminal, or without tqdm."""
    try:
        from tqdm import tqdm
    except ModuleNotFoundError:
        yield lambda n: None
        return
    with tqdm(total=n_users, unit="users", unit_scale=True, leave=False, disable=None) as bar:
        yield bar.update
