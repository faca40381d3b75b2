"""Makes the `trimmed` variant of the trainer image: stubs instead of torch's NVIDIA libraries, where there is no GPU.

PyPI has torch for Linux with CUDA only: 5.7 GB, of which a CPU never runs 4 GB. Each stub has the SONAME of the library
that it replaces and every symbol that torch's own libraries import from it, with its version; a call answers 1, which
CUDA's interfaces all read as an error. `torch.cuda.is_available()` is False then, and everything on the CPU works.
"""

import re
import shlex
import tempfile
from collections.abc import Iterator
from pathlib import Path

from covey_dev.process import run

# Smaller libraries cost less than the risk of a stub. These are also called while torch is imported.
_SMALLEST_WORTH_IT = 500_000
_KEPT = re.compile(r"lib(cudart|cupti|cufile|cudnn)\.so")
_KEPT_UP_TO = 20_000_000
_NEVER_RUN = (
    "triton",
    "nvidia/*/include",
    "nvidia/*/lib/*.a",
    "nvidia/*/lib/*.bc",
    "nvidia/nvshmem/lib/nvshmem_*",
    "torch/include",
    "torch/share",
    "torch/test",
)


def write_stubs(site: Path, out: Path) -> None:
    """Write stubs for the libraries of the site-packages directory `site`, and `apply.sh SITE` that puts them in."""
    needed = {name for library in _torch_libraries(site) for name, _ in _symbols(library, defined=False)}
    replaced = [path for path in _nvidia_libraries(site) if _worth_replacing(path)]
    for path in replaced:
        exported = sorted({(name, version) for name, version in _symbols(path, defined=True) if name in needed})
        if exported:
            target = out / "stubs" / path.relative_to(site)
            target.parent.mkdir(parents=True, exist_ok=True)
            _compile(_soname(path), exported, target)
    gone = [shlex.quote(str(path.relative_to(site))) for path in replaced]
    (out / "apply.sh").write_text(
        "#!/bin/sh\n"
        "# apply.sh SITE-PACKAGES: remove what a machine without GPU never runs, and put the stubs in its place.\n"
        'set -eu\nstubs=$(cd "$(dirname "$0")" && pwd)/stubs\ncd "$1"\n'
        f"rm -rf {' '.join([*gone, *_NEVER_RUN])}\n"
        'cp -r "$stubs/." .\n'
    )


def _torch_libraries(site: Path) -> list[Path]:
    return [*(site / "torch/lib").glob("*.so*"), *(site / "torch").glob("_C*.so")]


def _nvidia_libraries(site: Path) -> list[Path]:
    found = sorted((site / "nvidia").rglob("*.so*"))
    return [path for path in found if not path.is_symlink() and re.search(r"\.so(\.\d+)*$", path.name)]


def _worth_replacing(path: Path) -> bool:
    size = path.stat().st_size
    return size >= _SMALLEST_WORTH_IT and not (_KEPT.match(path.name) and size < _KEPT_UP_TO)


def _symbols(library: Path, *, defined: bool) -> Iterator[tuple[str, str]]:
    """Names and versions ("" without one) of the dynamic symbols that `library` defines, or that it needs."""
    for line in run("readelf", "-W", "--dyn-syms", library, remedy="Install binutils.").splitlines():
        fields = line.split()
        if len(fields) < 8 or fields[4] not in ("GLOBAL", "WEAK") or (fields[6] != "UND") is not defined:
            continue
        name, _, version = fields[7].replace("@@", "@").partition("@")
        yield name, version


def _soname(library: Path) -> str:
    match = re.search(r"SONAME.*\[(.*)\]", run("readelf", "-d", library))
    return match.group(1) if match else library.name


def _compile(soname: str, symbols: list[tuple[str, str]], target: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        source, versions = Path(scratch) / "stub.c", Path(scratch) / "stub.map"
        source.write_text("".join(f"long {name}(void) {{ return 1; }}\n" for name in dict(symbols)))
        script = []
        for version in sorted({version for _, version in symbols if version}):
            names = "; ".join(name for name, of in symbols if of == version)
            script.append(f"{version} {{ global: {names}; }};\n")
        versions.write_text("".join(script))
        command = ["gcc", "-shared", "-fPIC", "-Os", "-s", "-w", f"-Wl,-soname,{soname}"]
        if script:
            command.append(f"-Wl,--version-script={versions}")
        run(*command, "-o", target, source, remedy="Install gcc.")
