"""The service under load: response times and memory at a steady rate of requests.

The service is a separate process on the same machine. Requests are due at fixed times, whether or
not earlier requests are answered. The response time starts at the due time, so it includes the wait
in a queue.
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
from recbole_lightgnn.bench.text import conditions_text, milliseconds, short
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.serving.recommender import Recommender

K = 20
ONE_USER = f"top {K} for one user"
_USERS = 500  # largest number of users that are requested in turn
_CONNECTIONS = 32
_PATIENCE = 60  # seconds to wait for an answer
_WARM_UP = 0.1  # duration of the warm-up, as a share; the service allocates memory on first use
_SERVE = "import sys; from recbole_lightgnn.cli.main import main; sys.exit(main())"


def run(file: Path, rate: float, seconds: float) -> dict[str, Any]:
    """Put a service under load, measure its response times and check its answers.

    Args:
        file: model exported by ``recbole-lightgnn export``.
        rate: requests per second, each for one user.
        seconds: duration of the measurement. A warm-up of a tenth of this duration comes first.

    Returns:
        The result, for a JSON file. ``requests``: number of requests, all answered. ``late``:
        number of answers more than a second after the due time. ``checked``: number of different
        answers, all checked. ``rows``: response times in seconds. ``slowest``: 99th percentile and
        maximum of the response times. ``memory_mb``: memory of the service (10^6 bytes) in the
        first and in the last tenth of the duration.

    Raises:
        InputError: if the file is not a model, or if rate or seconds are not above 0.
        WrongResult: if an answer is missing or lacks the best items.
    """
    if not (0 < rate < 1e6 and 0 < seconds < 1e6):
        raise InputError(f"--rate and --seconds must be above 0, got {rate} and {seconds}")
    before, recommender = conditions(), Recommender.load(file)
    n_users, n_items = len(recommender.users), len(recommender.items)
    if n_users == 0 or n_items == 0:
        raise InputError(f"{file} has no users or no items to ask about")
    numbers = np.linspace(0, n_users - 1, min(_USERS, n_users)).astype(int)
    users = recommender.users.names(numbers).tolist()
    with _serving(file) as port:
        asyncio.run(_Load(port, users, rate, min(K, n_items)).run(_WARM_UP * seconds))
        load = _Load(port, users, rate, min(K, n_items))
        asyncio.run(load.run(seconds))
    tenth = max(1, len(load.memory) // 10)
    return {
        "bench": "load",
        "graph": file.name,
        "users": n_users,
        "items": n_items,
        "rate": rate,
        "deviation": _deviation(recommender, load.answers),
        "checked": sum(map(len, load.answers.values())),
        "conditions": before,
        "requests": len(load.seconds),
        "late": sum(each > 1 for each in load.seconds),
        "slowest": dict(zip(("99 %", "all"), np.quantile(load.seconds, [0.99, 1]), strict=True)),
        "memory_mb": {
            "first": float(np.mean(load.memory[:tenth])) / 1e6,
            "last": float(np.mean(load.memory[-tenth:])) / 1e6,
        },
        "rows": [row(ONE_USER, {file.name: summary(load.seconds)})],
    }


@contextmanager
def _serving(file: Path) -> Iterator[int]:
    """Run the service with a model in a new process; yield its port."""
    command = [sys.executable, "-c", _SERVE, "serve", str(file), "--port=0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            if not line:
                raise InputError(f"{file} cannot be served: see the error above")
            yield int(line.rpartition(":")[2])
        finally:
            process.kill()  # the service may have stopped reacting


class _Load:
    """Sender of requests to a service at a steady rate, and keeper of the answers.

    Args:
        port: port of the service.
        users: names of the users; requests are sent for each user in turn.
        rate: requests per second.
        k: number of items per request.

    Attributes:
        seconds: response time of each request, from its due time.
        answers: the different answers for each user.
        memory: memory of the service in bytes, once a second.
    """

    def __init__(self, port: int, users: list[str], rate: float, k: int) -> None:
        self._port, self._rate = port, rate
        self._paths = [(user, f"/recommend?k={k}&user={quote(user, safe='')}") for user in users]
        self.seconds: list[float] = []
        self.answers: defaultdict[str, set[bytes]] = defaultdict(set)
        self.memory: list[int] = []

    async def run(self, seconds: float) -> None:
        """Send requests for ``seconds``; raise WrongResult if an answer is missing or not 200."""
        begun = time.perf_counter()
        due = ((n, begun + n / self._rate) for n in range(max(1, round(seconds * self._rate))))
        watching = asyncio.create_task(self._watch_memory())
        await asyncio.gather(*(self._send(due) for _ in range(_CONNECTIONS)))
        watching.cancel()

    async def _send(self, due: Iterator[tuple[int, float]]) -> None:
        """Send requests until none is left; all connections share ``due`` (number, due time)."""
        connection = _Connection(self._port)
        for number, moment in due:
            await asyncio.sleep(max(0, moment - time.perf_counter()))
            user, path = self._paths[number % len(self._paths)]
            status, body = await connection.get(path)
            self.seconds.append(time.perf_counter() - moment)
            if status != "200":
                raise WrongResult(f"{path}: expected status 200, got {status} {body.decode()}")
            self.answers[user].add(body)
        connection.close()

    async def _watch_memory(self) -> None:
        connection = _Connection(self._port)
        while True:
            _, body = await connection.get("/metrics")
            found = re.search(rb"^process_resident_memory_bytes (\S+)", body, re.MULTILINE)
            self.memory.append(int(found[1]) if found else 0)
            await asyncio.sleep(1)


class _Connection:
    """HTTP client with one connection, which it reopens after the service has closed it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def get(self, path: str) -> tuple[str, bytes]:
        """Status and body of an answer; status ``"none"`` if no answer comes in time."""
        try:
            return await asyncio.wait_for(self._get(path), _PATIENCE)
        except (OSError, EOFError, asyncio.TimeoutError):
            self.close()
            return "none", b""

    async def _get(self, path: str) -> tuple[str, bytes]:
        if self._streams is None or self._streams[0].at_eof():  # the service closes idle ones
            self.close()
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = re.search(r"^content-length: (\d+)", head, re.MULTILINE | re.IGNORECASE)
        body = await reader.readexactly(int(length[1]) if length else 0)
        return head.split(" ", 2)[1], body

    def close(self) -> None:
        """Close the connection."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def _deviation(recommender: Recommender, answers: Mapping[str, set[bytes]]) -> float:
    """Check the answers; return the largest error of a score, divided by the largest score.

    The answered scores must equal the scores of the best items and the true scores of the answered
    items.

    Raises:
        WrongResult: if the error is above 1e-5, or if items are missing or repeated.
    """
    largest = worst = 0.0
    for user, bodies in answers.items():
        best = recommender.recommend([user], min(K, len(recommender.items))).scores[0]
        best = best[best > -np.inf]
        largest = max(largest, float(np.abs(best).max(initial=0)))
        for answer in map(json.loads, bodies):
            items, scores = answer["items"], np.array(answer["scores"])
            if len(scores) != len(best) or len(set(items)) < len(items):
                raise WrongResult(f"expected {len(best)} different items for {user!r}, got {items}")
            truth = recommender.score([user] * len(items), items)
            for other in (best, truth):
                worst = max(worst, float(np.abs(scores - other).max(initial=0)))
    if not worst <= 1e-5 * largest:
        raise WrongResult(f"answers are not the best ones: error {worst} of {largest}")
    return worst / largest if largest else 0.0


def text(result: Mapping[str, Any]) -> str:
    """Format `run`'s result (plus the key ``environment``) as lines of text."""
    ((seconds,),) = (each["seconds"].values() for each in result["rows"])
    slowest = ", ".join(f"{share}: {short(1e3 * s)}" for share, s in result["slowest"].items())
    memory = result["memory_mb"]
    return "\n".join(
        [
            f"{result['graph']}: {result['users']} users, {result['items']} items",
            f"{result['requests']} requests, {result['rate']:g} per second, all answered",
            f"{result['checked']} different answers were checked: all are the best ones; largest "
            f"error of a score: {result['deviation']:.1g} of the largest score",
            "",
            f"{ONE_USER}, from the due time: {milliseconds(seconds)}; {slowest}",
            f"answered more than a second after the due time: {result['late']}",
            f"memory of the service: {memory['first']:.1f} MB in the first tenth of the time, "
            f"{memory['last']:.1f} MB in the last",
            "",
            "median (quartiles) in milliseconds",
            conditions_text(result),
        ]
    )
