"""The service as a process: kinds of models, reloads, signals and generated requests."""

import http.client
import json
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from helpers.model_files import SECRET, file_of, random_model, write_model
from helpers.service_process import SECONDS, Service, rows, wait_until

from recbole_lightgnn.cli.main import main
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.serving.ids import Hashes, derive_key, hash_tokens
from recbole_lightgnn.serving.model import Model
from recbole_lightgnn.serving.recommender import Recommender

WORLD = {"n_users": 300, "n_items": 400, "width": 6}
DONE, FAILED = (f'lightgnn_reloads_total{{result="{result}"}}' for result in ("done", "failed"))


@pytest.fixture
def file(tmp_path):
    return write_model(tmp_path / "model.lgnn", seed=3, **WORLD)


# --- kinds of models -------------------------------------------------------------------------


def test_names_that_are_not_numbers(tmp_path):
    file = write_model(tmp_path / "model.lgnn", names="words")
    recommender = Recommender.load(file)
    users = recommender.users.names(slice(None, -1)).tolist()
    assert "" in users
    assert any("日" in user for user in users)
    with Service(file) as service:
        got = service.post("/recommend", users=users, k=3)
        assert got == {"answers": rows(recommender.recommend(users, 3))}
        assert service.get("/recommend?user=&k=3") == rows(recommender.recommend([""], 3))[0]


def test_hashed_names_with_their_key(tmp_path):
    plain, key, ids = random_model(names="none"), derive_key(SECRET), []
    for what, size in (("user", len(plain.users)), ("item", len(plain.items))):
        hashes = np.sort(hash_tokens(what, [f"n{n}" for n in range(size)], key))
        ids.append(Hashes(what, hashes, key))
    model = Model(*ids, plain.user, plain.item, plain.graph, plain.seen, plain.card)
    file, secret = tmp_path / "model.lgnn", tmp_path / "secret"
    file.write_bytes(file_of(model, secret=SECRET))
    secret.write_bytes(SECRET)
    with Service(file, f"--key={secret}") as service:
        got = service.get("/recommend?user=n4&k=3")
        assert got == rows(Recommender.load(file, SECRET).recommend(["n4"], 3))[0]
        assert service.ask("POST", "/recommend", b'{"users": ["\\ud800"]}')[0] == 422


def test_final_embeddings_refuse_explain_and_fold_in(tmp_path):
    with Service(write_model(tmp_path / "model.lgnn", final=True)) as service:
        assert service.get("/model")["form"] == "final"
        for request in (
            ("GET", "/explain?user=0&item=0"),
            ("POST", "/fold_in", {"items": ["0"]}),
        ):
            status, problem = service.ask(*request)
            assert (status, problem["expected"]) == (409, "a model exported with --form graph")


# --- many connections ------------------------------------------------------------------------


def test_connections_without_a_request_do_not_use_up_the_open_files(file):
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
    try:
        service = Service(file)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    with service, ExitStack() as connections:
        for _ in range(400):
            connection = socket.create_connection(("127.0.0.1", service.port), SECONDS)
            connections.enter_context(connection).sendall(b"GET /health HT")
        assert service.get("/health")["status"] == "ok"
        assert service.logged() == ""


# --- stopping --------------------------------------------------------------------------------


def start_request(service, body):
    """Send all of a request but the last byte; returns its connection."""
    connection = socket.create_connection(("127.0.0.1", service.port), SECONDS)
    before = service.metrics()["lightgnn_requests_in_flight"]
    head = "POST /recommend HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n"
    head = f"{head}Content-Length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body[:-1])
    wait_until(lambda: service.metrics()["lightgnn_requests_in_flight"] == before + 1)
    return connection


def finish_request(connection, body):
    """Send the last byte; returns status and content."""
    connection.sendall(body[-1:])
    response = http.client.HTTPResponse(connection)
    response.begin()
    content = json.loads(response.read())
    connection.close()
    return response.status, content


def refuses(port):
    """Whether the port refuses connections."""
    try:
        socket.create_connection(("127.0.0.1", port), SECONDS).close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_requests_in_flight_are_answered_before_it_stops(file, number):
    names = [str(7 * n) for n in range(100)]
    expected = {"answers": rows(Recommender.load(file).recommend(names, 400))}
    body = json.dumps({"users": names, "k": 400}).encode()
    with Service(file) as service:
        waiting = [start_request(service, body) for _ in range(5)]
        service.process.send_signal(number)
        wait_until(lambda: refuses(service.port))
        assert service.process.poll() is None
        with ThreadPoolExecutor(len(waiting)) as threads:
            for found in threads.map(finish_request, waiting, [body] * len(waiting)):
                assert found == (200, expected)
        assert service.process.wait(SECONDS) == 0
        assert service.process.stdout.read() == "stopped\n"
        assert service.logged() == ""


# --- reloading -------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_new_file_is_served_and_a_broken_one_is_not(file, tmp_path):
    other = write_model(tmp_path / "other.lgnn", seed=4, **WORLD)
    one, two = (rows(Recommender.load(path).recommend(["7"], 10))[0] for path in (file, other))
    assert one != two
    with Service(file) as service:
        waiting = start_request(service, body := b'{"users": ["7"]}')
        assert service.get("/recommend?user=7") == one

        shutil.copy(other, tmp_path / "new.lgnn")
        (tmp_path / "new.lgnn").replace(file)
        wait_until(lambda: service.get("/recommend?user=7") == two)
        assert finish_request(waiting, body) == (
            200,
            {"answers": [two]},
        )  # the model is read when the body is complete

        whole = file.read_bytes()
        for broken, why in (
            (whole[:-1], "cut off"),
            (b"", "is not a model of"),
            (None, "no file at"),
        ):
            file.unlink() if broken is None else file.write_bytes(broken)
            wait_until(lambda why=why: why in (service.get("/health")["reload_error"] or ""))
            assert service.get("/health")["status"] == "ok"
            assert service.get("/recommend?user=7") == two
            assert f"ERROR the previous model is still served: {file}" in service.logged()
        failed = service.metrics()[FAILED]
        assert failed >= 3

        file.write_bytes(whole)
        wait_until(lambda: service.get("/health")["reload_error"] is None)
        loaded = service.metrics()["lightgnn_model_loaded_seconds"]
        service.process.send_signal(signal.SIGHUP)
        wait_until(lambda: service.metrics()["lightgnn_model_loaded_seconds"] > loaded)
        after = service.metrics()
        assert (after[DONE], after[FAILED]) == (3, failed)


