"""Apply a function to many inputs in threads, which compute results before they are needed."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Part = TypeVar("Part")
Result = TypeVar("Result")


def map_ahead(function: Callable[[Part], Result], parts: Iterable[Part]) -> Iterator[Result]:
    """Yield ``function(part)`` for each part in order, while threads compute the next results.

    If ``function`` or the iteration over ``parts`` raises an error, the results of all earlier
    parts are yielded first.

    Args:
        function: function of one part; it is called in up to 8 threads.
        parts: inputs of the function. Only a few parts are taken from the iterable in advance.
    """
    threads = min(8, os.cpu_count() or 1)
    waiting: deque[Future[Result]] = deque()
    source, failure = iter(parts), None
    with ThreadPoolExecutor(threads) as pool:
        while failure is None:
            try:
                waiting.append(pool.submit(function, next(source)))
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
