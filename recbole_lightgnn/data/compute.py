"""Loops over bytes, compiled, and threads that compute ahead.

What NumPy would need a pass a step for is one pass here, and it holds no other thread up.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import numba

Loop = TypeVar("Loop", bound=Callable[..., Any])
Given, Made = TypeVar("Given"), TypeVar("Made")


def compiled(loop: Loop) -> Loop:
    """``loop`` in machine code, made at its first call.

    The code is kept on disk, beside the source or in the user's cache, so that only the first
    process on a machine waits for the compiler; where neither can be written, each does.
    """
    try:
        return numba.njit(cache=True, nogil=True)(loop)
    except RuntimeError:  # numba found no folder for it
        return numba.njit(nogil=True)(loop)


def ahead(make: Callable[[Given], Made], parts: Iterable[Given]) -> Iterator[Made]:
    """``make`` of each part, in order; threads compute some of them before their turn.

    Errors come in order, too: what ``make`` raises for a part comes before what a later part, or
    taking it from ``parts``, raises.
    """
    threads = min(8, os.cpu_count() or 1)
    waiting: deque[Future[Made]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for part in parts:
                waiting.append(pool.submit(make, part))
                if len(waiting) > threads:
                    yield waiting.popleft().result()
        except Exception:
            for made in waiting:
                made.result()
            raise
        while waiting:
            yield waiting.popleft().result()
