"""Loops compiled, and threads that compute ahead.

What NumPy would need a pass a step for is one pass here, and it holds no other thread up.
"""

import contextlib
import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numba
from numba.core.caching import FunctionCache

Loop = TypeVar("Loop", bound=Callable[..., Any])
Given, Made = TypeVar("Given"), TypeVar("Made")

# Loops call each other across files, and numba looks only at the file that a loop stands in.
_SOURCES = hashlib.sha256(
    b"".join(file.read_bytes() for file in sorted(Path(__file__).parent.glob("*.py")))
).hexdigest()


class _Kept(FunctionCache):
    """Compiled code on disk, which may be lost, damaged or impossible to write: then not kept."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # whatever a damaged file makes of unpickling
            with contextlib.suppress(OSError):
                self.flush()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        with contextlib.suppress(OSError):
            super().save_overload(sig, data)

    def _index_key(self, sig: Any, codegen: Any) -> tuple[Any, ...]:
        return (*super()._index_key(sig, codegen), _SOURCES)


def compiled(loop: Loop) -> Loop:
    """``loop`` in machine code, made at its first call.

    The code is kept on disk, beside the source or in the user's cache, so that only the first
    process on a machine waits for the compiler; where it cannot be kept, each does.
    """
    dispatcher = numba.njit(nogil=True)(loop)
    if not numba.config.DISABLE_JIT:
        with contextlib.suppress(RuntimeError):  # numba finds no folder for it
            dispatcher._cache = _Kept(loop)
    return dispatcher


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
