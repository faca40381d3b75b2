"""The committed protobuf code is what the compiler makes of the committed .proto files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import covey_exchange.proto


def test_committed_code_equals_generated_code(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "covey_exchange.proto.generate", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True)
    committed = Path(covey_exchange.proto.__file__).parent
    generated = tmp_path / "covey_exchange/proto"
    names = {path.name for path in generated.iterdir()}
    assert names == {path.name for path in committed.iterdir() if "_pb2" in path.name}
    for name in sorted(names):
        assert (generated / name).read_text() == (committed / name).read_text(), f"{name} is stale: run generate"
