"""``recbole-lightgnn data download`` against a local test server that can also fail."""

import hashlib
import pickle
import re
import resource
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from helpers.paths import SHARED

from recbole_lightgnn.cli import data as command
from recbole_lightgnn.cli.main import main
from recbole_lightgnn.data import download
from recbole_lightgnn.data.paper import import_paper

FILES = ("trnMat.pkl", "valMat.pkl", "tstMat.pkl")
CACHE = Path("cache/sparse_yelp")


def git_id(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves ``files`` (bytes by path); a function in ``faults`` answers its path once instead."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.faults, self.supports_range = {}, {}, True
        self.requests = []  # (path, Range header)
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_):
        """Print nothing when a client closes its connection."""


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server, ranged = self.server, self.headers["Range"]
        server.requests.append((self.path, ranged))
        if self.path in server.faults:
            return server.faults.pop(self.path)(self)
        content = server.files.get(self.path)
        if content is None:
            return self.send_error(404)
        if not (ranged and server.supports_range):
            return self.give(200, content)
        start = int(re.fullmatch(r"bytes=(\d+)-", ranged)[1])
        if start >= len(content):
            return self.send_error(416)
        span = f"bytes {start}-{len(content) - 1}/{len(content)}"
        return self.give(206, content[start:], {"Content-Range": span})

    def give(self, status, body, headers=(), length=None):
        self.send_response(status)
        for key, value in dict(headers).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def published(server, monkeypatch):
    """Serve the three files of a small split, and expect their ids for Yelp."""
    contents = {}
    for shift, file in enumerate(FILES):
        users = np.arange(300)
        pairs = (np.ones(300), (users, (users + shift) % 300))
        contents[file] = pickle.dumps(sp.coo_matrix(pairs, shape=(300, 300)), protocol=4)
        server.files[f"/sparse_yelp/{file}"] = contents[file]
    ids = {file: git_id(content) for file, content in contents.items()}
    monkeypatch.setitem(download.BLOB_IDS, "yelp", ids)
    return contents


def fetch(server, *flags, url=None):
    base = ["data", "download", "yelp", "--cache=cache", "--timeout=5"]
    return main([*base, f"--url={url or server.url}", *flags])


def refused(capsys, server, *flags, **how):
    """Download, expect the exit status for bad input, and return the one line of the error."""
    assert fetch(server, *flags, **how) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert not Path("dataset").exists()
    return line


def cached():
    return {path.name: path.read_bytes() for path in CACHE.iterdir()}


def first(fault):
    """A fault for the first requested file."""
    return {"/sparse_yelp/trnMat.pkl": fault}