def test_a_file_written_over_does_not_change_what_is_served(tmp_path):
    file = write_model(tmp_path / "model.lgnn", seed=3, final=True, **WORLD)
    with Service(file) as service:
        before = service.post("/recommend", users=["7"], k=400)
        with file.open("r+b") as content:  # a mapped file would now be zeros or cause a crash
            content.write(b"\0" * 5000)
            content.truncate(5000)
        assert service.post("/recommend", users=["7"], k=400) == before
        wait_until(lambda: service.get("/health")["reload_error"])
        assert service.post("/recommend", users=["7"], k=400) == before


def test_every_answer_is_of_one_model_while_the_file_is_replaced(file, tmp_path):
    contents = [file.read_bytes(), file_of(random_model(4, **WORLD))]
    names, answers = [str(7 * n) for n in range(100)], []
    for content in contents:
        (tmp_path / "one.lgnn").write_bytes(content)
        ranked = Recommender.load(tmp_path / "one.lgnn").recommend(names, 40)
        answers.append({"answers": rows(ranked)})
    done = threading.Event()

    def ask_until_done(service):
        """Numbers of the models that answered."""
        found = set()
        while not done.is_set():
            found.add(answers.index(service.post("/recommend", users=names, k=40)))
        return found

    with Service(file) as service, ThreadPoolExecutor(3) as threads:
        found = threads.map(ask_until_done, [service] * 3)
        try:
            for turn in range(1, 4):
                (tmp_path / "new.lgnn").write_bytes(contents[turn % 2])
                (tmp_path / "new.lgnn").replace(file)
                wait_until(lambda turn=turn: service.metrics()[DONE] == turn)
        finally:
            done.set()
        assert set().union(*found) == {0, 1}


# --- before serving --------------------------------------------------------------------------


def bad(capsys, *arguments):
    """The one line of a command that fails with status 2."""
    assert main(list(arguments)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_bad_input_ends_in_one_line(capsys, file, monkeypatch):
    assert bad(capsys, "serve", "none.lgnn", "--port=0").startswith("error: no file at none.lgnn")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = bad(capsys, "serve", str(file), f"--port={port}")
        assert f"cannot listen at 127.0.0.1, port {port} (" in line
    for port in (-1, 65536):
        line = bad(capsys, "serve", str(file), f"--port={port}")
        assert f"--port must be from 0 to 65535, got {port}" in line
    for host in ("no.such.host.invalid", "." * 100):
        assert f"cannot listen at {host}" in bad(capsys, "serve", str(file), f"--host={host}")
    file.write_bytes(file.read_bytes()[:-1])
    assert "is cut off" in bad(capsys, "serve", str(file), "--port=0")
    monkeypatch.setattr("recbole_lightgnn.cli.serve.find_spec", lambda name: None)
    assert "pip install 'recbole-lightgnn[serve]'" in bad(capsys, "serve", str(file))


def test_sighup_while_the_first_model_loads_is_ignored(file, monkeypatch):
    ended = []
    before = signal.signal(signal.SIGHUP, lambda *_: ended.append(True))

    def loading(*_):
        signal.raise_signal(signal.SIGHUP)
        raise InputError("stop here")

    monkeypatch.setattr("recbole_lightgnn.service.current.CurrentModel", loading)
    assert main(["serve", str(file), "--port=0"]) == 2
    signal.signal(signal.SIGHUP, before)
    assert not ended


# --- requests generated from openapi.json ----------------------------------------------------

REFUSED = """
[checks.negative_data_rejection]
expected-statuses = [400, 404, 405, 409, 413, 415, 422]
"""


def with_names(document, names):
    """The OpenAPI document with names restricted to these."""
    if isinstance(document, list):
        return [with_names(part, names) for part in document]
    if not isinstance(document, dict):
        return document
    if str(document.get("description", "")).startswith("name in the model file"):
        return document | {"enum": names}
    return {key: with_names(part, names) for key, part in document.items()}


@pytest.mark.slow
@pytest.mark.parametrize("known", [False, True])
def test_generated_requests_get_documented_responses(tmp_path, known):
    world = {"n_users": 1000, "n_items": 1000, "width": 4, "names": "none"}
    with Service(write_model(tmp_path / "model.lgnn", **world)) as service:
        document = service.get("/openapi.json")
        if known:  # otherwise most requests fail at an unknown name
            document = with_names(document, ["0", "1", "998"])
        Path("document.json").write_text(json.dumps(document))
        Path("schemathesis.toml").write_text(REFUSED)
        command = ["run", "document.json", f"--url=http://127.0.0.1:{service.port}"]
        command += ["--checks=all", "--seed=1", "--max-examples=50", "--no-color"]
        command += ["--generation-database=none"]
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                "from schemathesis.cli import schemathesis; schemathesis()",
                *command,
            ],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout[-5000:]
        assert service.logged() == ""
        assert not any('status="5' in name for name in service.metrics())
        assert service.stop() == 0
