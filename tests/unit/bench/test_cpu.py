"""Processor time is counted where it is spent."""

import os
import subprocess
import sys

from covey_bench import cpu

WORK = "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\ninput()"


def test_work_of_a_process_is_seen_in_it_and_in_the_machine_and_nowhere_else():
    own, machine = cpu.seconds_of(os.getpid()), cpu.seconds_of_machine()
    with subprocess.Popen([sys.executable, "-c", WORK], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as worker:
        assert worker.stdout is not None
        worker.stdout.readline()
        spent = cpu.seconds_of(worker.pid)
        worker.communicate(b"\n")
    assert spent >= 0.25
    assert cpu.seconds_of_machine() - machine >= 0.25
    assert cpu.seconds_of(os.getpid()) - own < spent


def test_a_process_that_has_ended_counts_as_nothing():
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert cpu.seconds_of(ended.pid) == 0