def cut(handler):
    """Send half of the file, then close the connection."""
    content = handler.server.files[handler.path]
    handler.give(200, content[: len(content) // 2], length=len(content))
    handler.close_connection = True


def stall(handler):
    """Send half of the file, then nothing for 2 seconds."""
    content = handler.server.files[handler.path]
    handler.give(200, content[: len(content) // 2], length=len(content))
    handler.wfile.flush()
    time.sleep(2)


def redirect_to(where):
    def answer(handler):
        handler.give(302, b"", {"Location": where})

    return answer


# --- success --------------------------------------------------------------------------------


def test_files_are_downloaded_checked_and_imported(server, published, capsys):
    assert fetch(server) == 0
    assert cached() == published
    assert "wrote dataset/yelp; run it with --dataset=yelp" in capsys.readouterr().out
    assert Path("dataset/yelp/yelp.train.inter").read_text().count("\n") == 301
    assert [path for path, _ in server.requests] == [f"/sparse_yelp/{file}" for file in FILES]

    server.requests.clear()
    assert fetch(server, "--overwrite") == 0
    assert server.requests == [], "a file in the cache was downloaded again"
    assert fetch(server) == 2
    assert "already exists; give --overwrite" in capsys.readouterr().err


def test_no_import_only_downloads_the_files(server, published, capsys):
    assert fetch(server, "--no-import", url=f"{server.url}/") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "downloaded cache/sparse_yelp"
    assert cached() == published
    assert not Path("dataset").exists()


def test_an_existing_dataset_is_an_error_before_the_download(server, published, capsys):
    Path("elsewhere/yelp").mkdir(parents=True)
    Path("elsewhere/yelp/yelp.inter").write_text("mine")
    assert fetch(server, "--data_path=elsewhere") == 2
    assert "already exists" in capsys.readouterr().err
    assert server.requests == []


def test_the_cache_follows_the_xdg_specification(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for value in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert download.default_cache() == tmp_path / ".cache" / "recbole-lightgnn"
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert download.default_cache() == Path("/somewhere/recbole-lightgnn")


def test_a_redirect_is_followed(server, published):
    server.files["/other"] = published["trnMat.pkl"]
    server.faults = first(redirect_to("/other"))
    assert fetch(server) == 0
    assert cached() == published


# --- interrupted and continued --------------------------------------------------------------


@pytest.mark.parametrize("fault", [cut, stall])
@pytest.mark.parametrize("supports_range", [True, False])
def test_an_interrupted_download_is_continued(server, published, capsys, fault, supports_range):
    content = published["trnMat.pkl"]
    half = len(content) // 2
    server.faults, server.supports_range = first(fault), supports_range
    line = refused(capsys, server, "--timeout=0.3")
    reason = {
        cut: f"the connection closed after {half} of {len(content)} bytes",
        stall: "no answer in time (--timeout)",
    }[fault]
    assert (
        f"{server.url}/sparse_yelp/trnMat.pkl cannot be downloaded: {reason}; {half} bytes" in line
    )
    assert cached() == {"trnMat.pkl.partial": content[:half]}

    server.requests.clear()
    assert fetch(server) == 0
    assert server.requests[0] == ("/sparse_yelp/trnMat.pkl", f"bytes={half}-")
    assert cached() == published


def test_a_complete_partial_file_is_only_renamed(server, published):
    CACHE.mkdir(parents=True)
    (CACHE / "trnMat.pkl.partial").write_bytes(published["trnMat.pkl"])
    assert fetch(server) == 0
    assert "/sparse_yelp/trnMat.pkl" not in dict(server.requests)
    assert cached() == published


def test_a_partial_file_that_is_too_long_is_downloaded_anew(server, published, capsys):
    CACHE.mkdir(parents=True)
    (CACHE / "trnMat.pkl.partial").write_bytes(published["trnMat.pkl"] + b"more")
    assert "is shorter than" in refused(capsys, server)
    assert fetch(server) == 0
    assert cached() == published


def test_an_answer_from_another_position_is_downloaded_anew(server, published):
    """The server answers 206 (partial content) with bytes that were not requested."""
    content = published["trnMat.pkl"]
    CACHE.mkdir(parents=True)
    (CACHE / "trnMat.pkl.partial").write_bytes(content[:100])
    span = {"Content-Range": f"bytes 0-{len(content) - 1}/{len(content)}"}
    server.faults = first(lambda handler: handler.give(206, content, span))
    assert fetch(server) == 0
    assert cached() == published


def test_interrupted_by_the_user(server, published, capsys, monkeypatch):
    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(download, "blob_id", interrupt)
    assert fetch(server) == 130
    assert capsys.readouterr().err == "interrupted\n"
    assert cached() == {"trnMat.pkl.partial": published["trnMat.pkl"]}


# --- refused --------------------------------------------------------------------------------


def test_a_file_with_another_id_is_removed(server, published, capsys):
    wrong = published["trnMat.pkl"][:-1] + b"?"
    server.faults = first(lambda handler: handler.give(200, wrong))
    line = refused(capsys, server)
    assert f"git blob id {git_id(wrong)}, expected {git_id(published['trnMat.pkl'])}" in line
    assert cached() == {}
    assert fetch(server) == 0


def test_a_changed_file_in_the_cache_is_downloaded_again(server, published):
    assert fetch(server, "--no-import") == 0
    (CACHE / "valMat.pkl").write_bytes(b"changed")
    server.requests.clear()
    assert fetch(server) == 0
    assert [path for path, _ in server.requests] == ["/sparse_yelp/valMat.pkl"]
    assert cached() == published


def test_a_file_that_does_not_exist(server, published, capsys):
    del server.files["/sparse_yelp/valMat.pkl"]
    line = refused(capsys, server)
    assert f"{server.url}/sparse_yelp/valMat.pkl cannot be downloaded: 404 Not Found" in line
    assert "--url" in line
    assert set(cached()) == {"trnMat.pkl"}


def test_a_server_that_never_answers(server, published, capsys):
    server.faults = first(lambda handler: time.sleep(2))
    start = time.monotonic()
    assert "no answer in time (--timeout); try again" in refused(capsys, server, "--timeout=0.3")
    assert time.monotonic() - start < 1.5


def test_no_server_at_all(capsys, server, published):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        assert "Connection refused; try again" in refused(capsys, server, url=url)


def test_a_server_that_does_not_speak_http(capsys, server, published):
    server.faults = first(lambda handler: handler.wfile.write(b"220 welcome\r\n\r\n"))
    assert "cannot be downloaded: 220 welcome; try again" in refused(capsys, server)


def test_a_file_that_is_too_long(capsys, server, published, monkeypatch):
    monkeypatch.setattr(download, "MAX_BYTES", 1000)
    assert "is longer than 1000 bytes" in refused(capsys, server)
    assert cached() == {"trnMat.pkl.partial": b""}


@pytest.mark.parametrize("where", ["file:///etc/hostname", "ftp://127.0.0.1/x"])
def test_a_redirect_elsewhere_is_not_followed(capsys, server, published, where):
    server.faults = first(redirect_to(where))
    line = refused(capsys, server)  # urllib itself rejects file:
    assert re.search(rf"[Rr]edirect\w* to .*{where}.* is not (followed|allowed)", line)


def test_a_redirect_to_no_address(capsys, server, published):
    server.faults = first(redirect_to("http://["))
    assert "trnMat.pkl cannot be downloaded: Invalid IPv6 URL" in refused(capsys, server)


def test_no_disk_space_in_the_cache(capsys, server, published):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (1000, limits[1])
    )  # bytes per file; acts like a full disk
    try:
        line = refused(capsys, server)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "cache cache/sparse_yelp cannot be used: File too large; choose another" in line
    assert fetch(server) == 0


def test_redirects_without_end(capsys, server, published):
    for n in range(20):
        server.faults[f"/{n}"] = redirect_to(f"/{n + 1}")
    server.faults |= first(redirect_to("/0"))
    assert "cannot be downloaded: 302" in refused(capsys, server)
    assert len(server.requests) == download.MAX_REDIRECTS + 1


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        *(
            ([f"--url={url}"], f"--url {url!r}: expected an address, http://... or https://...")
            for url in ("file:///etc", "ftp://a/b", "a/b", "http://", "http://[", "http://a:b", "")
        ),
        (["--url=http://a/ä"], "expected an address"),
        (["--timeout=0"], "--timeout must be in (0, 86400] seconds, got 0"),
        (["--timeout=nan"], "--timeout must be in (0, 86400] seconds, got nan"),
        (["--timeout=inf"], "--timeout must be in (0, 86400] seconds, got inf"),
        (["--cache=file"], "cache file/sparse_yelp cannot be used: Not a directory"),
    ],
)
def test_invalid_flags(capsys, server, published, flags, why):
    Path("file").write_text("")
    assert why in refused(capsys, server, *flags)
    assert server.requests == []


def test_an_unknown_name_is_an_error_of_one_line(capsys):
    assert main(["data", "download", "netflix"]) == 2
    assert "invalid choice: 'netflix'" in capsys.readouterr().err


# --- the published files --------------------------------------------------------------------


@pytest.mark.parametrize("name", download.BLOB_IDS)
def test_a_run_without_the_dataset_names_the_download_command(capsys, name):
    assert main(["run", f"--dataset={name}"]) == 2
    assert f"get it with `recbole-lightgnn data download {name}`" in capsys.readouterr().err


def test_the_ids_are_git_blob_ids(tmp_path):
    (tmp_path / "x").write_bytes(b"what is up, doc?")  # the example of the Git book
    assert download.blob_id(tmp_path / "x") == "bd9dbf5aae1a3862dd1526723246b20206e5fc37"
    assert set(download.BLOB_IDS) == set(command.PAPER_DATASETS)
    ids = [i for files in download.BLOB_IDS.values() for i in files.values()]
    assert len(set(ids)) == 9
    assert all(re.fullmatch("[0-9a-f]{40}", i) for i in ids)


@pytest.mark.data
def test_the_published_yelp_is_imported_completely(server, capsys):
    for file in FILES:
        content = (SHARED / "sparse_yelp" / file).read_bytes()
        server.files[f"/sparse_yelp/{file}"] = content
    assert fetch(server) == 0
    import_paper(SHARED / "sparse_yelp", "yelp", Path("direct"))
    for split in ("train", "valid", "test"):
        file = f"yelp/yelp.{split}.inter"
        assert Path("dataset", file).read_bytes() == Path("direct", file).read_bytes()


@pytest.mark.data
def test_the_rebuilt_train_file_of_gowalla_has_another_id():
    ids = {file: download.blob_id(SHARED / "sparse_gowalla" / file) for file in FILES}
    published = download.BLOB_IDS["gowalla"]
    assert [ids[file] == published[file] for file in FILES] == [False, True, True]
