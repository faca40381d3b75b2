// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Base} from "./Base.sol";
import {MemberRegistry} from "../src/MemberRegistry.sol";
import {Penalties} from "../src/Penalties.sol";
import {RollCalls} from "../src/RollCalls.sol";
import {Seats} from "../src/Seats.sol";
import {Settlement} from "../src/Settlement.sol";
import {TaskMarket} from "../src/TaskMarket.sol";

contract PenaltiesTest is Base {
    uint96 private constant ALL = 1000 ether;

    function test_WhatIsSlashedIsBurntAtOnceAndNobodyGetsAShare() public {
        bytes32 taskId = started(100 ether, 3);
        uint256 inAll = token.balanceOf(address(registry));
        settle(taskId, 1, entry(1, 0, 5 ether, 2 ether));
        assertEq(registry.stakeOf(consortium, owner(1)), STAKE - 2 ether);
        assertEq(registry.burnt(consortium), 2 ether);
        assertEq(token.balanceOf(address(registry)), inAll);
        assertEq(registry.memberOf(consortium, owner(1)).held, 5 ether);
        Penalties.Penalty memory p = settlement.penaltyAt(taskId, 1);
        assertTrue(p.held == 5 ether && p.slashed == 2 ether && !p.removed && !p.appealing);

        // The next result takes half of what is held for good, and gives the rest back.
        settle(taskId, 4, entry(1, 0, 0, 4.5 ether));
        assertEq(registry.stakeOf(consortium, owner(1)), STAKE - 4.5 ether);
        assertEq(registry.burnt(consortium), 4.5 ether);
        assertEq(registry.memberOf(consortium, owner(1)).held, 0);
    }

    function test_ALedgerIsTheOneThatWasSigned() public {
        bytes32 taskId = started(100 ether, 3);
        bytes memory ledger = entry(1, 0, 5 ether, 0);
        Settlement.RoundResult memory r = resultWith(taskId, 1, ledger);
        bytes memory made = joined(signatures(r, 3));
        vm.expectRevert(abi.encodeWithSelector(Penalties.PenaltiesMismatch.selector, r.penalties));
        settlement.postResult(r, entry(1, 0, 6 ether, 0), made);
        vm.expectPartialRevert(Penalties.PenaltiesMismatch.selector);
        settlement.postResult(r, "", made);
        settlement.postResult(r, ledger, made);

        // No other name for an empty ledger than zero, and none for a ledger.
        r = resultWith(taskId, 2, ledger);
        r.penalties = 0;
        made = joined(signatures(r, 3));
        vm.expectPartialRevert(Penalties.PenaltiesMismatch.selector);
        settlement.postResult(r, ledger, made);
        r.penalties = keccak256("");
        made = joined(signatures(r, 3));
        vm.expectPartialRevert(Penalties.PenaltiesMismatch.selector);
        settlement.postResult(r, "", made);
    }

    function test_NobodyIsForgotten() public {
        bytes32 taskId = started(100 ether, 3);
        settle(taskId, 1, entry(1, 0, 5 ether, 0));
        refuse(taskId, 2, "", Penalties.PenaltyForgotten.selector);
        refuse(taskId, 2, entry(0, 0, 5 ether, 0), Penalties.PenaltyForgotten.selector);
        settle(taskId, 2, bytes.concat(entry(0, 0, 1 ether, 0), entry(1, 0, 0, 0)));
        refuse(taskId, 3, entry(0, 0, 1 ether, 0), Penalties.PenaltyForgotten.selector);
    }

    function test_ABrokenLedgerIsRefused() public {
        bytes32 taskId = started(100 ether, 3);
        bytes memory one = entry(1, 0, 5 ether, 0);
        refuse(taskId, 1, bytes.concat(one, hex"00"), Penalties.PenaltiesCut.selector);
        refuse(taskId, 1, bytes.concat(one, one), Penalties.PenaltiesNotAscending.selector);
        refuse(taskId, 1, bytes.concat(one, entry(0, 0, 0, 0)), Penalties.PenaltiesNotAscending.selector);
        refuse(taskId, 1, entry(1, 4, 0, 0), Penalties.PenaltyUnknown.selector);
        refuse(taskId, 1, entry(3, 0, 0, 0), Seats.NoSuchPlace.selector);
        refuse(taskId, 1, entry(255, 0, 1, 0), Seats.NoSuchPlace.selector);
    }

    function test_ASlashIsForGoodAndNotAboveTheSnapshot() public {
        bytes32 taskId = started(100 ether, 3);
        refuse(taskId, 1, entry(1, 0, 1, ALL), Penalties.PenaltyAboveStake.selector);
        refuse(taskId, 1, entry(1, 0, type(uint96).max, type(uint96).max), Penalties.PenaltyAboveStake.selector);
        settle(taskId, 1, entry(1, 0, 0, ALL));
        assertEq(registry.stakeOf(consortium, owner(1)), 0);
        refuse(taskId, 2, entry(1, 0, 1, ALL - 1), Penalties.SlashDecreased.selector);
    }

    /// What the owner has added or taken out since the start does not change what a task may take, nor what is there.
    function test_AnExpelledMemberLosesNoMoreThanIsThere() public {
        bytes32 taskId = started(100 ether, 3);
        proveTwoVotes(taskId, 2, 103, address(0));
        assertEq(registry.burnt(consortium), STAKE / 2);
        Settlement.RoundResult memory r = resultWith(taskId, 1, entry(2, 1, 0, ALL));
        settlement.postResult(r, entry(2, 1, 0, ALL), joined(signatures(r, 2)));
        assertEq(registry.stakeOf(consortium, owner(2)), 0);
        assertEq(registry.burnt(consortium), STAKE);
        assertTrue(market.participantOf(taskId, owner(2)).removed && market.participantOf(taskId, owner(2)).expelled);
        (uint256 total, uint256 expelled, uint256 removed) = market.totalStakeOf(taskId);
        assertTrue(total == 3 * STAKE && expelled == STAKE && removed == 0);
    }

    function test_WhatIsHeldDoesNotLeave() public {
        bytes32 taskId = started(100 ether, 3);
        settle(taskId, 1, entry(1, 2, 300 ether, 0));
        vm.prank(owner(1));
        registry.unstake(consortium, STAKE);
        vm.warp(block.timestamp + 400 days);
        vm.prank(owner(1));
        registry.withdraw(consortium);
        assertEq(registry.memberOf(consortium, owner(1)).unbonding, 300 ether);
        vm.expectRevert(abi.encodeWithSelector(MemberRegistry.StillHeld.selector, 300 ether));
        vm.prank(owner(1));
        registry.withdraw(consortium);
        // Fresh stake may stand in for it.
        vm.startPrank(owner(1));
        registry.stake(consortium, 100 ether);
        registry.withdraw(consortium);
        vm.stopPrank();
        assertEq(registry.memberOf(consortium, owner(1)).unbonding, 200 ether);
        settle(taskId, 2, entry(1, 0, 0, 250 ether));
        assertEq(registry.memberOf(consortium, owner(1)).unbonding, 50 ether);
        vm.prank(owner(1));
        registry.withdraw(consortium);
        assertEq(registry.burnt(consortium), 250 ether);
    }

    function test_WhoIsRemovedSignsOnButAnswersNoCall() public {
        bytes32 taskId = started(100 ether, 4);
        settle(taskId, 1, entry(3, 1, 0, 0));
        // A quorum of four is three: that of the removed member still counts.
        Settlement.RoundResult memory r = resultWith(taskId, 2, entry(3, 1, 0, 0));
        uint256[] memory keys = sorted([uint256(101), 102, 104]);
        settlement.postResult(r, entry(3, 1, 0, 0), joined(signaturesBy(settlement.digestOf(r), keys)));

        vm.expectRevert(abi.encodeWithSelector(RollCalls.NotCounted.selector, owner(3)));
        this.answerOf(taskId, 1, 3);
        answer(taskId, 1, 0);
        answer(taskId, 1, 1);
        assertEq(settlement.epochOf(taskId), 0);
        answer(taskId, 1, 2);
        assertEq(settlement.epochOf(taskId), 1);
        assertEq(settlement.epochAt(taskId, 1).members, 7);
        r = resultWith(taskId, 3, entry(3, 1, 0, 0));
        r.epoch = 1;
        bytes memory made = joined(signaturesBy(settlement.digestOf(r), keys));
        vm.expectPartialRevert(Settlement.QuorumMissing.selector);
        settlement.postResult(r, entry(3, 1, 0, 0), made);

        // Whoever comes back counts from the next call on.
        r.penalties = keccak256(entry(3, 0, 0, 0));
        settlement.postResult(r, entry(3, 0, 0, 0), joined(signatures(r, 3)));
        for (uint256 i = 0; i < 4; ++i) {
            answer(taskId, 2, i);
        }
        assertEq(settlement.epochAt(taskId, 2).members, 15);
    }

    function test_WhatARemovedMemberHasAnsweredIsTakenBack() public {
        bytes32 taskId = started(100 ether, 4);
        answer(taskId, 1, 3);
        answer(taskId, 1, 0);
        settle(taskId, 1, entry(3, 1, 0, 0));
        assertEq(settlement.epochAt(taskId, 1).members, 1);
        assertEq(settlement.epochAt(taskId, 1).stake, STAKE);
        vm.expectPartialRevert(RollCalls.RollCallNotOpen.selector);
        settlement.closeRollCall(taskId, 1);
        answer(taskId, 1, 1);
        answer(taskId, 1, 2);
        assertEq(settlement.epochAt(taskId, 1).members, 7);
    }

    function test_WhoIsLeftWithoutAMajorityGoesNotOnAlone() public {
        bytes32 taskId = started(100 ether, 4);
        settle(taskId, 1, bytes.concat(entry(2, 1, 0, 0), entry(3, 1, 0, 0)));
        answer(taskId, 1, 0);
        answer(taskId, 1, 1);
        vm.expectPartialRevert(RollCalls.RollCallNotOpen.selector);
        settlement.closeRollCall(taskId, 1);
        settle(taskId, 2, bytes.concat(entry(2, 0, 0, 0), entry(3, 1, 0, 0)));
        answer(taskId, 1, 2);
        assertEq(settlement.epochOf(taskId), 1);
    }

    function test_WhoIsRemovedAndThenExpelledIsCountedOutOnce() public {
        bytes32 taskId = started(100 ether, 4);
        settle(taskId, 1, entry(3, 1, 0, 0));
        proveTwoVotes(taskId, 3, 104, owner(0));
        (, uint256 expelled, uint256 removed) = market.totalStakeOf(taskId);
        assertTrue(expelled == STAKE && removed == 0);
        settle(taskId, 2, entry(3, 0, 0, 0));
        (, expelled, removed) = market.totalStakeOf(taskId);
        assertTrue(expelled == STAKE && removed == 0);
        assertTrue(!market.participantOf(taskId, owner(3)).removed);
        vm.expectPartialRevert(RollCalls.NotCounted.selector);
        this.answerOf(taskId, 1, 3);
    }

    function test_OnlyTheirOwnersReachTheLevers() public {
        bytes32 taskId = started(100 ether, 3);
        vm.expectPartialRevert(TaskMarket.NotSettlement.selector);
        market.penalise(taskId, 0, 0, 1, 0, true);
        vm.expectPartialRevert(MemberRegistry.NotMarket.selector);
        registry.hold(consortium, owner(0), 0, 1);
    }

    /// Any two ledgers in a row: what is held stays, what is slashed is burnt, and not a unit gets lost.
    function testFuzz_TwoLedgersInARow(uint96[2] calldata held, uint96[2] calldata slashed, uint8[2] calldata flags)
        public
    {
        bytes32 taskId = started(100 ether, 3);
        uint96[2] memory s = [slashed[0] % ALL, slashed[1] % ALL];
        uint96[2] memory h = [held[0] % (ALL - s[0] + 1), held[1] % (ALL - s[1] + 1)];
        settle(taskId, 1, entry(1, flags[0] % 4, h[0], s[0]));
        assertEq(registry.burnt(consortium), s[0]);
        if (s[1] < s[0]) {
            refuse(taskId, 2, entry(1, flags[1] % 4, h[1], s[1]), Penalties.SlashDecreased.selector);
            return;
        }
        settle(taskId, 2, entry(1, flags[1] % 4, h[1], s[1]));
        MemberRegistry.Member memory m = registry.memberOf(consortium, owner(1));
        assertEq(uint256(m.stake) + s[1], STAKE);
        assertEq(registry.burnt(consortium), s[1]);
        assertEq(m.held, h[1]);
        assertTrue(market.participantOf(taskId, owner(1)).removed == (flags[1] % 2 == 1));
        assertEq(token.balanceOf(address(registry)), 3 * STAKE);
    }

    function test_GasOfALedger() public {
        bytes32 taskId = started(100 ether, 16);
        bytes memory ledger = bytes.concat(entry(3, 0, 5 ether, 0), entry(9, 0, 5 ether, 0));
        settle(taskId, 1, ledger);
        settle(taskId, 2, ledger);
        vm.snapshotGasLastCall("Penalties", "16 sites, two penalised, nothing new");
        settle(taskId, 3, bytes.concat(entry(3, 0, 15 ether, 0), entry(9, 1, 0, 35 ether)));
        vm.snapshotGasLastCall("Penalties", "16 sites, two penalised, both changed");
    }

    /// Reverts reach `vm.expectPartialRevert` only from calls.
    function answerOf(bytes32 taskId, uint32 epoch, uint256 i) external {
        answer(taskId, epoch, i);
    }

    function settle(bytes32 taskId, uint64 round, bytes memory ledger) private {
        Settlement.RoundResult memory r = resultWith(taskId, round, ledger);
        uint256 n = market.participants(taskId).length;
        settlement.postResult(r, ledger, joined(signatures(r, n)));
    }

    function refuse(bytes32 taskId, uint64 round, bytes memory ledger, bytes4 reason) private {
        Settlement.RoundResult memory r = resultWith(taskId, round, ledger);
        bytes memory made = joined(signatures(r, market.participants(taskId).length));
        vm.expectPartialRevert(reason);
        settlement.postResult(r, ledger, made);
    }
}
