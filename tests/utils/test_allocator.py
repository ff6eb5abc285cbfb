"""Freed memory that stays with the process."""

import subprocess
import sys

import pytest
from helpers.paths import ROOT

# glibc's own figures, while 24 MB are in use and after they are freed: bytes that it has got from
# the system block by block, and for its heap.
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
    found = mallinfo2()
    return found.hblkhd >> 20, found.arena >> 20

if sys.argv[1] == "kept":
    assert keep_freed_memory()
before = figures()
block = torch.ones(6 << 20)
during = figures()
del block
after = figures()
print(*(now - then for figure in (during, after) for now, then in zip(figure, before)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator is Linux's")
@pytest.mark.parametrize(
    ("how", "megabytes"),
    [("kept", [0, 24, 0, 24]), ("given back", [24, 0, 0, 0])],  # blocks and heap: in use, freed
)
def test_a_freed_block_stays_with_the_process(how, megabytes):
    root = ROOT
    command = [sys.executable, "-c", COUNT, how]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=root)
    assert [int(word) for word in done.stdout.split()] == pytest.approx(megabytes, abs=1)
