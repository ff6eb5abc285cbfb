"""Counts, durations and memory of the service in Prometheus's text format (version 0.0.4)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)  # seconds

_Sample = tuple[str, Mapping[str, str], float]  # suffix of the name, labels, value


class RequestMetrics:
    """Number of requests by URL path and status, and a histogram of request durations.

    Attributes:
        in_flight: number of requests being answered.
    """

    def __init__(self) -> None:
        self.in_flight = 0
        self._counts: Counter[tuple[str, int]] = Counter()
        self._within = [0] * len(_BUCKETS)
        self._seconds = 0.0

    def count(self, path: str, status: int, seconds: float) -> None:
        """Count a finished request by URL path (or ``other``), HTTP status code and seconds."""
        self._counts[path, status] += 1
        self._seconds += seconds
        for place, bound in enumerate(_BUCKETS):
            self._within[place] += seconds <= bound

    def families(self) -> Iterator[str]:
        """Format the metrics of requests: numbers, durations, and requests in progress."""
        counts = sorted(self._counts.items())
        yield family(
            "lightgnn_requests_total",
            "counter",
            "requests by path and status",
            [("", {"path": path, "status": str(status)}, n) for (path, status), n in counts],
        )
        total = sum(self._counts.values())
        within = [*zip(map(str, _BUCKETS), self._within, strict=True), ("+Inf", total)]
        yield family(
            "lightgnn_request_seconds",
            "histogram",
            "seconds from the first byte of a request to the last byte of its response",
            [
                *(("_bucket", {"le": bound}, number) for bound, number in within),
                ("_sum", {}, self._seconds),
                ("_count", {}, total),
            ],
        )
        yield gauge("lightgnn_requests_in_flight", "requests being answered", self.in_flight)


def family(name: str, kind: str, meaning: str, samples: Iterable[_Sample]) -> str:
    """Format a Prometheus metric: help line, type line, and a line for each sample.

    Args:
        name: name of the metric.
        kind: Prometheus's type, ``counter``, ``gauge`` or ``histogram``.
        meaning: help text, one line.
        samples: name suffix, labels and value of each sample. Labels must not contain quotes,
            backslashes or line breaks.
    """
    lines = [f"# HELP {name} {meaning}", f"# TYPE {name} {kind}"]
    for suffix, labels, value in samples:
        inside = ",".join(f'{label}="{text}"' for label, text in labels.items())
        lines.append(f"{name}{suffix}{f'{{{inside}}}' if inside else ''} {value}")
    return "\n".join(lines) + "\n"


def gauge(name: str, meaning: str, value: float) -> str:
    """Format a Prometheus metric with a single value; ``meaning`` is the help text, one line."""
    return family(name, "gauge", meaning, [("", {}, value)])


def memory() -> Iterator[str]:
    """Format the resident memory of the process; empty on systems without /proc."""
    with suppress(OSError):
        lines = Path("/proc/self/status").read_text().splitlines()
        (size,) = (line.split()[1] for line in lines if line.startswith("VmRSS:"))
        yield gauge("process_resident_memory_bytes", "memory in use", int(size) * 1024)
