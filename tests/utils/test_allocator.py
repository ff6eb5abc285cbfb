"""The setting of glibc that keeps freed memory in the process."""

import subprocess
import sys

import pytest
from helpers.paths import ROOT

# Print glibc's statistics with a block of 24 MB in use, and after it is freed: memory mapped from
# the system, and memory of the heap, in MB.
COUNT = """
import ctypes, sys
from recbole_lightgnn.utils.allocator import keep_freed_memory
import torch

class Figures(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split())]

def figures():
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = Figures
    info = mallinfo2()
    return info.hblkhd >> 20, info.arena >> 20

if sys.argv[1] == "keep":
    assert keep_freed_memory()
before = figures()
block = torch.ones(6 << 20)
during = figures()
del block
after = figures()
print(*(now - then for figure in (during, after) for now, then in zip(figure, before)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc is Linux's C library")
@pytest.mark.parametrize(
    ("how", "megabytes"),
    # Expected: mapped and heap with the block in use, mapped and heap after it is freed.
    [("keep", [0, 24, 0, 24]), ("default", [24, 0, 0, 0])],
)
def test_a_freed_block_stays_with_the_process(how, megabytes):
    command = [sys.executable, "-c", COUNT, how]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    assert [int(word) for word in done.stdout.split()] == pytest.approx(megabytes, abs=1)
