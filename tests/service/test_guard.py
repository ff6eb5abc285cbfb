"""Limits of the service, its internal errors, reloads, connections and metrics."""

import asyncio
import json
import resource
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import HTTPResponse
from urllib.parse import quote

import numpy as np
import pytest
from helpers.model_files import random_model, write_model
from helpers.service_process import SECONDS, rows, wait_until

from recbole_lightgnn.service import guard, process
from recbole_lightgnn.service.app import create_app
from recbole_lightgnn.service.current import CurrentModel
from recbole_lightgnn.service.guard import Guard
from recbole_lightgnn.service.metrics import RequestMetrics, family


def scope(method="POST", path="/recommend", query=b""):
    """ASGI scope of a request."""
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query,
        "root_path": "",
        "headers": [(b"content-type", b"application/json")],
        "state": {},
    }


def ask(app, parts, request=None):
    """Send a body in parts to an ASGI application; returns status, headers and content.

    A part that is a dict is sent as an ASGI message. After the last part, nothing more arrives.
    """
    left, sent = list(parts), []

    async def receive():
        if left:
            part = left.pop(0)
            if isinstance(part, dict):
                return part
            return {"type": "http.request", "body": part, "more_body": bool(left)}
        return await asyncio.Future()  # never completes

    async def send(message):
        sent.append(message)

    asyncio.run(app(request or scope(), receive, send))
    if not sent:
        return None
    body = b"".join(message.get("body", b"") for message in sent[1:])
    return sent[0]["status"], dict(sent[0]["headers"]), json.loads(body)


class Echo:
    """ASGI application that answers with the request's body."""

    async def __call__(self, scope, receive, send):
        message = await receive()
        assert not message["more_body"]
        body = json.dumps(message["body"].decode()).encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})


@pytest.fixture
def guarded():
    return Guard(Echo(), RequestMetrics(), {"/recommend"})


def test_a_body_in_parts_is_passed_on_in_one_piece(guarded):
    assert ask(guarded, [b"one ", b"", b"two"])[::2] == (200, "one two")


def test_the_largest_body_is_accepted_and_a_larger_one_refused(guarded, monkeypatch):
    monkeypatch.setattr(guard, "MAX_BODY_BYTES", 8)
    monkeypatch.setattr(guard, "_MAX_DRAINED", 20)
    assert ask(guarded, [b"1234", b"5678"])[::2] == (200, "12345678")
    for parts in ([b"1234", b"56789"], [b"1" * 30, b"never read"]):
        status, headers, problem = ask(guarded, parts)
        size = sum(map(len, parts[:1] if len(parts[0]) > 20 else parts))
        assert status == 413
        assert headers[b"connection"] == b"close"
        assert problem["got"] == f"{size} bytes or more"
        assert problem["expected"] == "up to 8 bytes"


def test_a_body_that_does_not_arrive_is_refused(guarded, monkeypatch):
    monkeypatch.setattr(guard, "MAX_BODY_SECONDS", 0.05)
    started = {"type": "http.request", "body": b"half", "more_body": True}
    status, headers, problem = ask(guarded, [started])
    assert (status, problem["got"]) == (408, "4 bytes")
    assert headers[b"connection"] == b"close"
    assert guarded._requests.in_flight == 0


def test_a_client_that_disconnects_gets_no_answer(guarded):
    assert ask(guarded, [{"type": "http.disconnect"}]) is None
    assert guarded._requests.in_flight == 0
    assert 'path="/recommend",status="499"} 1\n' in next(guarded._requests.families())


def test_too_many_requests_in_flight_are_refused(guarded, monkeypatch):
    guarded._requests.in_flight = guard.MAX_REQUESTS
    status, headers, problem = ask(guarded, [b""])
    assert (status, problem["what"]) == (503, "too many requests at once")
    assert headers[b"retry-after"] == b"1"
    guarded._requests.in_flight = guard.MAX_REQUESTS - 1
    assert ask(guarded, [b""])[0] == 200


