"""JIT-compiled loops (numba) that release the GIL, with a cache of compiled code on disk."""

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
    # A loop may call loops in other files, but numba looks for changes in the loop's file only.
    return hashlib.sha256(
        b"".join(file.read_bytes() for file in sorted(folder.glob("*.py")))
    ).hexdigest()


class _DiskCache(FunctionCache):
    """Cache of compiled code on disk; a file that cannot be read or written is ignored."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Load compiled code from the cache; if this fails, return ``None``, and numba compiles."""
        try:
            return super().load_overload(sig, target_context)  # type: ignore[no-untyped-call]
        except Exception:  # unpickling a damaged file may raise anything
            with contextlib.suppress(OSError):
                self.flush()  # type: ignore[no-untyped-call]
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Save compiled code in the cache, if the folder is writable."""
        with contextlib.suppress(OSError):
            super().save_overload(sig, data)  # type: ignore[no-untyped-call]

    def _index_key(self, sig: Any, codegen: Any) -> tuple[Any, ...]:
        sources = _sources(Path(self._py_func.__code__.co_filename).parent)
        key = super()._index_key(sig, codegen)  # type: ignore[no-untyped-call]
        return (*key, sources)


def compiled(loop: Loop) -> Loop:
    """Decorator that compiles a loop to machine code at the first call; the loop releases the GIL.

    The machine code is cached on disk, beside the source or in the user's cache folder. If neither
    folder is writable, every process compiles again.
    """
    function: Any = numba.njit(nogil=True)(loop)
    if not numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
        with contextlib.suppress(RuntimeError):  # numba finds no folder to cache in
            function._cache = _DiskCache(loop)  # type: ignore[no-untyped-call]
    compiled_loop: Loop = function
    return compiled_loop
