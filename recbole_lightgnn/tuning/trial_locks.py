"""Where processes agree on who does which trial, so that a killed one holds up nobody."""

import fcntl
from pathlib import Path
from typing import Any


class Desk:
    """Locks on the bytes of one file: byte 0 is the desk itself, byte n + 1 is trial n.

    The system takes a lock from a process that ends, however it ends. So a trial under way whose
    lock is free is nobody's. Used as a context, a desk is one process's at a time.

    Args:
        path: the file; made where it is missing. One desk a process may have it open.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab")

    def __enter__(self) -> "Desk":
        fcntl.lockf(self._file, fcntl.LOCK_EX, 1, 0)
        return self

    def __exit__(self, *_: Any) -> None:
        fcntl.lockf(self._file, fcntl.LOCK_UN, 1, 0)

    def take(self, trial: int) -> bool:
        """Make a trial this process's own, unless it is another's; returns whether it is."""
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, trial + 1)
        except OSError:
            return False
        return True

    def leave(self, trial: int) -> None:
        """Give a trial up, or back when it is done."""
        fcntl.lockf(self._file, fcntl.LOCK_UN, 1, trial + 1)

    def close(self) -> None:
        """Give up everything."""
        self._file.close()
