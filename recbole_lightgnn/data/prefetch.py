"""Threads that compute ahead."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Given, Made = TypeVar("Given"), TypeVar("Made")


def ahead(make: Callable[[Given], Made], parts: Iterable[Given]) -> Iterator[Made]:
    """``make`` of each part, in order; threads compute some of them before their turn.

    Errors come in order, too: all parts before the one that fails, in the making or in being
    taken from ``parts``, are yielded first.
    """
    threads = min(8, os.cpu_count() or 1)
    waiting: deque[Future[Made]] = deque()
    source, failure = iter(parts), None
    with ThreadPoolExecutor(threads) as pool:
        while failure is None:
            try:
                waiting.append(pool.submit(make, next(source)))
            except StopIteration:
                break
            except Exception as error:
                failure = error
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    if failure is not None:
        raise failure
