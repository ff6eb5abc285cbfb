"""Run the service in a process of its own that can import only the libraries it needs.

``python service_process.py FILE [FLAG ...]`` runs ``recbole-lightgnn serve FILE --port 0`` without
the other commands, because some import a YAML library.
"""

import argparse
import http.client
import json
import subprocess
import sys
import time
from importlib.abc import MetaPathFinder
from pathlib import Path

NEEDED = {  # libraries that the service may import
    "numpy",
    *("fastapi", "starlette", "pydantic", "pydantic_core", "anyio", "idna", "sniffio"),
    *("annotated_doc", "annotated_types", "typing_extensions", "typing_inspection"),
    *("opentelemetry", "exceptiongroup", "uvicorn", "click", "h11"),
}
SECONDS = 30  # longest wait for an event that must happen


class OnlyNeeded(MetaPathFinder):
    """Refuse to import any other library, as if it were not installed."""

    def __init__(self, allowed):
        self.allowed = {"recbole_lightgnn", *allowed, *sys.stdlib_module_names}

    def find_spec(self, name, path=None, target=None):
        top = name.split(".")[0]
        if top not in self.allowed and not top.startswith("_"):
            raise ModuleNotFoundError(f"No module named {name!r} (not needed)", name=name)


class Service:
    """A running service, until the ``with`` statement ends.

    Attributes:
        process: the process of the service.
        port: port that it listens at.
    """

    def __init__(self, file, *flags):
        command = [sys.executable, __file__, str(file), *flags]
        self.log = Path(f"{file}.log").open("w+")  # noqa: SIM115  closed in __exit__
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
        """Open a connection to the service."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)

    def ask(self, method, path, body=None, headers=None):
        """Send a request, a body as JSON unless it is bytes; return status and JSON content."""
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
        """Send a GET request that must succeed; return its content."""
        status, content = self.ask("GET", path)
        assert status == 200, content
        return content

    def post(self, path, **body):
        """Send a POST request with a JSON body that must succeed; return its content."""
        status, content = self.ask("POST", path, body)
        assert status == 200, content
        return content

    def metrics(self):
        """Values of all samples of /metrics, by name and labels."""
        connection = self.connect()
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        lines = (line for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}

    def logged(self):
        """Everything that the service wrote to standard error."""
        self.log.seek(0)
        return self.log.read()

    def stop(self):
        """Stop the service by SIGTERM; return its exit status."""
        self.process.terminate()
        return self.process.wait(SECONDS)


def answer_of(connection):
    """Read a response; return status and JSON content."""
    response = connection.getresponse()
    content = response.read()
    assert response.headers["Content-Type"] == "application/json", content
    return response.status, json.loads(content)


def rows(ranked):
    """The service's answers for a `Ranked`: lists without missing items."""
    answers = []
    for items, scores in zip(ranked.items, ranked.scores, strict=True):
        present = [item is not None for item in items]
        answers.append({"items": items[present].tolist(), "scores": scores[present].tolist()})
    return answers


def wait_until(condition):
    """Check repeatedly until the condition holds."""
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, f"condition still false after {SECONDS} s"
        time.sleep(0.02)


if __name__ == "__main__":
    is_approximate = any(flag.startswith("--approximate") for flag in sys.argv)
    search_libraries = {"faiss", "packaging"} if is_approximate else set()
    sys.meta_path.insert(0, OnlyNeeded(NEEDED | search_libraries))
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

    from recbole_lightgnn.cli import serve as command

    parser = argparse.ArgumentParser()
    command.add_parsers(parser.add_subparsers())
    sys.exit(command.run(parser.parse_args(["serve", *sys.argv[1:], "--port=0"])))
