"""What an array leaves is used by the next one, without the kernel's page faults."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import resource, sys, threading
import numpy as np
from covey_validator.allocator import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()

def use():
    for _ in range(8):
        np.full(2**23, 1.0, dtype=np.float32).sum()

def work():
    global faults
    use()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    use()
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

thread = threading.Thread(target=work)
thread.start()
thread.join()
print(faults)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators do as they please")
def test_a_thread_gets_back_the_large_array_that_it_has_freed() -> None:
    faults = {}
    for mode in ("kept", "given back"):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, mode],
            env={"PYTHONPATH": str(Path(__file__).parents[3] / "trainer_image")},
            check=True,
            capture_output=True,
            text=True,
        )
        faults[mode] = int(done.stdout)
    assert faults["given back"] >= 8 * 16, "or there would be nothing to save"  # pages of 2 MiB
    assert faults["kept"] < faults["given back"] / 4
