"""The command ``recbole-lightgnn recommend FILE``, which needs only NumPy.

Heavy libraries are imported only in the functions that run the command.
"""

import argparse
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recbole_lightgnn.cli.options import add_approximate_flag, add_key_flag, read_secret
from recbole_lightgnn.errors import InputError

_CHUNK = 1024  # users per write to the table


def add_parsers(commands: Any) -> list[argparse.ArgumentParser]:
    """Add ``recommend`` to the subparsers ``commands``; return its parser in a list."""
    recommend = commands.add_parser(
        "recommend", help="recommend items to users with an exported model"
    )
    recommend.add_argument("file", type=Path, metavar="FILE", help="model written by `export`")
    users = recommend.add_mutually_exclusive_group(required=True)
    users.add_argument(
        "--user", action="append", metavar="TOKEN", help="a user; repeat for several users"
    )
    users.add_argument("--all-users", action="store_true", help="all users; needs --out")
    recommend.add_argument(
        "--k", type=int, default=10, metavar="N", help="items per user (default: 10)"
    )
    recommend.add_argument(
        "--out",
        type=Path,
        metavar="TABLE",
        help="write columns user, rank, item, score to a .csv or .parquet file",
    )
    recommend.add_argument(
        "--include-seen",
        action="store_true",
        help="recommend also the interactions that are in the file",
    )
    add_key_flag(recommend)
    add_approximate_flag(recommend)
    recommend.set_defaults(handler=run)
    return [recommend]


def run(options: argparse.Namespace) -> int:
    """Recommend items; print them or write them to a table.

    Returns:
        The exit status, 0.

    Raises:
        InputError: if the model, a user, ``--k`` or ``--out`` cannot be used.
    """
    from recbole_lightgnn.serving.recommender import Recommender
    from recbole_lightgnn.serving.table import check_table_path, table_writer

    if options.out is not None:
        check_table_path(options.out)
    elif options.all_users:
        raise InputError("--all-users needs --out TABLE, a name that ends in .csv or .parquet")
    recommender = Recommender.load(
        options.file, read_secret(options.key), share=options.approximate
    )
    users = options.user or recommender.users.names(slice(None, -1)).tolist()
    exclude_seen = not options.include_seen
    if options.out is None:
        ranked = recommender.recommend(users, options.k, exclude_seen)
        for user, items, scores in zip(users, ranked.items, ranked.scores, strict=True):
            for rank, (item, score) in enumerate(zip(items, scores, strict=True), 1):
                if item is not None:
                    print(f"{user}\t{rank}\t{item}\t{score:.6g}")
        return 0
    with table_writer(options.out) as write, _progress(len(users)) as advance:
        for start in range(0, len(users), _CHUNK):
            chunk = users[start : start + _CHUNK]
            write(chunk, recommender.recommend(chunk, options.k, exclude_seen))
            advance(len(chunk))
    print(f"recommendations: {options.out}")
    return 0


@contextlib.contextmanager
def _progress(n_users: int) -> Iterator[Any]:
    """Show a progress bar on standard error, if it is a terminal and tqdm is installed."""
    try:
        from tqdm import tqdm
    except ModuleNotFoundError:
        yield lambda n: None
        return
    with tqdm(total=n_users, unit="users", unit_scale=True, leave=False, disable=None) as bar:
        yield bar.update
