// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Base} from "./Base.sol";
import {Fallback} from "../src/Fallback.sol";
import {MemberRegistry} from "../src/MemberRegistry.sol";
import {Seats} from "../src/Seats.sol";
import {Settlement} from "../src/Settlement.sol";
import {TaskMarket} from "../src/TaskMarket.sol";

/// What becomes of a task whose members reach the chain and no quorum.
contract FallbackTest is Base {
    uint128 private constant BOUNTY = 900 ether;
    uint256 private constant WINDOW = 60;

    bytes32 private taskId;
    uint256 private deadline;

    function begin(uint16 members) private {
        taskId = started(BOUNTY, members);
        deadline = market.taskOf(taskId).terms.deadline;
    }

    function amounts(uint128 a, uint128 b, uint128 c) private pure returns (uint128[] memory list) {
        list = new uint128[](3);
        (list[0], list[1], list[2]) = (a, b, c);
    }

    function nothing(uint256 members) private pure returns (uint128[] memory) {
        return new uint128[](members);
    }

    /// The first members commit to and reveal what they say; settling is next.
    function said(uint128[] memory first, uint128[] memory second) private {
        vm.warp(deadline);
        commitRewards(taskId, 0, first);
        commitRewards(taskId, 1, second);
        vm.warp(deadline + WINDOW);
        revealRewards(taskId, 0, first);
        revealRewards(taskId, 1, second);
        vm.warp(deadline + 2 * WINDOW);
    }

    function claim(uint256 place, uint128[] memory rewards) private {
        uint256[] memory amounts_ = new uint256[](rewards.length);
        for (uint256 i = 0; i < rewards.length; ++i) {
            amounts_[i] = rewards[i];
        }
        (, bytes32[] memory proof) = rewardTree(taskId, amounts_, place);
        settlement.claim(taskId, owner(place), rewards[place], proof);
    }

    function expectPhase(Fallback.Phase phase) private {
        vm.expectRevert(abi.encodeWithSelector(Fallback.WrongPhase.selector, taskId, phase));
    }

    function test_MembersAreReallyPaidWhatMoreThanHalfSayAndTheRestReturns() public {
        begin(3);
        uint256 planner = token.balanceOf(owner(0));
        said(amounts(300, 200, 100), amounts(300, 200, 100));
        quorumFallback.settle(taskId, nothing(3), amounts(300, 200, 100));
        assertEq(settlement.totalReward(taskId), 600);
        assertEq(token.balanceOf(owner(0)), planner + BOUNTY - 600);
        for (uint256 i = 0; i < 3; ++i) {
            uint256 before = token.balanceOf(owner(i));
            claim(i, amounts(300, 200, 100));
            assertEq(token.balanceOf(owner(i)), before + 300 - 100 * i);
        }
        assertEq(token.balanceOf(address(market)), 0);
        assertEq(quorumFallback.courseOf(taskId).settledBlock, block.number);
    }

    function test_ATaskDoesNotExpireWhileItsMembersMaySettleIt() public {
        begin(3);
        vm.warp(deadline + WINDOW - 1);
        vm.expectRevert(abi.encodeWithSelector(TaskMarket.FallbackOpen.selector, taskId));
        market.expire(taskId);
        commitRewards(taskId, 0, amounts(1, 1, 1));
        commitRewards(taskId, 1, amounts(1, 1, 1));
        vm.warp(deadline + 2 * WINDOW - 1);
        vm.expectRevert(abi.encodeWithSelector(TaskMarket.FallbackOpen.selector, taskId));
        market.expire(taskId);
        revealRewards(taskId, 0, amounts(1, 1, 1));
        revealRewards(taskId, 1, amounts(1, 1, 1));
        vm.warp(deadline + 300 days);
        vm.expectRevert(abi.encodeWithSelector(TaskMarket.FallbackOpen.selector, taskId));
        market.expire(taskId);
        quorumFallback.settle(taskId, nothing(3), amounts(1, 1, 1));
        assertEq(uint256(market.statusOf(taskId)), uint256(TaskMarket.Status.Finished));
    }

    function test_ATaskExpiresOnceNobodyHasCommitted() public {
        begin(3);
        vm.warp(deadline + WINDOW);
        market.expire(taskId);
        assertEq(market.taskOf(taskId).refunded, BOUNTY);
    }

    function test_TheWindowHasLimits() public {
        enroll(0, STAKE);
        TaskMarket.Terms memory wanted = terms(0, 1);
        wanted.fallbackWindow = 30 days;
        vm.prank(owner(0));
        market.publish(wanted, SPEC);
        for (uint32 wrong = 0; wrong <= 30 days + 1; wrong += 30 days + 1) {
            (wanted.salt, wanted.fallbackWindow) = ("another", wrong);
            vm.expectRevert(abi.encodeWithSelector(TaskMarket.BadTerms.selector, "fallbackWindow"));
            vm.prank(owner(0));
            market.publish(wanted, SPEC);
        }
    }

    function test_HalfOfTheStakeIsNotEnough() public {
        begin(4);
        vm.warp(deadline);
        for (uint256 i = 0; i < 4; ++i) {
            commitRewards(taskId, i, nothing(4));
        }
        vm.warp(deadline + WINDOW);
        revealRewards(taskId, 0, nothing(4));
        revealRewards(taskId, 1, nothing(4));
        vm.warp(deadline + 2 * WINDOW);
        expectPhase(Fallback.Phase.Closed);
        quorumFallback.settle(taskId, nothing(4), nothing(4));
        market.expire(taskId);
    }

    function test_NothingCountsOutsideOfItsWindow() public {
        begin(3);
        bytes memory rewards = packed(nothing(3));
        vm.warp(deadline - 1);
        expectPhase(Fallback.Phase.Waiting);
        quorumFallback.commit(taskId, owner(0), "");
        vm.warp(deadline);
        commitRewards(taskId, 0, nothing(3));
        expectPhase(Fallback.Phase.Committing);
        quorumFallback.reveal(taskId, owner(0), rewards, 0);
        vm.warp(deadline + WINDOW);
        expectPhase(Fallback.Phase.Revealing);
        quorumFallback.commit(taskId, owner(0), "");
        expectPhase(Fallback.Phase.Revealing);
        quorumFallback.settle(taskId, nothing(3), nothing(3));
        vm.warp(deadline + 2 * WINDOW);
        expectPhase(Fallback.Phase.Closed);
        quorumFallback.reveal(taskId, owner(0), rewards, 0);
    }

    function test_WhoDoesNotRevealHasNoWeightAndLosesNothing() public {
        begin(3);
        vm.warp(deadline);
        commitRewards(taskId, 2, amounts(0, 0, 900));
        said(amounts(7, 7, 7), amounts(9, 9, 9));
        uint256 staked = registry.stakeOf(consortium, owner(2));
        quorumFallback.settle(taskId, nothing(3), amounts(7, 7, 7));
        assertEq(registry.stakeOf(consortium, owner(2)), staked);
        claim(2, amounts(7, 7, 7));
    }

    function test_ACommitmentIsWorthNothingToAnybodyElse() public {
        begin(3);
        bytes memory rewards = packed(amounts(1, 2, 3));
        bytes32 commitment = quorumFallback.digestOf(taskId, owner(0), rewards, "salt");
        vm.warp(deadline);
        for (uint256 i = 0; i < 2; ++i) {
            vm.prank(owner(i));
            quorumFallback.commit(taskId, owner(i), commitment);
        }
        vm.warp(deadline + WINDOW);
        quorumFallback.reveal(taskId, owner(0), rewards, "salt");
        vm.expectRevert(abi.encodeWithSelector(Fallback.NotCommitted.selector, owner(1)));
        quorumFallback.reveal(taskId, owner(1), rewards, "salt");
    }

    function test_OnlyAMemberItselfCommitsWithEitherKey() public {
        begin(3);
        vm.warp(deadline);
        vm.prank(owner(1));
        vm.expectRevert(abi.encodeWithSelector(Fallback.NotYours.selector, owner(0), owner(1)));
        quorumFallback.commit(taskId, owner(0), "x");
        vm.prank(session(0));
        quorumFallback.commit(taskId, owner(0), "x");
        vm.prank(owner(5));
        vm.expectRevert(abi.encodeWithSelector(Seats.NotParticipant.selector, owner(5)));
        quorumFallback.commit(taskId, owner(5), "x");
    }

    function test_ALaterCommitmentReplacesAnEarlierOne() public {
        begin(3);
        vm.warp(deadline);
        commitRewards(taskId, 0, amounts(1, 2, 3));
        commitRewards(taskId, 0, amounts(4, 5, 6));
        vm.warp(deadline + WINDOW);
        vm.expectRevert(abi.encodeWithSelector(Fallback.NotCommitted.selector, owner(0)));
        revealRewards(taskId, 0, amounts(1, 2, 3));
        assertEq(quorumFallback.revealedBy(taskId, 0).length, 0);
        revealRewards(taskId, 0, amounts(4, 5, 6));
        assertTrue(keccak256(quorumFallback.revealedBy(taskId, 0)) == keccak256(packed(amounts(4, 5, 6))));
    }

    function test_NobodyRevealsTwice() public {
        begin(3);
        vm.warp(deadline);
        commitRewards(taskId, 0, amounts(1, 2, 3));
        vm.warp(deadline + WINDOW);
        revealRewards(taskId, 0, amounts(1, 2, 3));
        vm.expectRevert(abi.encodeWithSelector(Fallback.AlreadyRevealed.selector, owner(0)));
        revealRewards(taskId, 0, amounts(1, 2, 3));
    }

    function test_AVectorHasAnAmountForEachParticipant() public {
        begin(3);
        vm.warp(deadline);
        commitRewards(taskId, 0, nothing(4));
        vm.warp(deadline + WINDOW);
        vm.expectRevert(abi.encodeWithSelector(Fallback.WrongLength.selector, 64, 48));
        revealRewards(taskId, 0, nothing(4));
    }

    function test_TheLowerOfTwoMiddleAmountsIsTheMedian() public {
        begin(3);
        said(amounts(10, 0, 0), amounts(20, 0, 0));
        vm.expectRevert(abi.encodeWithSelector(Fallback.NoMedian.selector, 0, 20));
        quorumFallback.settle(taskId, nothing(3), amounts(20, 0, 0));
        vm.expectRevert(abi.encodeWithSelector(Fallback.NoMedian.selector, 0, 15));
        quorumFallback.settle(taskId, nothing(3), amounts(15, 0, 0));
        quorumFallback.settle(taskId, nothing(3), amounts(10, 0, 0));
    }

    function test_MediansAreCutToWhatIsInEscrow() public {
        begin(3);
        // Each keeps the bounty; their medians do not.
        uint128 all = BOUNTY;
        vm.warp(deadline);
        commitRewards(taskId, 2, amounts(0, all, 0));
        commitRewards(taskId, 0, amounts(all, 0, 0));
        commitRewards(taskId, 1, amounts(all, all, 0));
        vm.warp(deadline + WINDOW);
        revealRewards(taskId, 2, amounts(0, all, 0));
        revealRewards(taskId, 0, amounts(all, 0, 0));
        revealRewards(taskId, 1, amounts(all, all, 0));
        vm.warp(deadline + 2 * WINDOW);
        quorumFallback.settle(taskId, nothing(3), amounts(all, all, 0));
        claim(0, amounts(all / 2, all / 2, 0));
        claim(1, amounts(all / 2, all / 2, 0));
        assertEq(token.balanceOf(address(market)), 0);
    }

    // --- with what else there is --------------------------------------------------------------------------------------

    /// A quorum settles, with so much for each of three.
    function settled(uint64 round, uint256[] memory rewards, bool last) private {
        (bytes32 root,) = rewardTree(taskId, rewards, 0);
        uint256 total = rewards[0] + rewards[1] + rewards[2];
        Settlement.RoundResult memory r = result(taskId, round, root, total, last);
        settlement.postResult(r, "", joined(signatures(r, 3)));
    }

    function test_WhatAQuorumHasSettledIsNeverTakenBack() public {
        begin(3);
        settled(1, wide(100, 50, 0), false);
        claim(0, amounts(100, 50, 0));
        said(amounts(0, 70, 0), amounts(0, 70, 0));
        vm.expectRevert(
            abi.encodeWithSelector(Fallback.NotSettledSoFar.selector, settlement.stateOf(taskId).rewardRoot)
        );
        quorumFallback.settle(taskId, nothing(3), amounts(0, 70, 0));
        quorumFallback.settle(taskId, amounts(100, 50, 0), amounts(0, 70, 0));
        claim(1, amounts(100, 70, 0));
        (, bytes32[] memory proof) = rewardTree(taskId, wide(100, 70, 0), 0);
        vm.expectRevert(abi.encodeWithSelector(Settlement.NothingToClaim.selector, owner(0)));
        settlement.claim(taskId, owner(0), 100, proof);
        assertEq(market.taskOf(taskId).refunded, BOUNTY - 170);
    }

    function test_WithoutAResultNothingCanBeSaidToBeSettled() public {
        begin(3);
        said(nothing(3), nothing(3));
        vm.expectRevert(abi.encodeWithSelector(Fallback.NotSettledSoFar.selector, bytes32(0)));
        quorumFallback.settle(taskId, amounts(1, 0, 0), nothing(3));
    }

    function test_AQuorumThatIsBackInTimeSettlesAndTheMediansAddToIt() public {
        begin(3);
        said(amounts(80, 0, 0), amounts(80, 0, 0));
        settled(1, wide(10, 20, 30), false);
        quorumFallback.settle(taskId, amounts(10, 20, 30), amounts(80, 0, 0));
        claim(0, amounts(80, 20, 30));
        claim(2, amounts(80, 20, 30));
    }

    function test_ALastResultEndsTheFallback() public {
        begin(3);
        said(amounts(80, 0, 0), amounts(80, 0, 0));
        settled(1, wide(10, 20, 30), true);
        expectPhase(Fallback.Phase.Closed);
        quorumFallback.settle(taskId, amounts(10, 20, 30), amounts(80, 0, 0));
    }

    function test_NoResultFollowsTheMedians() public {
        begin(3);
        said(nothing(3), nothing(3));
        quorumFallback.settle(taskId, nothing(3), nothing(3));
        Settlement.RoundResult memory r = result(taskId, 1, 0, 0, true);
        bytes memory signed = joined(signatures(r, 3));
        vm.expectPartialRevert(bytes4(keccak256("TaskNotStarted(bytes32,uint8)")));
        settlement.postResult(r, "", signed);
        expectPhase(Fallback.Phase.Closed);
        quorumFallback.settle(taskId, nothing(3), nothing(3));
    }

    function test_WhatIsHeldReturnsAndWhatIsBurntStaysBurnt() public {
        begin(3);
        bytes memory ledger = entry(2, 1, 40 ether, 10 ether);
        Settlement.RoundResult memory r = resultWith(taskId, 1, ledger);
        (r.rewardRoot,) = rewardTree(taskId, wide(0, 0, 0), 0);
        settlement.postResult(r, ledger, joined(signatures(r, 3)));
        vm.prank(owner(2));
        registry.unstake(consortium, STAKE - 10 ether);
        said(nothing(3), nothing(3));
        quorumFallback.settle(taskId, nothing(3), nothing(3));
        settlement.resolveHeld(taskId, owner(2));
        vm.warp(registry.memberOf(consortium, owner(2)).withdrawableAt);
        uint256 before = token.balanceOf(owner(2));
        vm.prank(owner(2));
        registry.withdraw(consortium);
        assertEq(token.balanceOf(owner(2)), before + STAKE - 10 ether);
    }

    function test_StakeLeavesAfterTheFallbackAsAfterAnyTask() public {
        begin(3);
        vm.prank(owner(1));
        registry.unstake(consortium, STAKE);
        said(amounts(1, 1, 1), amounts(1, 1, 1));
        quorumFallback.settle(taskId, nothing(3), amounts(1, 1, 1));
        vm.prank(owner(1));
        vm.expectPartialRevert(MemberRegistry.StillBonded.selector);
        registry.withdraw(consortium);
    }

    function test_WhoWasNotCalledInDoesNotCount() public {
        begin(3);
        answer(taskId, 1, 0);
        answer(taskId, 1, 1);
        vm.warp(block.timestamp + WINDOW);
        settlement.closeRollCall(taskId, 1);
        vm.warp(deadline);
        commitRewards(taskId, 0, nothing(3));
        bytes memory rewards = packed(nothing(3));
        bytes32 commitment = quorumFallback.digestOf(taskId, owner(2), rewards, 0);
        vm.prank(owner(2));
        vm.expectRevert(abi.encodeWithSelector(Fallback.NotActive.selector, owner(2)));
        quorumFallback.commit(taskId, owner(2), commitment);
    }

    function test_ARollCallInBetweenChangesNothing() public {
        begin(3);
        vm.warp(deadline);
        commitRewards(taskId, 2, amounts(5, 5, 5));
        answer(taskId, 1, 0);
        answer(taskId, 1, 1);
        vm.warp(deadline + WINDOW);
        settlement.closeRollCall(taskId, 1);
        revealRewards(taskId, 2, amounts(5, 5, 5));
        vm.warp(deadline + 2 * WINDOW);
        // Of three, not of the two that are left.
        expectPhase(Fallback.Phase.Closed);
        quorumFallback.settle(taskId, nothing(3), amounts(5, 5, 5));
    }

    function test_WhoIsExpelledCountsNoMore() public {
        begin(4);
        vm.warp(deadline);
        for (uint256 i = 0; i < 3; ++i) {
            commitRewards(taskId, i, i == 2 ? four(9) : four(i == 0 ? 1 : 5));
        }
        vm.warp(deadline + WINDOW);
        for (uint256 i = 0; i < 3; ++i) {
            revealRewards(taskId, i, i == 2 ? four(9) : four(i == 0 ? 1 : 5));
        }
        proveTwoVotes(taskId, 2, 103, owner(0));
        vm.warp(deadline + 2 * WINDOW);
        vm.expectRevert(abi.encodeWithSelector(Fallback.NoMedian.selector, 0, 5));
        quorumFallback.settle(taskId, nothing(4), four(5));
        quorumFallback.settle(taskId, nothing(4), four(1));
    }

    function four(uint128 amount) private pure returns (uint128[] memory list) {
        list = new uint128[](4);
        for (uint256 i = 0; i < 4; ++i) {
            list[i] = amount;
        }
    }

    function test_OnlyTheFallbackSettlesSo() public {
        begin(3);
        vm.expectRevert(abi.encodeWithSelector(Settlement.NotFallback.selector, address(this)));
        settlement.settleByMedians(taskId, 0, 0);
    }
}
