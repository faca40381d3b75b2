"""ABI and bytecode of the contracts, carried inside the package; `python -m covey_chain.abi --write|--check`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import click
from eth_utils.abi import function_signature_to_4byte_selector

CONTRACTS = ("MemberRegistry", "TaskMarket", "Settlement", "Fallback", "DevToken")
_CARRIED = Path(__file__).parent / "abi"
_BUILD = Path(__file__).parents[1] / "out"


@dataclass(frozen=True)
class Artifact:
    """What is needed to deploy and call a contract."""

    abi: list[dict[str, Any]]
    bytecode: str


@cache
def artifact(name: str) -> Artifact:
    """The carried artifact of one of `CONTRACTS`."""
    data = json.loads((_CARRIED / f"{name}.json").read_text())
    return Artifact(data["abi"], data["bytecode"])


@cache
def errors() -> dict[bytes, dict[str, Any]]:
    """Custom errors of all contracts and of OpenZeppelin's tokens, by their 4-byte selector."""
    found = {}
    for name in CONTRACTS:
        for entry in artifact(name).abi:
            if entry["type"] == "error":
                signature = f"{entry['name']}({','.join(i['type'] for i in entry['inputs'])})"
                found[bytes(function_signature_to_4byte_selector(signature))] = entry
    return found


def _from_build(name: str) -> str:
    data = json.loads((_BUILD / f"{name}.sol" / f"{name}.json").read_text())
    carried = {"abi": data["abi"], "bytecode": data["bytecode"]["object"]}
    return json.dumps(carried, indent=1, sort_keys=True) + "\n"


@click.command()
@click.option(
    "--write/--check", required=True, help="Write the carried files, or fail where they differ from the build."
)
def main(write: bool) -> None:
    """Bring `abi/*.json` up to date with `forge build`."""
    stale = []
    for name in CONTRACTS:
        path, fresh = _CARRIED / f"{name}.json", _from_build(name)
        if write:
            path.write_text(fresh)
        elif not path.exists() or path.read_text() != fresh:
            stale.append(path.name)
    if stale:
        raise click.ClickException(f"{', '.join(stale)} differ from the build; run `make contracts`")


if __name__ == "__main__":
    main()
