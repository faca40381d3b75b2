"""Regenerates the committed protobuf code: `python -m covey_exchange.proto.generate [target directory]`.

Needs the development extra (grpcio-tools, mypy-protobuf). A unit test holds the committed files to its output.
"""

from __future__ import annotations

import sys
from pathlib import Path

from grpc_tools import protoc

PACKAGE = "covey_exchange/proto"
MESSAGES = ("driver", "wire")
SERVICES = ("driver",)


def generate(target: Path) -> list[Path]:
    """Write the generated modules below `target` (a source root) and return their paths, sorted.

    Raises:
        RuntimeError: the protocol compiler refused a file; its own words are on stderr.
    """
    source_root = Path(__file__).parents[2]
    scripts = Path(sys.executable).parent
    plugins = [f"--plugin=protoc-gen-{name}={scripts / f'protoc-gen-{name}'}" for name in ("mypy", "mypy_grpc")]
    common = ["protoc", f"-I{source_root}", *plugins]
    messages = [f"--python_out={target}", f"--mypy_out={target}", *_files(MESSAGES)]
    services = [f"--grpc_python_out={target}", f"--mypy_grpc_out={target}", *_files(SERVICES)]
    for arguments in (messages, services):
        if protoc.main([*common, *arguments]) != 0:
            raise RuntimeError(f"protoc failed: {' '.join(arguments)}")
    return sorted(path for path in (target / PACKAGE).iterdir() if "_pb2" in path.name)


def _files(names: tuple[str, ...]) -> list[str]:
    return [f"{PACKAGE}/{name}.proto" for name in names]


if __name__ == "__main__":
    for path in generate(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[2]):
        print(path)
