"""Foundry, the Solidity compiler and OpenZeppelin, from npm with pinned hashes."""

import platform
import shutil
from pathlib import Path

from covey_dev import artifact, paths
from covey_dev.errors import UnsupportedError
from covey_dev.process import run

VERSION = "1.7.1"
_SOURCE = paths.DEV / "foundry"
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


def directory() -> Path:
    """Where `ensure` puts `bin/{anvil,cast,forge,solc}` and `node_modules`."""
    return paths.tools() / f"foundry-{VERSION}"


def ensure() -> Path:
    """Install what `dev/foundry/package-lock.json` pins; npm checks every SHA-512."""
    key = artifact.digest(_SOURCE, platform.system(), platform.machine())
    return artifact.ensure(directory(), key, "Foundry, solc and OpenZeppelin from npm", _build)


def environment() -> dict[str, str]:
    """The variables by which Covey's other parts find these tools."""
    root = directory()
    return {
        "COVEY_ANVIL": str(root / "bin/anvil"),
        "COVEY_CAST": str(root / "bin/cast"),
        "COVEY_FORGE": str(root / "bin/forge"),
        "COVEY_SOLC": str(root / "bin/solc"),
        "COVEY_OPENZEPPELIN": str(root / "node_modules/@openzeppelin/contracts"),
    }


def _build(fresh: Path) -> None:
    if platform.machine() not in _MACHINES:
        raise UnsupportedError(
            f"Foundry has no build for {platform.machine()}",
            "Use a machine with an x86-64 or 64-bit Arm processor.",
        )
    for name in ("package.json", "package-lock.json"):
        shutil.copy(_SOURCE / name, fresh)
    # Not `npm ci`: it wants the packages of every other platform to be listed by the registry as well.
    run(
        "npm", "install", "--no-save", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error",
        cwd=fresh,
        remedy="Install Node.js 20 or newer with npm, and check that its registry can be reached (`npm ping`).",
    )  # fmt: skip
    target = f"{platform.system().lower()}-{_MACHINES[platform.machine()]}"
    (fresh / "bin").mkdir()
    for tool in ("anvil", "cast", "forge"):
        (fresh / "bin" / tool).symlink_to(f"../node_modules/@foundry-rs/{tool}-{target}/bin/{tool}")
    # Node resolves `solc` from where the file lies, so that the shim must lie above node_modules.
    shutil.copy(_SOURCE / "solc.cjs", fresh / "bin/solc")
    (fresh / "bin/solc").chmod(0o755)
    for tool in ("anvil", "cast", "forge", "solc"):
        run(fresh / "bin" / tool, "--version")
