"""What every benchmark shares: is it right, and how long does it take."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

from recbole_lightgnn.errors import InputError

if TYPE_CHECKING:  # a process whose memory is measured should not load it for nothing
    from torch import Tensor

WARM_UP = 1  # the check of correctness was another
LEAST_ROUNDS, MOST_ROUNDS = 3, 100
TURN = 0.02  # seconds


class WrongResult(Exception):
    """Something gave a wrong result, so its time means nothing. Never the user's doing."""


def deviation(what: str, result: Sequence[Tensor], truth: Sequence[Tensor]) -> float:
    """Largest difference from the truth, relative to the truth's largest entry.

    Args:
        what: names the result in the error.
        result: tensors of float32.
        truth: the same in float64, computed in another way.

    Raises:
        WrongResult: if a shape differs, or a difference is above 1e-5: some ten times what sums
            of float32 differ by in another order.
    """
    largest = 0.0
    for part, (got, expected) in enumerate(zip(result, truth, strict=True)):
        if got.shape != expected.shape:
            raise WrongResult(
                f"{what}: part {part} has shape {tuple(got.shape)}, not {tuple(expected.shape)}"
            )
        error = float((got - expected).abs().max() / expected.abs().max())
        if not error <= 1e-5:  # so that NaN is wrong too
            raise WrongResult(f"{what}: part {part} is wrong by {error:.2g} of its largest entry")
        largest = max(largest, error)
    return largest


def loss_deviation(what: str, losses: Sequence[float], truth: Sequence[float]) -> float:
    """Largest relative difference of a training's first losses from another's.

    Args:
        what: names the training in the error.

    Raises:
        WrongResult: if a difference is above 1e-5.
    """
    worst = max(abs(a - b) / abs(b) for a, b in zip(losses, truth, strict=True))
    if not worst <= 1e-5:
        raise WrongResult(f"{what}: of the first {len(truth)} losses one is wrong by {worst:.2g}")
    return worst


def measure(
    contenders: Mapping[str, Callable[[], Any]], *, seconds: float
) -> dict[str, dict[str, Any]]:
    """Median time of each contender, and the quartiles.

    They take turns, so that whatever else the machine does meets all of them alike. A turn is a
    call, or as many as take 20 ms: of short ones most then find the caches as they left them
    themselves, as in a training, and not as a rival did. One that has used up its share of the time
    drops out.

    Args:
        contenders: what to call, by name.
        seconds: about how long to go on, within 3 to 100 rounds; parted evenly.

    Returns:
        By name: ``median``, ``lower`` and ``upper`` quartile in seconds, and ``calls``.
    """
    for _ in range(WARM_UP):
        for contender in contenders.values():
            contender()
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for done in range(MOST_ROUNDS):
        for name, contender in contenders.items():
            if done >= LEAST_ROUNDS and sum(times[name]) >= seconds / len(contenders):
                continue
            ends = time.perf_counter() + TURN
            while (start := time.perf_counter()) < ends:
                contender()
                times[name].append(time.perf_counter() - start)
    return {name: summary(taken) for name, taken in times.items()}


def row(operation: str, seconds: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """A result's row: who took how long (`summary`), and medians over that of the first."""
    first, *others = seconds
    times = {name: seconds[name]["median"] / seconds[first]["median"] for name in others}
    return {"operation": operation, "seconds": seconds, "times_ours": times}


def summary(taken: Sequence[float]) -> dict[str, Any]:
    """Median and quartiles of some seconds, and how many there are."""
    lower, median, upper = np.quantile(taken, [0.25, 0.5, 0.75]).tolist()
    return {"median": median, "lower": lower, "upper": upper, "calls": len(taken)}


def conditions() -> dict[str, float]:
    """What else the machine was doing before a benchmark began.

    Returns:
        ``load``: processes running or waiting, averaged over the last minute; above a few tenths
        the times are not to be trusted. ``free_memory_gb`` (10^9 bytes).
    """
    return {
        "load": psutil.getloadavg()[0],
        "free_memory_gb": psutil.virtual_memory().available / 1e9,
    }


def in_a_process(action: Callable[..., Any], *arguments: Any) -> Any:
    """What ``action`` returns in a process that does nothing else.

    Raises:
        InputError: if the process was killed, as the system does where memory runs out.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context) as pool:
        try:
            return pool.submit(action, *arguments).result()
        except BrokenProcessPool as error:
            raise InputError(
                "the process that was measured is gone, killed perhaps for want of memory: end "
                "other programs, or measure a smaller size"
            ) from error


def peak_mb() -> float:
    """Peak memory of this process; `getrusage` counts the one that started it, too."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise OSError("/proc/self/status has no line VmHWM")