def test_an_internal_error_is_answered_and_counted(tmp_path):
    current = CurrentModel(write_model(tmp_path / "m.lgnn"))
    app = create_app(current)
    current.served.recommender.recommend = lambda *_: 1 / 0
    caught = []

    async def run(scope, receive, send):
        try:  # raised again after the answer, so that the server logs it
            await app(scope, receive, send)
        except ZeroDivisionError as error:
            caught.append(error)

    status, _, problem = ask(run, [b'{"users": ["0"]}'])
    assert (status, problem["what"]) == (500, "an error in the service, not in the request")
    assert len(caught) == 1
    counted = "".join(app.state.requests.families())
    assert 'lightgnn_requests_total{path="/recommend",status="500"} 1' in counted


def test_a_request_is_answered_by_the_model_it_began_with(tmp_path):
    current = CurrentModel(write_model(tmp_path / "m.lgnn", seed=1))
    old = current.served.recommender
    recommend, begun, may_go_on = old.recommend, threading.Event(), threading.Event()

    def waiting(*arguments):
        begun.set()
        assert may_go_on.wait(SECONDS)
        return recommend(*arguments)

    old.recommend = waiting
    body = b'{"users": ["0"], "k": 7}'
    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(ask, create_app(current), [body])
        assert begun.wait(SECONDS)
        write_model(tmp_path / "m.lgnn", seed=2)
        current.reload()
        new = current.served.recommender
        assert rows(new.recommend(["0"], 7)) != rows(recommend(["0"], 7))
        may_go_on.set()
        assert answer.result()[2] == {"answers": rows(recommend(["0"], 7))}
    assert ask(create_app(current), [body])[2] == {"answers": rows(new.recommend(["0"], 7))}


@pytest.mark.parametrize("names", ["none", "numbers", "words", "hashed"])
def test_requests_do_not_wait_for_lazy_tables(tmp_path, names):
    current = CurrentModel(write_model(tmp_path / "m.lgnn", names=names))
    recommender = current.served.recommender
    parts = recommender, recommender.users, recommender.items
    built = [set(vars(part)) for part in parts]
    user = random_model(names=names).users.names(np.array([3]))[0]
    for name, status in ((user, 200), ("x", 404)):
        query = f"user={quote(name)}&k=3".encode()
        assert ask(create_app(current), [b""], scope("GET", query=query))[0] == status
    assert [set(vars(part)) for part in parts] == built


def test_stopping_does_not_wait_for_a_reload(tmp_path, monkeypatch):
    current = CurrentModel(write_model(tmp_path / "m.lgnn"))
    begun, may_go_on = threading.Event(), threading.Event()

    def waiting():
        begun.set()
        assert may_go_on.wait(SECONDS)
        return current.served

    monkeypatch.setattr(current, "_load", waiting)
    with current.watching():
        current.request_reload()
        assert begun.wait(SECONDS)
    assert current.reloads == {"done": 0, "failed": 0}
    may_go_on.set()


def test_the_previous_model_is_served_after_an_unexpected_error(tmp_path, monkeypatch):
    current = CurrentModel(write_model(tmp_path / "m.lgnn"))
    before = current.served
    monkeypatch.setattr(current, "_load", lambda: 1 / 0)
    current.reload()
    assert current.served is before
    assert current.error.endswith("m.lgnn: ZeroDivisionError: division by zero")
    assert current.reloads == {"done": 0, "failed": 1}


# --- connections -----------------------------------------------------------------------------


def test_half_of_the_open_files_are_for_connections():
    assert process.max_connections(1024) == 512
    assert process.max_connections(10**6) == process.max_connections(resource.RLIM_INFINITY) == 2000


REQUEST = b"GET /health HTTP/1.1\r\nHost: here\r\n\r\n"
HALF = REQUEST[:16]  # half a request


