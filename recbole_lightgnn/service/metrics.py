"""Counters of a service, in Prometheus's text format (version 0.0.4)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)  # seconds

_Sample = tuple[str, Mapping[str, str], float]  # suffix of the name, labels, value


class Requests:
    """How many requests there were, how they ended and how long they took.

    Attributes:
        in_flight: how many are being answered.
    """

    def __init__(self) -> None:
        self.in_flight = 0
        self._by_end: Counter[tuple[str, int]] = Counter()
        self._within = [0] * len(_BOUNDS)
        self._seconds = 0.0

    def ended(self, path: str, status: int, seconds: float) -> None:
        """Count a request that was answered."""
        self._by_end[path, status] += 1
        self._seconds += seconds
        for place, bound in enumerate(_BOUNDS):
            self._within[place] += seconds <= bound

    def families(self) -> Iterator[str]:
        """What they come to."""
        ends = sorted(self._by_end.items())
        yield family(
            "lightgnn_requests_total",
            "counter",
            "requests by path and status",
            [("", {"path": path, "status": str(status)}, n) for (path, status), n in ends],
        )
        count = sum(self._by_end.values())
        within = [*zip(map(str, _BOUNDS), self._within, strict=True), ("+Inf", count)]
        yield family(
            "lightgnn_request_seconds",
            "histogram",
            "from a request's first byte to the last of its answer",
            [
                *(("_bucket", {"le": bound}, number) for bound, number in within),
                ("_sum", {}, self._seconds),
                ("_count", {}, count),
            ],
        )
        yield gauge("lightgnn_requests_in_flight", "requests being answered", self.in_flight)


def family(name: str, kind: str, meaning: str, samples: Iterable[_Sample]) -> str:
    """A metric with its help and type.

    Args:
        name: of the metric.
        kind: ``counter``, ``gauge`` or ``histogram``.
        meaning: one line.
        samples: its values; labels hold no quotes, backslashes or ends of lines.
    """
    lines = [f"# HELP {name} {meaning}", f"# TYPE {name} {kind}"]
    for suffix, labels, value in samples:
        inside = ",".join(f'{label}="{text}"' for label, text in labels.items())
        lines.append(f"{name}{suffix}{f'{{{inside}}}' if inside else ''} {value}")
    return "\n".join(lines) + "\n"


def gauge(name: str, meaning: str, value: float) -> str:
    """A metric of one value."""
    return family(name, "gauge", meaning, [("", {}, value)])


def memory() -> Iterator[str]:
    """The process's memory; nothing where the system does not say."""
    with suppress(OSError):
        lines = Path("/proc/self/status").read_text().splitlines()
        (size,) = (line.split()[1] for line in lines if line.startswith("VmRSS:"))
        yield gauge("process_resident_memory_bytes", "memory in use", int(size) * 1024)
