"""``bench load``: what it counts, and that it checks the answers; no speed is tested."""

import asyncio
import json
import os
import socket
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from helpers.model_files import write_model
from helpers.paths import ROOT

from recbole_lightgnn.bench import load
from recbole_lightgnn.bench.measure import WrongResult
from recbole_lightgnn.cli.main import main
from recbole_lightgnn.serving.recommender import Recommender

BEST = {"items": ["7", "14"], "scores": [2.0, 1.0]}


@pytest.fixture(autouse=True)
def _checkout(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")


@pytest.mark.slow
def test_a_service_under_load(capsys):
    write_model(Path("m.lgnn"), n_users=60, n_items=40, width=8, names="words")
    command = ["bench", "load", "m.lgnn", "--rate=50", "--seconds=2"]
    assert main([*command, "--json=l.json", "--plot=l.svg"]) == 0
    result = json.loads(Path("l.json").read_text())
    assert (result["graph"], result["users"], result["items"]) == ("m.lgnn", 60, 40)
    assert (result["requests"], result["checked"]) == (100, 60)
    (one,) = result["rows"]
    taken = one["seconds"]["m.lgnn"]
    assert taken["calls"] == 100
    assert 0 < taken["median"] <= result["slowest"]["99 %"] <= result["slowest"]["all"]
    assert result["late"] <= 100
    assert 10 < result["memory_mb"]["first"] < 1000
    assert result["deviation"] < 1e-6
    printed = capsys.readouterr().out
    assert "100 requests, 50 per second, all answered" in printed
    assert "\n60 different answers were checked: all are the best ones; largest error " in printed
    assert "m.lgnn" in Path("l.svg").read_text()


@pytest.mark.slow
def test_memory_does_not_grow():
    write_model(Path("m.lgnn"), n_users=2000, n_items=5000, width=32)
    result = load.run(Path("m.lgnn"), 100, 40)
    assert result["requests"] == 4000
    growth = result["memory_mb"]["last"] - result["memory_mb"]["first"]
    assert growth < 2, "MB of about 80: 4000 requests may keep half a kilobyte each"


def test_what_cannot_be_measured(capsys):
    write_model(Path("none.lgnn"), n_users=0)
    write_model(Path("m.lgnn"))
    for arguments, what in (
        (["gone.lgnn"], "no file at gone.lgnn"),
        (["none.lgnn"], "no users or no items"),
        (["m.lgnn", "--rate=0"], "--rate and --seconds must be above 0, got 0.0 and 60"),
        (["m.lgnn", "--seconds=nan"], "must be above 0, got 300 and nan"),
    ):
        assert main(["bench", "load", *arguments]) == 2
        assert what in capsys.readouterr().err


def test_a_service_that_is_silent_or_gone_has_no_result(monkeypatch):
    write_model(Path("m.lgnn"))
    monkeypatch.setattr(load, "_PATIENCE", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        monkeypatch.setattr(load, "_serving", lambda _: nullcontext(port))
        with pytest.raises(WrongResult, match="expected status 200, got none"):
            load.run(Path("m.lgnn"), 50, 1)
    with pytest.raises(WrongResult, match="expected status 200, got none"):
        load.run(Path("m.lgnn"), 50, 1)


def test_an_answer_with_an_error_is_reported(monkeypatch):
    write_model(Path("m.lgnn"), n_users=2)
    write_model(Path("other.lgnn"), n_users=1)
    serving = load._serving
    monkeypatch.setattr(load, "_serving", lambda _: serving(Path("other.lgnn")))
    with pytest.raises(WrongResult, match=r"user=7: expected status 200, got 404 .*no user"):
        load.run(Path("m.lgnn"), 50, 1)


def test_a_connection_that_is_closed_between_requests_is_opened_again():
    async def answer_once(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        writer.close()

    async def ask_twice():
        async with await asyncio.start_server(answer_once, "127.0.0.1", 0) as server:
            connection = load._Connection(server.sockets[0].getsockname()[1])
            for _ in range(2):
                assert await connection.get("/") == ("200", b"ok")
                await asyncio.sleep(0.2)
            connection.close()

    asyncio.run(ask_twice())


def two_items():
    """A model with one user, who has not seen two items with the scores 2 and 1."""
    write_model(Path("m.lgnn"), n_users=1, n_items=3, width=1, final=True)
    recommender = Recommender.load("m.lgnn")
    recommender.user = np.array([[1]], np.float32)
    recommender.item = np.array([[-5], [2], [1]], np.float32)
    recommender._seen = recommender._seen.from_arrays([np.array([0])])
    return recommender


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        ({"items": ["7"], "scores": [2.0]}, "expected 2 different items for '0', got"),
        ({"items": ["7", "7"], "scores": [2.0, 2.0]}, "expected 2 different items for '0', got"),
        ({"items": ["14", "7"], "scores": [2.0, 1.0]}, r"not the best ones: error 1\.0 of 2\.0"),
        ({"items": ["7", "14"], "scores": [2.0, 1.1]}, r"not the best ones: error 0\.1"),
        ({"items": ["14", "0"], "scores": [1.0, -5.0]}, r"not the best ones: error 6\.0 of 2\.0"),
    ],
)
def test_answers_that_are_not_the_best(answer, what):
    right = json.dumps(BEST).encode()
    assert load._deviation(two_items(), {"0": {right}}) == 0
    with pytest.raises(WrongResult, match=what):
        load._deviation(two_items(), {"0": {right, json.dumps(answer).encode()}})
