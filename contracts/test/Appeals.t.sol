// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Base} from "./Base.sol";
import {Appeals} from "../src/Appeals.sol";
import {Penalties} from "../src/Penalties.sol";
import {Seats} from "../src/Seats.sol";
import {Settlement} from "../src/Settlement.sol";
import {Signed} from "../src/Signed.sol";
import {TaskMarket} from "../src/TaskMarket.sol";

contract AppealsTest is Base {
    uint256 private constant WINDOW = 3 days;
    uint96 private constant HELD = 40 ether;

    bytes32 private taskId;

    function setUp() public override {
        super.setUp();
        taskId = started(100 ether, 3);
    }

    function test_AMemberCommitsToItsRecordsOnceAndBeforeTheStart() public {
        TaskMarket.Terms memory wanted = terms(0, 2);
        wanted.salt = keccak256("another");
        vm.prank(owner(0));
        bytes32 open = market.publish(wanted, SPEC);
        vm.startPrank(owner(1));
        vm.expectPartialRevert(TaskMarket.HoldoutEmpty.selector);
        market.commitHoldout(open, "root", 0);
        market.commitHoldout(open, "root", 500);
        market.accept(open, 6, session(1), "");
        vm.expectPartialRevert(TaskMarket.AlreadyCommitted.selector);
        market.commitHoldout(open, "another", 500);
        // Nor does stepping out and in again let one choose anew.
        market.withdrawAcceptance(open);
        market.accept(open, 6, session(1), "");
        vm.expectPartialRevert(TaskMarket.AlreadyCommitted.selector);
        market.commitHoldout(open, "another", 500);
        vm.expectPartialRevert(TaskMarket.NotOpen.selector);
        market.commitHoldout(taskId, "root", 500);
        vm.stopPrank();
        TaskMarket.Holdout memory h = market.holdoutOf(open, owner(1));
        assertTrue(h.root == "root" && h.records == 500);
    }

    function test_WithoutAnAuditorThereAreNoAppeals() public {
        TaskMarket.Terms memory wanted = terms(0, 1);
        (wanted.salt, wanted.auditor) = (keccak256("another"), address(0));
        vm.prank(owner(0));
        bytes32 other = market.publish(wanted, SPEC);
        vm.startPrank(owner(1));
        market.accept(other, 6, session(1), "");
        vm.expectPartialRevert(TaskMarket.NoAuditor.selector);
        market.commitHoldout(other, "root", 500);
        market.start(other);
        vm.expectPartialRevert(TaskMarket.NoAuditor.selector);
        settlement.appeal(other);
        vm.stopPrank();
        Appeals.AuditVerdict memory v = verdict(1, 1, true);
        v.taskId = other;
        bytes memory signature = signed(v, AUDITOR);
        vm.expectPartialRevert(TaskMarket.NoAuditor.selector);
        settlement.postVerdict(v, "findings", signature);
        // A signature that recovers to nobody is not that of the auditor who is nobody.
        vm.expectPartialRevert(TaskMarket.NoAuditor.selector);
        settlement.postVerdict(v, "findings", new bytes(65));
    }

    function test_TheWindowHasALimit() public {
        TaskMarket.Terms memory wanted = terms(0, 1);
        (wanted.salt, wanted.appealWindow) = (keccak256("another"), 30 days);
        vm.prank(owner(0));
        market.publish(wanted, SPEC);
        (wanted.salt, wanted.appealWindow) = (keccak256("a third"), 30 days + 1);
        vm.expectRevert(abi.encodeWithSelector(TaskMarket.BadTerms.selector, "appealWindow"));
        vm.prank(owner(0));
        market.publish(wanted, SPEC);
    }

    function test_OnlyWhoIsPenalisedAppealsAndOnlyOnce() public {
        vm.expectRevert(abi.encodeWithSelector(Appeals.NothingToAppeal.selector, owner(1)));
        vm.prank(owner(1));
        settlement.appeal(taskId);
        vm.expectPartialRevert(Seats.NotParticipant.selector);
        settlement.appeal(taskId);
        settle(1, bytes.concat(entry(1, 0, HELD, 0), entry(2, 1, 0, 0)), false);
        vm.roll(123);
        vm.prank(owner(1));
        settlement.appeal(taskId);
        vm.prank(owner(2));
        settlement.appeal(taskId);
        assertEq(settlement.appealOf(taskId, owner(2)).filedBlock, 123);
        vm.expectRevert(abi.encodeWithSelector(Appeals.AlreadyAppealed.selector, owner(1)));
        vm.prank(owner(1));
        settlement.appeal(taskId);
    }

    function test_AnAppealIsOverWithTheWindow() public {
        settle(1, entry(1, 2, HELD, 0), true);
        vm.warp(block.timestamp + WINDOW + 1);
        vm.expectRevert(abi.encodeWithSelector(Appeals.AppealsOver.selector, taskId));
        vm.prank(owner(1));
        settlement.appeal(taskId);
        vm.warp(block.timestamp - 1);
        vm.prank(owner(1));
        settlement.appeal(taskId);
    }

    function test_AVerdictIsTheAuditorsOwn() public {
        Appeals.AuditVerdict memory v = verdict(1, 3, true);
        bytes memory bySession = signed(v, 101);
        vm.expectRevert(abi.encodeWithSelector(Signed.WrongSigner.selector, vm.addr(AUDITOR), session(0)));
        settlement.postVerdict(v, "findings", bySession);
        bytes memory good = signed(v, AUDITOR);
        vm.expectRevert(abi.encodeWithSelector(Appeals.FindingsMismatch.selector, v.findingsHash));
        settlement.postVerdict(v, "other findings", good);
        v.authentic = false;
        vm.expectPartialRevert(Signed.WrongSigner.selector);
        settlement.postVerdict(v, "findings", good);
        v = verdict(9, 3, true);
        good = signed(v, AUDITOR);
        vm.expectPartialRevert(Seats.NotParticipant.selector);
        settlement.postVerdict(v, "findings", good);
    }

    function test_OnlyParticipantsTestify() public {
        vm.expectEmit(address(settlement));
        emit Appeals.Testified(taskId, owner(0), owner(1), 3, "findings");
        vm.prank(owner(0));
        settlement.testify(taskId, owner(1), 3, "findings");
        vm.expectRevert(abi.encodeWithSelector(Seats.NotParticipant.selector, address(this)));
        settlement.testify(taskId, owner(1), 3, "findings");
        vm.expectRevert(abi.encodeWithSelector(Appeals.FindingsTooLong.selector, 8193, 8192));
        vm.prank(owner(0));
        settlement.testify(taskId, owner(1), 3, new bytes(8193));
    }

    function test_FindingsHaveALimit() public {
        Appeals.AuditVerdict memory v = verdict(1, 3, true);
        bytes memory findings = new bytes(8193);
        v.findingsHash = keccak256(findings);
        bytes memory signature = signed(v, AUDITOR);
        vm.expectRevert(abi.encodeWithSelector(Appeals.FindingsTooLong.selector, 8193, 8192));
        settlement.postVerdict(v, findings, signature);
        findings = new bytes(8192);
        v.findingsHash = keccak256(findings);
        settlement.postVerdict(v, findings, signed(v, AUDITOR));
    }

    function test_VerdictsOnlyGoOn() public {
        refuse(verdict(1, 0, true), Appeals.VerdictNotNewer.selector);
        speak(1, 3, true);
        refuse(verdict(1, 3, false), Appeals.VerdictNotNewer.selector);
        refuse(verdict(1, 2, false), Appeals.VerdictNotNewer.selector);
        vm.roll(77);
        speak(1, 4, false);
        Appeals.Appeal memory a = settlement.appealOf(taskId, owner(1));
        assertTrue(a.epoch == 4 && !a.authentic && a.verdictBlock == 77 && a.filedBlock == 0);
        // Others have theirs.
        speak(2, 1, true);
    }

    function test_ATaskEndsWithNothingHeldButWhatAnAppealProtects() public {
        Settlement.RoundResult memory r = resultWith(taskId, 1, entry(1, 0, HELD, 0));
        r.last = true;
        bytes memory made = joined(signatures(r, 3));
        vm.expectRevert(abi.encodeWithSelector(Penalties.HeldWithoutAppeal.selector, 1, HELD));
        settlement.postResult(r, entry(1, 0, HELD, 0), made);
        settle(1, entry(1, 0, 0, HELD), true);
        assertEq(registry.burnt(consortium), HELD);
    }

    function test_WhatTheAuditorFindsRealIsLetGo() public {
        settle(1, entry(1, 2, HELD, 1 ether), true);
        vm.expectRevert(abi.encodeWithSelector(Appeals.AuditorMayAnswer.selector, block.timestamp + WINDOW));
        settlement.resolveHeld(taskId, owner(1));
        speak(1, 4, true);
        settlement.resolveHeld(taskId, owner(1));
        check(0, 1 ether);
        vm.expectPartialRevert(Appeals.NothingHeld.selector);
        settlement.resolveHeld(taskId, owner(1));
    }

    function test_WhatTheAuditorFindsInventedIsBurnt() public {
        settle(1, entry(1, 3, HELD, 1 ether), true);
        speak(1, 3, true);
        speak(1, 4, false);
        settlement.resolveHeld(taskId, owner(1));
        check(0, HELD + 1 ether);
        assertTrue(settlement.penaltyAt(taskId, 1).removed);
    }

    function test_NothingIsBurntWhereTheAuditorKeepsSilent() public {
        settle(1, entry(1, 2, HELD, 1 ether), true);
        vm.prank(owner(1));
        settlement.appeal(taskId);
        uint256 end = block.timestamp + WINDOW;
        vm.warp(end);
        vm.expectRevert(abi.encodeWithSelector(Appeals.AuditorMayAnswer.selector, end));
        settlement.resolveHeld(taskId, owner(1));
        vm.warp(end + 1);
        refuse(verdict(1, 4, false), Appeals.AppealsOver.selector);
        settlement.resolveHeld(taskId, owner(1));
        check(0, 1 ether);
    }

    function test_WhoDoesNotAppealInTimeLosesWhatIsHeld() public {
        settle(1, entry(1, 2, HELD, 1 ether), true);
        vm.warp(block.timestamp + WINDOW + 1);
        settlement.resolveHeld(taskId, owner(1));
        check(0, HELD + 1 ether);
    }

    function test_ATaskWithoutALastResultLetsAllGo() public {
        settle(1, bytes.concat(entry(1, 2, HELD, 1 ether), entry(2, 1, HELD, 0)), false);
        speak(1, 1, false);
        vm.expectPartialRevert(Appeals.NotYetOver.selector);
        settlement.resolveHeld(taskId, owner(1));
        vm.warp(block.timestamp + 2 days + 60);
        market.expire(taskId);
        settlement.resolveHeld(taskId, owner(1));
        settlement.resolveHeld(taskId, owner(2));
        check(0, 1 ether);
        assertEq(registry.memberOf(consortium, owner(2)).held, 0);
        refuse(verdict(1, 2, false), Appeals.AppealsOver.selector);
    }

    function test_NobodyElsesPenaltyIsTouched() public {
        settle(1, bytes.concat(entry(1, 2, HELD, 0), entry(2, 2, HELD, 0)), true);
        speak(1, 4, false);
        settlement.resolveHeld(taskId, owner(1));
        assertEq(registry.memberOf(consortium, owner(2)).held, HELD);
        assertEq(registry.stakeOf(consortium, owner(2)), STAKE);
        vm.expectPartialRevert(Seats.NotParticipant.selector);
        settlement.resolveHeld(taskId, owner(9));
    }

    /// Whatever ledger, member and auditor say: in the end nothing is held, and all that was is either back or burnt.
    function testFuzz_InTheEndNothingIsHeld(uint96 held, uint96 slashed, uint8 says, uint32 later) public {
        slashed %= 1000 ether;
        held = 1 + held % (1000 ether - slashed);
        settle(1, entry(1, 2, held, slashed), true);
        bool appeals = says & 64 != 0;
        vm.prank(owner(1));
        if (appeals) settlement.appeal(taskId);
        vm.stopPrank();
        if (says % 3 != 0) speak(1, 1, says % 3 == 1);
        vm.warp(block.timestamp + (says % 3 == 0 ? WINDOW + 1 : later % WINDOW));
        settlement.resolveHeld(taskId, owner(1));
        check(0, says % 3 == 2 || (says % 3 == 0 && !appeals) ? slashed + held : slashed);
        assertEq(token.balanceOf(address(registry)), 3 * STAKE);
    }

    function check(uint256 held, uint256 slashed) private view {
        assertEq(registry.memberOf(consortium, owner(1)).held, held);
        assertEq(registry.stakeOf(consortium, owner(1)), STAKE - slashed);
        assertEq(registry.burnt(consortium), slashed);
        Penalties.Penalty memory p = settlement.penaltyAt(taskId, 1);
        assertTrue(p.held == held && p.slashed == slashed && !p.appealing);
    }

    function settle(uint64 round, bytes memory ledger, bool last) private {
        Settlement.RoundResult memory r = resultWith(taskId, round, ledger);
        r.last = last;
        settlement.postResult(r, ledger, joined(signatures(r, 3)));
    }

    function verdict(uint256 i, uint32 epoch, bool authentic) private view returns (Appeals.AuditVerdict memory) {
        return Appeals.AuditVerdict(taskId, owner(i), epoch, authentic, keccak256("findings"));
    }

    function signed(Appeals.AuditVerdict memory v, uint256 key) private view returns (bytes memory) {
        return signatureBy(key, digestOf(verdictHash(v)));
    }

    function speak(uint256 i, uint32 epoch, bool authentic) private {
        Appeals.AuditVerdict memory v = verdict(i, epoch, authentic);
        settlement.postVerdict(v, "findings", signed(v, AUDITOR));
    }

    function refuse(Appeals.AuditVerdict memory v, bytes4 reason) private {
        bytes memory signature = signed(v, AUDITOR);
        vm.expectPartialRevert(reason);
        settlement.postVerdict(v, "findings", signature);
    }
}
