"""Parts of all benchmarks: check a result, then measure time and memory."""

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

if TYPE_CHECKING:  # the import of torch would add to the measured memory
    from torch import Tensor

WARM_UP = 1  # calls before the measured ones, besides the call of the check
LEAST_ROUNDS, MOST_ROUNDS = 3, 100
TURN = 0.02  # shortest turn of a contender, in seconds


class WrongResult(Exception):
    """A measured function gave a wrong result: an error in the code, not in the input."""


def deviation(what: str, result: Sequence[Tensor], truth: Sequence[Tensor]) -> float:
    """Check a result; return its largest error, divided by the largest entry of the correct result.

    Args:
        what: name of the result, for the error message.
        result: tensors of float32.
        truth: correct tensors of the same shapes in float64, computed in a different way.

    Raises:
        WrongResult: if a shape is wrong, or if the error is above 1e-5. For comparison: a different
            order of summation changes a float32 sum by about 1e-6.
    """
    largest = 0.0
    for part, (got, expected) in enumerate(zip(result, truth, strict=True)):
        if got.shape != expected.shape:
            raise WrongResult(
                f"{what}: part {part} has shape {tuple(got.shape)}, not {tuple(expected.shape)}"
            )
        error = float((got - expected).abs().max() / expected.abs().max())
        if not error <= 1e-5:  # also true for NaN
            raise WrongResult(f"{what}: part {part} is wrong by {error:.2g} of its largest entry")
        largest = max(largest, error)
    return largest


def loss_deviation(what: str, losses: Sequence[float], truth: Sequence[float]) -> float:
    """Check that two trainings begin with equal losses; return the largest relative difference.

    Args:
        what: name of the training, for the error message.
        losses: losses of the first steps.
        truth: losses of the same steps in the training to compare with.

    Raises:
        WrongResult: if the difference is above 1e-5.
    """
    worst = max(abs(a - b) / abs(b) for a, b in zip(losses, truth, strict=True))
    if not worst <= 1e-5:
        raise WrongResult(f"{what}: of the first {len(truth)} losses one is wrong by {worst:.2g}")
    return worst


def measure(
    contenders: Mapping[str, Callable[[], Any]], *, seconds: float
) -> dict[str, dict[str, Any]]:
    """Measure the time of some functions, the contenders, which take turns.

    Taking turns spreads other load of the machine evenly over all contenders. A turn lasts at least
    20 ms and at least one call. So in most calls, a fast contender finds its own data in the
    processor's caches, as in training. A contender that has used up its share of the time is not
    called again.

    Args:
        contenders: functions without arguments, by name.
        seconds: total time in seconds, shared evenly. Each contender has 3 to 100 turns.

    Returns:
        For each name: ``median``, ``lower`` and ``upper`` quartile in seconds, and the number of
        ``calls``.
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
    return {name: summary(each) for name, each in times.items()}


def row(operation: str, seconds: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Make a row of a benchmark's result: times of all contenders for one operation, and ratios.

    Args:
        operation: name of the measured operation.
        seconds: times of each contender (see `summary`), by name.

    Returns:
        ``operation`` and ``seconds`` as given, and ``times_ours``: for each contender after the
        first, its median time divided by the first contender's median time.
    """
    first, *others = seconds
    times = {name: seconds[name]["median"] / seconds[first]["median"] for name in others}
    return {"operation": operation, "seconds": seconds, "times_ours": times}


def summary(times: Sequence[float]) -> dict[str, Any]:
    """Median and quartiles of ``times``, the seconds of repeated calls.

    Returns:
        ``median``, ``lower`` and ``upper`` quartile in seconds, and number of ``calls``.
    """
    lower, median, upper = np.quantile(times, [0.25, 0.5, 0.75]).tolist()
    return {"median": median, "lower": lower, "upper": upper, "calls": len(times)}


def conditions() -> dict[str, float]:
    """Load (mean number of processes in the last minute) and free memory (10^9 bytes), now.

    Measured times are not reliable if the load before them is above a few tenths.
    """
    return {
        "load": psutil.getloadavg()[0],
        "free_memory_gb": psutil.virtual_memory().available / 1e9,
    }


def in_a_process(action: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a new process and return its value.

    Args:
        action: function that another process can import.
        arguments: arguments of the function.

    Raises:
        InputError: if the process was killed, for example because memory ran out.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context) as pool:
        try:
            return pool.submit(action, *arguments).result()
        except BrokenProcessPool as error:
            raise InputError(
                "the measured process was killed, perhaps because memory ran out: end other "
                "programs, or measure a smaller size"
            ) from error


def peak_mb() -> float:
    """Peak memory of this process in 10^6 bytes; raise OSError if the system does not report it.

    ``getrusage`` would include the parent process's peak.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise OSError("/proc/self/status has no line VmHWM")