@pytest.fixture
def port(tmp_path, monkeypatch):
    """Port of a service with at most 20 connections that waits 0.5 s for a request."""
    monkeypatch.setattr(process, "MAX_CONNECTIONS", 20)
    monkeypatch.setattr(process, "MAX_BODY_SECONDS", 0.5)
    server = process.create_server(CurrentModel(write_model(tmp_path / "m.lgnn", n_items=2000)))
    with process.open_listener("127.0.0.1", 0) as listener:
        number = listener.getsockname()[1]
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        yield number
        server.should_exit = True
        thread.join(SECONDS)


def half_open(port, sent=HALF):
    """Open a connection and send bytes, by default half a request."""
    connection = socket.create_connection(("127.0.0.1", port), SECONDS)
    connection.sendall(sent)
    return connection


def status_of(connection):
    """Read a response; returns its status."""
    response = HTTPResponse(connection)
    response.begin()
    response.read()
    return response.status


def is_closed(connection):
    """Wait until the service sends a byte or closes; returns whether it closed."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def test_a_connection_without_a_request_is_closed(port):
    for sent in (b"", HALF):
        assert is_closed(half_open(port, sent))
    again = half_open(port, REQUEST)
    assert status_of(again) == 200
    again.sendall(HALF)
    assert is_closed(again)


def test_bytes_one_by_one_do_not_keep_a_connection_open(port):
    connection = half_open(port)
    with suppress(ConnectionError):
        for _ in range(100):
            connection.sendall(b"T")
            time.sleep(0.05)
        pytest.fail("the connection is still open")


def test_beyond_the_limit_the_most_idle_connection_is_closed(port, monkeypatch):
    monkeypatch.setattr(process.H11Protocol, "timeout_keep_alive_handler", lambda _: None)
    connections = [half_open(port) for _ in range(50)]
    assert all(map(is_closed, connections[:-20]))
    assert status_of(half_open(port, REQUEST)) == 200
    assert is_closed(connections[-20])
    for connection in connections[-19:]:
        connection.sendall(REQUEST[len(HALF) :])
        assert status_of(connection) == 200


def test_a_client_that_does_not_read_its_response_is_disconnected(port, monkeypatch):
    monkeypatch.setattr(process, "MAX_UNREAD_SECONDS", 0.5)
    body = json.dumps({"users": ["0"] * 256, "k": 1000}).encode()
    head = b"POST /recommend HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n"
    request = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", port))
        connection.sendall(2 * request)  # the second waits until the first response is read

        def both_finished():
            with half_open(port, REQUEST.replace(b"health", b"metrics")) as other:
                try:
                    text = other.recv(1 << 16).decode()
                except ConnectionResetError:  # on a busy machine this client may be too slow too
                    return False
            return 'total{path="/recommend",status="200"} 2\n' in text

        wait_until(both_finished)


# --- metrics ---------------------------------------------------------------------------------


def test_metrics_in_prometheus_format():
    requests = RequestMetrics()
    requests.in_flight = 2
    for path, status, seconds in (("/a", 200, 0.0005), ("/a", 200, 0.03), ("/a", 404, 7.0)):
        requests.count(path, status, seconds)
    counted, seconds, in_flight = requests.families()
    assert counted == (
        "# HELP lightgnn_requests_total requests by path and status\n"
        "# TYPE lightgnn_requests_total counter\n"
        'lightgnn_requests_total{path="/a",status="200"} 2\n'
        'lightgnn_requests_total{path="/a",status="404"} 1\n'
    )
    within = [line.split()[1] for line in seconds.splitlines() if "_bucket" in line]
    assert within == ["1"] * 4 + ["1"] + ["2"] * 7 + ["3"]
    assert 'lightgnn_request_seconds_bucket{le="0.05"} 2\n' in seconds
    assert "lightgnn_request_seconds_sum 7.0305\n" in seconds
    assert "lightgnn_request_seconds_count 3\n" in seconds
    assert in_flight.endswith("\nlightgnn_requests_in_flight 2\n")


def test_a_metric_without_labels():
    assert family("m", "gauge", "what it is", [("", {}, 1.5)]).splitlines() == [
        "# HELP m what it is",
        "# TYPE m gauge",
        "m 1.5",
    ]
