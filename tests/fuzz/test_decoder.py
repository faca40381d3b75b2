"""A short run of the decoders' fuzzer; `make fuzz` runs it for long."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

FUZZER = Path(__file__).with_name("fuzz_decoder.py")
SECONDS = 10


def run(*arguments: object) -> str:
    environment = {**os.environ, "PYTHONPATH": ":".join(path for path in sys.path if path)}
    command = [sys.executable, str(FUZZER), *map(str, arguments)]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120, env=environment, check=False
    )
    log = done.stdout.decode(errors="replace")
    assert done.returncode == 0, f"{log[-4000:]}\nreplay: python {FUZZER} FILE (the file named above)"
    return log


def test_no_bytes_break_the_decoders_or_encode_an_update_twice(tmp_path: Path) -> None:
    run("--seeds", tmp_path / "corpus")
    options = (f"-max_total_time={SECONDS}", "-timeout=5", "-rss_limit_mb=2048", f"-artifact_prefix={tmp_path}/")
    log = run(*options, tmp_path / "corpus")
    found = re.search(r"Done (\d+) runs", log)
    assert found, log[-2000:]
    assert int(found[1]) > 500
