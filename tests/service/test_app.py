"""Answers of the service: a real process, queried over the network."""

import socket

import pytest
from helpers.model_files import write_model
from helpers.service_process import SECONDS, Service, answer_of, rows, wait_until

from recbole_lightgnn.serving.recommender import Recommender


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    file = tmp_path_factory.mktemp("service") / "model.lgnn"
    write_model(file, seed=3, n_users=300, n_items=400, width=6)
    with Service(file) as found:
        found.recommender = Recommender.load(file)
        yield found
        assert found.stop() == 0


# --- answers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("seen", [True, False])
def test_one_user_gets_the_answer_of_the_recommender(service, seen):
    for user, k in (("0", 1), ("700", 10), ("2093", 400)):
        got = service.get(f"/recommend?user={user}&k={k}&exclude_seen={str(seen).lower()}")
        assert got == rows(service.recommender.recommend([user], k, seen))[0]
    assert len(service.get("/recommend?user=7")["items"]) == 10


def test_several_users_get_the_answers_of_the_recommender(service):
    users = [str(7 * n) for n in (5, 0, 299, 5)]
    got = service.post("/recommend", users=users, k=7)
    assert got == {"answers": rows(service.recommender.recommend(users, 7))}
    got = service.post("/recommend", users=users, k=400, exclude_seen=False)
    assert got == {"answers": rows(service.recommender.recommend(users, 400, False))}
    only = ["21", "14", "2793"]
    got = service.post("/recommend", users=users, k=7, filter_items=only)
    assert got == {"answers": rows(service.recommender.recommend(users, 7, True, only))}
    assert all(set(answer["items"]) <= set(only) for answer in got["answers"])
    gone = ["7", "14", "21"]
    got = service.post("/recommend", users=users, k=400, exclude_seen=False, exclude_items=gone)
    assert got == {"answers": rows(service.recommender.recommend(users, 400, False, None, gone))}
    assert {len(answer["items"]) for answer in got["answers"]} == {397}
    assert service.post("/recommend", users=["7"], k=3.0) == service.post(
        "/recommend", users=["7"], k=3
    )


def test_scores_similar_items_fold_in_and_explain_are_the_recommenders(service):
    users, items = ["0", "7", "0"], ["14", "14", "0"]
    got = service.post("/score", pairs=list(zip(users, items, strict=True)))
    assert got == {"scores": service.recommender.score(users, items).tolist()}
    assert service.post("/score", pairs=[]) == {"scores": []}
    got = service.post("/similar_items", items=["70", "7"], k=5)
    assert got == {"answers": rows(service.recommender.similar_items(["70", "7"], 5))}
    got = service.post("/fold_in", items=["70", "7", "70"], k=5)
    assert got == rows(service.recommender.fold_in(["70", "7"], 5))[0]
    explanation = service.recommender.explain("70", "14")
    got = service.get("/explain?user=70&item=14")
    assert got == {
        "score": explanation.score,
        "own": explanation.own,
        "items": explanation.items.tolist(),
        "weights": explanation.weights.tolist(),
        "contributions": explanation.contributions.tolist(),
    }
    assert got["own"] + sum(got["contributions"]) == pytest.approx(got["score"], abs=1e-4)


def test_card_health_and_openapi_document(service):
    about = service.get("/model")
    assert about["card"] == {"seed": 3, "valid": {"recall@20": 0.25}}
    assert (about["users"], about["items"], about["form"]) == (300, 400, "graph")
    assert about["file"] == "model.lgnn"
    assert service.get("/health")["status"] == "ok"
    assert service.get("/health")["reload_error"] is None
    document = service.get("/openapi.json")
    assert document["openapi"].startswith("3.")
    methods = {path: sorted(path_item) for path, path_item in document["paths"].items()}
    assert methods == {
        **{"/recommend": ["get", "post"], "/explain": ["get"]},
        **{path: ["post"] for path in ("/score", "/similar_items", "/fold_in")},
        **{path: ["get"] for path in ("/model", "/health", "/metrics")},
    }
    users = document["components"]["schemas"]["Users"]["properties"]["users"]
    assert (users["minItems"], users["maxItems"]) == (1, 256)


def test_requests_are_counted(service):
    before = service.metrics()
    service.get("/recommend?user=7")
    service.ask("GET", "/recommend?user=8")
    service.ask("GET", "/no/such/path")
    after = service.metrics()

    def increase(name):
        return after[name] - before.get(name, 0)

    assert increase('lightgnn_requests_total{path="/recommend",status="200"}') == 1
    assert increase('lightgnn_requests_total{path="/recommend",status="404"}') == 1
    assert increase('lightgnn_requests_total{path="other",status="404"}') == 1
    assert increase("lightgnn_request_seconds_count") == 4  # including the first GET /metrics
    assert increase('lightgnn_request_seconds_bucket{le="+Inf"}') == 4
    assert increase("lightgnn_request_seconds_sum") > 0
    within = [value for name, value in after.items() if "_bucket" in name]
    assert within == sorted(within)
    assert after["lightgnn_requests_in_flight"] == 1
    assert after["process_resident_memory_bytes"] > 10e6


