"""Fuzz every file reader with damaged files: ``make fuzz ARGS="--minutes=5"``.

The readers are those of ``import`` and the reader of exported models. A damaged model may get a
correct checksum again, to test the code behind the checksum.

A reader must return a result, or raise InputError with a message of one line. A finding is any
other exception, a longer message, a file that takes more than 10 seconds, or a forbidden action:
to start another process, to evaluate code, or to write elsewhere. Hypothesis draws the damage and
minimizes it after a finding.
"""

import argparse
import contextlib
import faulthandler
import io
import itertools
import os
import pickle
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import scipy.sparse as sp
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from helpers.model_files import SECRET, altered, file_of, random_model, resigned
from recbole_lightgnn.data import text
from recbole_lightgnn.data.lightgcn import import_lightgcn, read_lists
from recbole_lightgnn.data.npz import read_npz_matrix
from recbole_lightgnn.data.pairs import Selection, import_pairs
from recbole_lightgnn.data.unpickle import read_pickled_matrix
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.serving import coding
from recbole_lightgnn.serving.recommender import Recommender

SECONDS_PER_FILE = 10
_ROUND = 500  # files between two checks of the time
FORBIDDEN = (  # names of audit events
    *("subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.fork", "socket.", "ctypes."),
    "pickle.find_class",  # raised by the unrestricted unpickler
)

# Pieces to insert into files; each has a special meaning for one of the readers.
PIECES = [
    *(b"\n", b"\r\n", b"\r", b"\0", b"\t", b" ", b",", b"::", b";", b"|", b'"', b'""', b"\x1f"),
    *(b"\xef\xbb\xbf", b"\xff\xfe", b"\xe9", "日".encode(), b"-1", b"0", b"007", b"1e999", b"nan"),
    *(b"2014-02-28", b"2014-02-30T12:00Z", b"1700000000000000000", b"4.5"),
    *(b"2147483647", b"2147483648", b"9" * 19, b"NA", b"[PAD]", b"user", b"item,rating"),
    *(
        b"cos\nsystem\n",
        b"\x8c\x02os\x8c\x06system\x93",
        b"(S'true'\ntR.",
        b"\x80\x05",
        b"N.",
        b"b.",
    ),
    *(b"\xff\xff\xff\x7f", b"\xff" * 8, b"\x80" * 4, b"PK\x03\x04", b"\x93NUMPY", b"|O", b"<i8"),
]


class Hang(BaseException):
    """A file took more than ``SECONDS_PER_FILE``."""


class ForbiddenAction(BaseException):
    """A file made the process do something forbidden; a BaseException, so no reader catches it."""


def seeds() -> dict[str, list[bytes]]:
    """Return undamaged files of each kind."""
    draw = np.random.default_rng(0)
    dense = (draw.random((9, 7)) < 0.4) * draw.integers(1, 4, (9, 7))
    forms = [
        getattr(sp, f"{form}_{kind}")(dense)
        for form in ("coo", "csr", "csc")
        for kind in ("matrix", "array")
    ]
    npz = []
    for form in forms:
        file = io.BytesIO()
        sp.save_npz(file, form, compressed=len(npz) % 2 == 0)
        npz.append(file.getvalue())
    dates = "".join(f"{u},{i},3.5,2014-01-{u + i + 1:02d}\n" for u in range(8) for i in range(9))
    rows = [f"u{u},{i},{(u * i) % 5},{u + i}" for u in range(8) for i in range(9)]
    table = "\n".join(["user,item,rating,time", *rows]) + "\n"
    tables = [
        table,
        *(table.replace(",", d) for d in ("\t", "::", ";", "|", " ")),
        table.replace("u", '"u"'),
    ]
    numbers = "\n".join(row.replace("u", "") for row in rows)
    lists = "\n".join(f"{u} " + " ".join(str(u * i) for i in range(1, 6)) for u in range(9)) + "\n"
    parquets = []
    for users in ([f"u{u}" for u in range(9)], list(range(9))):
        for compression in ("none", "snappy"):
            file = io.BytesIO()
            columns = {"user": users * 4, "item": list(range(36)), "time": [0.5] * 36}
            pa.parquet.write_table(pa.table(columns), file, compression=compression)
            parquets.append(file.getvalue())
    models = [
        file_of(random_model(nth, final=nth % 2 == 1, names=names), values)
        for nth, names in enumerate(["none", "numbers", "words", "words", "hashed", "hashed"])
        for values in coding.VALUES
    ]
    return {
        "model": models,
        "parquet": parquets,
        "pickle": [pickle.dumps(form, protocol) for form in forms for protocol in (2, 4, 5)],
        "npz": npz,
        "lists": [lists.encode(), lists.replace("\n", "\r\n").encode()],
        "pairs": [
            *(t.encode() for t in tables),
            numbers.encode(),
            dates.encode(),
            b"\xef\xbb\xbf" + table.encode(),
        ],
    }


