"""A service as a process of its own, in which nothing but what it needs can be imported.

``python service_process.py FILE [FLAG ...]``: ``recbole-lightgnn serve FILE --port 0`` without the
command line around it, whose other commands read yaml.
"""

import argparse
import http.client
import json
import subprocess
import sys
import time
from importlib.abc import MetaPathFinder
from pathlib import Path

NEEDED = {
    "numpy",
    *("fastapi", "starlette", "pydantic", "pydantic_core", "anyio", "idna", "sniffio"),
    *("annotated_doc", "annotated_types", "typing_extensions", "typing_inspection"),
    *("opentelemetry", "exceptiongroup", "uvicorn", "click", "h11"),
}
SECONDS = 30  # to wait for what must come


class OnlyNeeded(MetaPathFinder):
    """Refuses every other library, as if it were not installed."""

    def __init__(self, allowed):
        self.allowed = {"recbole_lightgnn", *allowed, *sys.stdlib_module_names}

    def find_spec(self, name, path=None, target=None):
        top = name.split(".")[0]
        if top not in self.allowed and not top.startswith("_"):
            raise ModuleNotFoundError(f"No module named {name!r} (not needed)", name=name)


class Service:
    """A running service, until the ``with`` statement ends.

    Attributes:
        process: its process.
        port: where it listens.
    """

    def __init__(self, file, *flags):
        command = [sys.executable, __file__, str(file), *flags]
        self.log = Path(f"{file}.log").open("w+")  # noqa: SIM115  as long as the process
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=self.log, text=True, cwd=Path(__file__).parent
        )
        line = self.process.stdout.readline()
        assert line.startswith(f"serving {file} at http://127.0.0.1:"), line + self.logged()
        self.port = int(line.rpartition(":")[2])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(SECONDS)
        self.process.stdout.close()
        self.log.close()

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)

    def ask(self, method, path, body=None, headers=None):
        """Status and content, which must be JSON; a body that is no bytes is sent as JSON."""
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} if headers is None else headers
        connection = self.connect()
        try:
            connection.request(method, path, body, headers)
            return answer_of(connection)
        finally:
            connection.close()

    def get(self, path):
        """The content of what must be there."""
        status, content = self.ask("GET", path)
        assert status == 200, content
        return content

    def post(self, path, **body):
        """Likewise, for a body of JSON."""
        status, content = self.ask("POST", path, body)
        assert status == 200, content
        return content

    def metrics(self):
        """All samples of /metrics by name and labels."""
        connection = self.connect()
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        lines = (line for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}

    def logged(self):
        self.log.seek(0)
        return self.log.read()

    def stop(self):
        """Tell it to stop; returns its exit status."""
        self.process.terminate()
        return self.process.wait(SECONDS)


def answer_of(connection):
    response = connection.getresponse()
    content = response.read()
    assert response.headers["Content-Type"] == "application/json", content
    return response.status, json.loads(content)


def rows(ranked):
    """What the service is to answer: without the places where nothing is left."""
    found = []
    for items, scores in zip(ranked.items, ranked.scores, strict=True):
        kept = [item is not None for item in items]
        found.append({"items": items[kept].tolist(), "scores": scores[kept].tolist()})
    return found


def wait_until(condition):
    """Look until it holds."""
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.02)


if __name__ == "__main__":
    searched = any(flag.startswith("--approximate") for flag in sys.argv)
    sys.meta_path.insert(0, OnlyNeeded(NEEDED | ({"faiss", "packaging"} if searched else set())))
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

    from recbole_lightgnn.cli import serve as command

    parser = argparse.ArgumentParser()
    command.add_parsers(parser.add_subparsers())
    sys.exit(command.run(parser.parse_args(["serve", *sys.argv[1:], "--port=0"])))
