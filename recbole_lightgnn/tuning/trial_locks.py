"""Locks on trials: several processes share a study, and a lock gives each trial to one process."""

import fcntl
from pathlib import Path
from typing import Any


class TrialLocks:
    """Locks on the trials of a study, and one lock on the study itself.

    All locks are on bytes of one file: byte 0 stands for the study, byte n + 1 for trial n. The
    operating system releases the locks of a process that ends or is killed. So if a running trial
    has no lock, its process has ended.

    The object is a context manager: it waits for the lock on the study, and holds the lock until
    the context ends.

    Args:
        path: path of the lock file, which is created if it is missing. A process must not open the
            file twice: closing one of two file handles releases the locks of both handles.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab")

    def __enter__(self) -> "TrialLocks":
        fcntl.lockf(self._file, fcntl.LOCK_EX, 1, 0)
        return self

    def __exit__(self, *_: Any) -> None:
        fcntl.lockf(self._file, fcntl.LOCK_UN, 1, 0)

    def acquire(self, trial: int) -> bool:
        """Lock a trial for this process, without waiting; False if another process holds it."""
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, trial + 1)
        except OSError:
            return False
        return True

    def release(self, trial: int) -> None:
        """Release the lock on a trial."""
        fcntl.lockf(self._file, fcntl.LOCK_UN, 1, trial + 1)

    def close(self) -> None:
        """Release all locks of this process, and close the lock file."""
        self._file.close()