# --- bad requests ----------------------------------------------------------------------------


def users(*names, **others):
    return {"users": list(names), **others}


BAD = {
    "a long name": ("POST", "/recommend", users("0" * 513), 422, "users[0] is not", '"000'),
    "a long name alone": ("GET", f"/recommend?user={'0' * 513}", None, 422, "user is", '"000'),
    "an unknown user": ("POST", "/recommend", users("0", "8"), 404, "no user '8'", '"8"'),
    "an unknown user alone": ("GET", "/recommend?user=x", None, 404, "no user 'x'", '"x"'),
    "an unknown item": ("POST", "/similar_items", {"items": ["-7"]}, 404, "no item '-7'", '"-7"'),
    "an unknown item to score": ("POST", "/score", {"pairs": [["0", "1"]]}, 404, "no item", '"1"'),
    "an unknown item had": ("POST", "/fold_in", {"items": ["1"]}, 404, "no item '1'", '"1"'),
    "an unknown item explained": ("GET", "/explain?user=0&item=1", None, 404, "no item", '"1"'),
    "an unknown item to filter": (
        *("POST", "/recommend", users("0", filter_items=["x"])),
        *(404, "no item 'x'", '"x"'),
    ),
    "half a character": ("POST", "/recommend", b'{"users": ["\\ud800"]}', 422, "users[0]", "ud800"),
    "k of more than there is": ("POST", "/recommend", users("0", k=401), 422, "items, 400", None),
    "k of zero": ("GET", "/recommend?user=0&k=0", None, 422, "k is not", '"0"'),
    "k below zero": ("POST", "/recommend", users("0", k=-1), 422, "k is not", "-1"),
    "k that is huge": ("POST", "/recommend", users("0", k=10**30), 422, "k is not", "1000000"),
    "k that is true": ("POST", "/recommend", users("0", k=True), 422, "k is not", "true"),
    "k in quotes": ("POST", "/recommend", users("0", k="10"), 422, "k is not", '"10"'),
    "k with a fraction": ("POST", "/recommend", users("0", k=1.5), 422, "k is not", "1.5"),
    "k of NaN": ("POST", "/recommend", b'{"users": ["0"], "k": NaN}', 422, "k is not", "NaN"),
    "k of 1e999": ("POST", "/fold_in", b'{"items": ["0"], "k": 1e999}', 422, "k is", "Infinity"),
    "k of 5000 digits": (
        *("POST", "/recommend", b'{"users": ["0"], "k": %s}' % (b"1" * 5000)),
        *(400, "error parsing the body", "POST"),
    ),
    "NaN for a user": ("POST", "/recommend", b'{"users": [NaN]}', 422, "users[0]", "NaN"),
    "Infinity for an item": ("POST", "/fold_in", b'{"items": [-Infinity]}', 422, "items[0]", "-In"),
    "a number for a user": ("POST", "/recommend", users("0", 7), 422, "users[1]", "7"),
    "a text for a list": ("POST", "/recommend", {"users": "0"}, 422, "users is not", '"0"'),
    "an object for a list": ("POST", "/recommend", {"users": {"0": 1}}, 422, "users is", '{"0"'),
    "null for a list": ("POST", "/recommend", {"users": None}, 422, "users is not", "null"),
    "no users": ("POST", "/recommend", users(), 422, "users is not", "[]"),
    "users left out": ("POST", "/recommend", {}, 422, "users is missing", "nothing"),
    "no items had": ("POST", "/fold_in", {"items": []}, 422, "items is not", "[]"),
    "a user left out": ("GET", "/recommend", None, 422, "user is missing", "nothing"),
    "a user twice": ("GET", "/recommend?user=0&user=7", None, 422, "user is given 2 times", None),
    "k in two places": ("POST", "/recommend?k=3", users("0"), 422, "the URL has parameters", "k"),
    "a misspelt field": ("POST", "/recommend", users("0", K=3), 422, "K is not a known field", "3"),
    "a field of half a character": (
        *("POST", "/recommend", b'{"users": ["0"], "\\ud800": 1}'),
        *(422, "the body is not", "ud800"),
    ),
    "a field with a long name": (
        *("POST", "/recommend", users("0", **{"x" * 10**5: 1})),
        *(422, "xxx", "1"),
    ),
    "a misspelt parameter": (
        "GET",
        "/recommend?user=0&K=3",
        None,
        422,
        "K is not a known field",
        '"3"',
    ),
    "seen that is no truth": (
        *("POST", "/recommend", users("0", exclude_seen="no")),
        *(422, "exclude_seen is not", '"no"'),
    ),
    "an item too few": ("POST", "/score", {"pairs": [["0"]]}, 422, "pairs[0] is not", '["0"]'),
    "an item too many": ("POST", "/score", {"pairs": [["0"] * 3]}, 422, "pairs[0]", "3 of them"),
    "an unknown item to leave out": (
        *("POST", "/recommend", users("0", exclude_items=["x"])),
        *(404, "no item 'x'", '"x"'),
    ),
    "too many users": (
        *("POST", "/recommend", {"users": ["0"] * 257}),
        *(422, "users is not", "257 of them"),
    ),
    "a million users": ("POST", "/recommend", users(*["0"] * 10**6), 413, "too large", "bytes"),
    "no body": ("POST", "/recommend", b"", 422, "the body is missing", "nothing"),
    "a body of text": ("POST", "/recommend", b"users=0", 400, "not JSON", "Expecting"),
    "half a body": ("POST", "/recommend", b'{"users": ["0"', 400, "not JSON", "Expecting"),
    "a body of bytes": ("POST", "/recommend", b"\xff\xfe\x00", 400, "", None),
    "a body of a list": ("POST", "/recommend", ["0"], 422, "the body is not", '["0"]'),
    "a body of brackets": ("POST", "/recommend", b"[" * 10**5, 400, "", None),
    "a foreign path": ("GET", "/users/0", None, 404, "Not Found", "GET /users/0"),
    "a path with an end": ("GET", "/health/", None, 404, "Not Found", "GET /health/"),
    "a foreign method": ("DELETE", "/recommend", None, 405, "Not Allowed", "DELETE /recommend"),
    "another path's method": ("GET", "/score", None, 405, "Not Allowed", "GET /score"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_requests_get_an_error_that_says_what_is_wrong(service, case):
    method, path, body, status, what, got = BAD[case]
    found, problem = service.ask(method, path, body)
    assert found == status, problem
    assert set(problem) == {"what", "got", "expected"}
    assert what in problem["what"]
    assert got is None or got in problem["got"]
    assert len(problem["got"] or "") <= 60
    assert len(problem["what"]) <= 200
    assert service.get("/recommend?user=0&k=1") == rows(service.recommender.recommend(["0"], 1))[0]
    assert service.process.poll() is None


def test_the_error_for_an_unknown_user_reveals_no_other_name(service):
    status, problem = service.ask("GET", "/recommend?user=8")
    assert (status, problem["what"]) == (404, "no user '8'")
    assert problem["expected"] == "the name of one of the model's users"


def test_allowed_methods_are_reported(service):
    connection = service.connect()
    connection.request("OPTIONS", "/recommend")
    response = connection.getresponse()
    assert (response.status, response.headers["Allow"]) == (405, "GET, POST")
    connection.close()


@pytest.mark.parametrize(
    ("headers", "got"),
    [
        ({}, "no Content-Type"),
        ({"Content-Type": "text/plain"}, "Content-Type: text/plain"),
        ({"Content-Type": "x" * 1000}, f"Content-Type: {'x' * 43}..."),
    ],
)
def test_a_body_that_is_not_declared_as_json(service, headers, got):
    status, problem = service.ask("POST", "/recommend", b'{"users": ["0"]}', headers)
    expected = "Content-Type: application/json"
    assert (status, problem["got"], problem["expected"]) == (415, got, expected)


def test_other_spellings_of_the_json_content_type(service):
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert service.ask("POST", "/recommend", b'{"users": ["0"]}', headers)[0] == 200


HEAD = b"POST /recommend HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(
    "sent",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"GET /health HTTP/1.1\r\n\r\n",  # without a Host header
        b"GET /\x00 HTTP/1.1\r\nHost: here\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: here\r\nX: " + b"x" * 10**5,
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nx\r\n",
    ],
)
def test_invalid_http_gets_an_error(service, sent):
    with socket.create_connection(("127.0.0.1", service.port), SECONDS) as connection:
        connection.sendall(sent)
        answer = b""
        while b"}" not in answer:
            part = connection.recv(1 << 16)
            assert part, answer
            answer += part
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"content-type: application/json" in answer
    assert b'"what":"this is not an HTTP request"' in answer
    assert service.get("/health")["status"] == "ok"


def test_a_large_body_in_chunks_is_refused_without_its_length(service):
    connection = service.connect()
    parts = (b"x" * 2**16 for _ in range(20))
    connection.request("POST", "/recommend", parts, encode_chunked=True)
    status, problem = answer_of(connection)
    assert (status, problem["expected"]) == (413, "up to 1048576 bytes")
    connection.close()


def test_a_client_that_disconnects_is_counted_and_not_in_flight(service):
    gone = 'lightgnn_requests_total{path="/recommend",status="499"}'
    before = service.metrics().get(gone, 0)
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", service.port), SECONDS) as connection:
            connection.sendall(HEAD + b"Content-Length: 100\r\n\r\nhalf")
    wait_until(lambda: service.metrics().get(gone) == before + 20)
    assert service.metrics()["lightgnn_requests_in_flight"] == 1
