"""The service under load: requests at a steady rate, answered how soon and in how much memory.

The service is a process of its own, on the same machine. Requests come when they are due, whether
those before are answered or not, and are timed from then on: who waits in a queue waits too.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from recbole_lightgnn.bench.measure import WrongResult, conditions, row, summary
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.serving.recommender import Recommender

K = 20
ONE_USER = f"top {K} for one user"
_USERS = 500  # asked about in turn
_CONNECTIONS = 32
_PATIENCE = 60  # seconds for an answer
_WARM_UP = 0.1  # of the time: what is made on first use is made, memory has its size
_SERVE = "import sys; from recbole_lightgnn.cli.main import main; sys.exit(main())"


def run(file: Path, rate: float, seconds: float) -> dict[str, Any]:
    """Load a service and check what it answers.

    Args:
        file: of ``recbole-lightgnn export``.
        rate: requests a second, each for a user alone.
        seconds: how long, after a warm-up of a tenth of that.

    Returns:
        The result, of plain values: ``requests``, all of them answered, ``late`` (how many were
        answered later than a second after they were due), ``checked`` (how many different answers
        there were, all looked at), ``rows`` with the ``seconds`` of an answer and ``slowest``,
        that of one in a hundred and of all; and ``memory_mb`` of the service (10^6 bytes), in the
        first and the last tenth of the time.

    Raises:
        InputError: if the file is no model, or rate or seconds are not above 0.
        WrongResult: if an answer is not the best, or does not come.
    """
    if not (0 < rate < 1e6 and 0 < seconds < 1e6):
        raise InputError(f"--rate and --seconds must be above 0, got {rate} and {seconds}")
    before, ours = conditions(), Recommender.load(file)
    if len(ours.users) == 0 or len(ours.items) == 0:
        raise InputError(f"{file} has no users or no items to ask about")
    places = np.linspace(0, len(ours.users) - 1, min(_USERS, len(ours.users))).astype(int)
    users = ours.users.names(places).tolist()
    with _serving(file) as port:
        asyncio.run(_Load(port, users, rate, min(K, len(ours.items))).last(_WARM_UP * seconds))
        load = _Load(port, users, rate, min(K, len(ours.items)))
        asyncio.run(load.last(seconds))
    tenth = max(1, len(load.memory) // 10)
    return {
        "bench": "load",
        "graph": file.name,
        "users": len(ours.users),
        "items": len(ours.items),
        "rate": rate,
        "deviation": _deviation(ours, load.answers),
        "checked": sum(map(len, load.answers.values())),
        "conditions": before,
        "requests": len(load.seconds),
        "late": sum(taken > 1 for taken in load.seconds),
        "slowest": dict(zip(("99 %", "all"), np.quantile(load.seconds, [0.99, 1]), strict=True)),
        "memory_mb": {
            "first": float(np.mean(load.memory[:tenth])) / 1e6,
            "last": float(np.mean(load.memory[-tenth:])) / 1e6,
        },
        "rows": [row(ONE_USER, {file.name: summary(load.seconds)})],
    }


@contextmanager
def _serving(file: Path) -> Iterator[int]:
    """A service; gives the port it listens at."""
    command = [sys.executable, "-c", _SERVE, "serve", str(file), "--port=0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            if not line:
                raise InputError(f"{file} cannot be served, as said above")
            yield int(line.rpartition(":")[2])
        finally:
            process.kill()  # it may not listen any more


class _Load:
    """Requests to a service at a steady rate, and what became of them.

    Args:
        port: where it listens.
        users: whom to ask about, in turn.
        rate: requests a second.
        k: how many items to ask for.

    Attributes:
        seconds: from when each was due to when it was answered.
        answers: the different ones to each user.
        memory: bytes of the service, once a second.
    """

    def __init__(self, port: int, users: list[str], rate: float, k: int) -> None:
        self._port, self._rate = port, rate
        self._asked = [(user, f"/recommend?k={k}&user={quote(user, safe='')}") for user in users]
        self.seconds: list[float] = []
        self.answers: defaultdict[str, set[bytes]] = defaultdict(set)
        self.memory: list[int] = []

    async def last(self, seconds: float) -> None:
        """Ask for so long.

        Raises:
            WrongResult: if there is no answer, or another than 200.
        """
        begun = time.perf_counter()
        due = ((n, begun + n / self._rate) for n in range(max(1, round(seconds * self._rate))))
        watching = asyncio.create_task(self._watch())
        await asyncio.gather(*(self._ask_on(due) for _ in range(_CONNECTIONS)))
        watching.cancel()

    async def _ask_on(self, due: Iterator[tuple[int, float]]) -> None:
        connection = _Connection(self._port)
        for number, moment in due:
            await asyncio.sleep(max(0, moment - time.perf_counter()))
            user, path = self._asked[number % len(self._asked)]
            status, body = await connection.get(path)
            self.seconds.append(time.perf_counter() - moment)
            if status != "200":
                raise WrongResult(f"{path} was to be answered by 200, got {status} {body.decode()}")
            self.answers[user].add(body)
        connection.close()

    async def _watch(self) -> None:
        connection = _Connection(self._port)
        while True:
            _, body = await connection.get("/metrics")
            found = re.search(rb"^process_resident_memory_bytes (\S+)", body, re.MULTILINE)
            self.memory.append(int(found[1]) if found else 0)
            await asyncio.sleep(1)


class _Connection:
    """HTTP over a connection that is kept, and opened again when it is lost."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def get(self, path: str) -> tuple[str, bytes]:
        """Status and body; ``"none"`` where none comes, or not in time."""
        try:
            return await asyncio.wait_for(self._get(path), _PATIENCE)
        except (OSError, EOFError, asyncio.TimeoutError):
            self.close()
            return "none", b""

    async def _get(self, path: str) -> tuple[str, bytes]:
        if self._streams is None or self._streams[0].at_eof():  # who is idle is hung up on
            self.close()
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = re.search(r"^content-length: (\d+)", head, re.MULTILINE | re.IGNORECASE)
        body = await reader.readexactly(int(length[1]) if length else 0)
        return head.split(" ", 2)[1], body

    def close(self) -> None:
        """Hang up."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def _deviation(ours: Recommender, answers: Mapping[str, set[bytes]]) -> float:
    """By how much of the largest score answers fall short of the best, or scores are wrong."""
    largest = worst = 0.0
    for user, bodies in answers.items():
        best = ours.recommend([user], min(K, len(ours.items))).scores[0]
        best = best[best > -np.inf]
        largest = max(largest, float(np.abs(best).max(initial=0)))
        for answer in map(json.loads, bodies):
            items, scores = answer["items"], np.array(answer["scores"])
            if len(scores) != len(best) or len(set(items)) < len(items):
                raise WrongResult(f"{len(best)} different items for {user!r} were due: {items}")
            truth = ours.score([user] * len(items), items)
            for other in (best, truth):
                worst = max(worst, float(np.abs(scores - other).max(initial=0)))
    if not worst <= 1e-5 * largest:
        raise WrongResult(f"answers are not the best, by {worst} of {largest}")
    return worst / largest if largest else 0.0


def text(result: Mapping[str, Any]) -> str:
    """The result, for reading."""
    from recbole_lightgnn.bench.text import conditions_text, milliseconds, short

    ((taken,),) = (each["seconds"].values() for each in result["rows"])
    slowest = ", ".join(f"{share}: {short(1e3 * s)}" for share, s in result["slowest"].items())
    memory = result["memory_mb"]
    return "\n".join(
        [
            f"{result['graph']}: {result['users']} users, {result['items']} items",
            f"{result['requests']} requests, {result['rate']:g} a second, each answered",
            f"{result['checked']} different answers were checked: all are the best, to "
            f"{result['deviation']:.1g} of the largest score",
            "",
            f"{ONE_USER}, from when it is due: {milliseconds(taken)}; {slowest}",
            f"answered later than a second: {result['late']}",
            f"memory of the service: {memory['first']:.1f} MB in the first tenth of the time, "
            f"{memory['last']:.1f} MB in the last",
            "",
            "median (quartiles) in milliseconds",
            conditions_text(result),
        ]
    )