def readers(folder: Path) -> dict[str, Callable[[Path, random.Random], object]]:
    """Return a reader for each kind of file; it may draw its options at random."""

    def pairs(path: Path, draw: random.Random) -> object:
        selection = Selection(
            delimiter=draw.choice([*[None] * 8, ",", "::"]),
            header=draw.choice([*[None] * 8, True, False]),
            min_rating=draw.choice([None, 2.0]),
            split=draw.choice(["random", "time"]),
            k_core=draw.choice([1, 2]),
        )
        return import_pairs(path, "it", folder / "out", True, selection)

    def parquet(path: Path, draw: random.Random) -> object:
        return pairs(path.rename(folder / "file.parquet"), draw)

    def lists(path: Path, draw: random.Random) -> object:
        shutil.copy(path, folder / "train.txt")
        (folder / "test.txt").write_bytes(b"0 2000000\n")
        read_lists(path, skip_empty=draw.random() < 0.5)
        return import_lightgcn(folder, "it", folder / "out", True)

    def model(path: Path, draw: random.Random) -> object:
        ours = Recommender.load(path, draw.choice([*[None] * 3, SECRET]))
        users, items = (ids.names(np.arange(len(ids)))[:9] for ids in (ours.users, ours.items))
        assert not np.isnan(ours.score(users[:1].repeat(len(items)), items)).any()
        answers = [ours.recommend(users, len(ours.items)), ours.similar_items(items, 1)]
        if ours.form == "graph":
            answers += [ours.explain(users[0], items[0])] if len(users) and len(items) else []
            answers += [ours.fold_in(items, 1)]
        return answers

    return {
        "model": model,
        "parquet": parquet,
        "pickle": lambda path, _: read_pickled_matrix(path),
        "npz": lambda path, _: read_npz_matrix(path),
        "lists": lists,
        "pairs": pairs,
    }


def damaged(content: bytes, others: list[bytes], draw: random.Random) -> bytes:
    """Change a file in one to eight places."""
    for _ in range(draw.choice([1, 1, 2, 4, 8])):
        at = draw.randrange(len(content) + 1)
        how = draw.randrange(6)
        if how == 0:
            content = content[:at] + draw.choice(PIECES) + content[at:]
        elif how == 1:
            content = content[:at] + content[at + draw.choice([1, 2, 4, 16, 64]) :]
        elif how == 2:
            content = content[:at] + draw.randbytes(draw.choice([1, 2, 4, 8])) + content[at + 1 :]
        elif how == 3:
            end = draw.randrange(len(content) + 1)
            content = content[:at] + content[min(at, end) : max(at, end)] + content[at:]
        elif how == 4:
            other = draw.choice(others)
            content = content[:at] + other[draw.randrange(len(other)) :]
        else:
            content = content[:at] + draw.choice(PIECES) + content[at + 1 :]
    return content[:1_000_000]


def watch(folder: Path) -> Callable[[bool], None]:
    """Raise ForbiddenAction for every forbidden action; return a switch for this watch."""
    watching = False

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if not watching:
            return
        wrote = (
            event == "open" and arguments[1] is not None and set(str(arguments[1])) & set("wax+")
        )
        outside = wrote and not str(arguments[0]).startswith(str(folder))
        # A late import is allowed; code without a file came from the data.
        evaluated = event == "exec" and arguments[0].co_filename == "<string>"
        if event.startswith(FORBIDDEN) or evaluated or (outside and arguments[0] != os.devnull):
            raise ForbiddenAction(f"{event} {arguments!r}")

    def switch(on: bool) -> None:
        nonlocal watching
        watching = on

    sys.addaudithook(audit)
    return switch


def main() -> int:
    """Fuzz until the time is over, or until the first finding, and save the file of the finding."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=None, help="default: a random one")
    options = parser.parse_args()
    number = random.SystemRandom().randrange(2**32) if options.seed is None else options.seed
    until = time.monotonic() + 60 * options.minutes
    whole, ended = seeds(), Counter()
    everything = [content for kind in whole.values() for content in kind]

    def hang(*_: object) -> None:
        raise Hang

    signal.signal(signal.SIGALRM, hang)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(f"seed {number}; a file that hangs forever remains as {folder}/file*", flush=True)
        read, switch = readers(folder), watch(folder)
        for kind, contents in whole.items():  # import and compile everything before watching
            for content in contents:
                for nth in range(9):
                    (folder / "file").write_bytes(content)
                    with contextlib.suppress(InputError):
                        read[kind](folder / "file", random.Random(nth))

        @settings(
            max_examples=_ROUND, deadline=None, database=None,
            suppress_health_check=list(HealthCheck), phases=[Phase.generate, Phase.shrink],
        )  # fmt: skip
        @given(kind=st.sampled_from(sorted(read)), draw=st.randoms(use_true_random=False))
        def a_file_is_read_or_refused(kind: str, draw: random.Random) -> None:
            content = damaged(draw.choice(whole[kind]), everything, draw)
            if kind == "model":  # sometimes with a correct checksum
                other = altered(draw.choice(whole[kind]), draw)
                content = draw.choice([content, resigned(content), other])
            text.BLOCK = draw.choice([2**6, 2**9, 2**20])  # small blocks split the lines
            (folder / "file").write_bytes(content)
            signal.alarm(SECONDS_PER_FILE)
            # A signal cannot interrupt compiled code or a wait for its thread: end the process.
            faulthandler.dump_traceback_later(2 * SECONDS_PER_FILE, exit=True)
            switch(True)
            try:
                read[kind](folder / "file", draw)
                ended[kind, "read"] += 1
                finding = ""
            except InputError as error:
                ended[kind, "refused"] += 1
                finding = "more than one line" if "\n" in str(error) else ""
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                finding = f"{type(error).__name__}: {error}"
            finally:
                switch(False)
                signal.alarm(0)
                faulthandler.cancel_dump_traceback_later()
            if finding:
                Path(f"fuzz-{number}.bin").write_bytes(content)
                raise AssertionError(f"{kind}: {finding}; the file is fuzz-{number}.bin")

        for nth in itertools.count(number):
            try:
                seed(nth)(a_file_is_read_or_refused)()
            except AssertionError as finding:
                print(f"{finding}, seed {nth}")
                return 1
            if time.monotonic() > until:
                break
    for (kind, how), count in sorted(ended.items()):
        print(f"{kind:8} {how:8} {count}")
    print(f"no finding in {sum(ended.values())} files; seed {number}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
