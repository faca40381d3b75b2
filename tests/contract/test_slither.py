"""The static analysis that `make lint` runs: what it finds fails, and so does a justification of nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from covey_dev import foundry, slither
from covey_dev.errors import CommandError, DevError

SAFE = """// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

contract Purse {
    mapping(address owner => uint256) private _owed;

    function put() external payable {
        _owed[msg.sender] += msg.value;
    }

    function take() external {
        uint256 amount = _owed[msg.sender];
        _owed[msg.sender] = 0;
        (bool paid,) = msg.sender.call{value: amount}("");
        require(paid);
    }
}
"""
CLEARED = "        _owed[msg.sender] = 0;\n"
CALL = '        (bool paid,) = msg.sender.call{value: amount}("");\n        require(paid);\n'
DIRECTIVE = "        // slither-disable-next-line reentrancy-eth - a reason\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A Foundry project with the configuration of Covey's, and no contract so far."""
    for name in ("foundry.toml", "slither.config.json"):
        shutil.copy(slither.CONTRACTS / name, tmp_path)
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/solc").symlink_to(foundry.ensure() / "bin/solc")
    (tmp_path / "src").mkdir()
    return tmp_path


def test_what_pays_after_it_has_booked_passes(project: Path) -> None:
    (project / "src/Purse.sol").write_text(SAFE)
    slither.check(project)


def test_what_pays_first_is_found_unless_a_line_is_justified(project: Path) -> None:
    purse = project / "src/Purse.sol"
    unsafe = SAFE.replace(CLEARED, "").replace(CALL, CALL + CLEARED)
    purse.write_text(unsafe)
    with pytest.raises(DevError, match=r"findings in .*: 1") as found:
        slither.check(project)
    assert "reentrancy-eth" in found.value.log
    assert "src/Purse.sol#" in found.value.log
    purse.write_text(unsafe.replace(CALL, DIRECTIVE + CALL))
    slither.check(project)


def test_a_justification_of_nothing_fails(project: Path) -> None:
    (project / "src/Purse.sol").write_text(SAFE.replace(CALL, DIRECTIVE + CALL))
    with pytest.raises(DevError, match=r"findings in .*: 1") as found:
        slither.check(project)
    assert "unused directive for reentrancy-eth" in found.value.log


def test_what_does_not_compile_or_is_not_there_fails(project: Path) -> None:
    with pytest.raises(CommandError):
        slither.check(project)
    (project / "src/Purse.sol").write_text(SAFE.replace(CLEARED, "        nonsense;\n"))
    with pytest.raises(CommandError):
        slither.check(project)
