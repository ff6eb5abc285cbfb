"""Memory allocation: keep freed memory in the process between training steps."""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
_LARGEST = 32 << 20  # bytes; the largest M_MMAP_THRESHOLD that glibc accepts


def keep_freed_memory() -> bool:
    """Make glibc keep freed blocks of up to 32 MiB for reuse, in the whole process.

    By default glibc returns large blocks to the system when they are freed. Every training step
    then gets its tables from the system again, page by page: on Yelp 11,000 page faults a step, a
    fifth of its time. Peak memory does not change.

    Returns:
        Whether the setting took effect. False with other C libraries and systems, which do not need
        it.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST) and mallopt(_TRIM_THRESHOLD, 2**31 - 1))
