"""Loops compiled: one pass where NumPy would need a pass a step, and no other thread is held up."""

import contextlib
import hashlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numba
from numba.core.caching import FunctionCache

Loop = TypeVar("Loop", bound=Callable[..., Any])


@lru_cache
def _sources(folder: Path) -> str:
    # Loops call each other across files, and numba looks only at the file that a loop stands in.
    return hashlib.sha256(
        b"".join(file.read_bytes() for file in sorted(folder.glob("*.py")))
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
        sources = _sources(Path(self._py_func.__code__.co_filename).parent)
        return (*super()._index_key(sig, codegen), sources)


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
