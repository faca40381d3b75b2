// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {Base} from "./Base.sol";
import {MemberRegistry} from "../src/MemberRegistry.sol";
import {TaskMarket} from "../src/TaskMarket.sol";
import {Settlement} from "../src/Settlement.sol";

/// A token that keeps a tenth of what is sent.
contract GreedyToken is ERC20("Greedy", "GRD") {
    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    function _update(address from, address to, uint256 amount) internal override {
        super._update(from, to, amount);
        if (from != address(0) && to != address(0)) super._update(to, address(0xdead), amount / 10);
    }
}

contract SettlementTest is Base {
    function test_TheLastResultClosesTheTaskAndRefundsTheRest() public {
        bytes32 taskId = started(100 ether, 3);
        uint256 before = token.balanceOf(owner(0));
        bytes32 root = leaf(taskId, owner(1), 60 ether);
        Settlement.RoundResult memory r = result(taskId, 20, root, 60 ether, true);
        settlement.postResult(r, signatures(r, 3));
        assertEq(token.balanceOf(owner(0)) - before, 40 ether);
        assertTrue(market.statusOf(taskId) == TaskMarket.Status.Finished);

        before = token.balanceOf(owner(1));
        settlement.claim(taskId, owner(1), 60 ether, new bytes32[](0));
        assertEq(token.balanceOf(owner(1)) - before, 60 ether);
        assertEq(token.balanceOf(address(market)), 0);
    }

    function test_RewardsArePaidOnceAndOnlyTheDifference() public {
        bytes32 taskId = started(100 ether, 3);
        Settlement.RoundResult memory r = result(taskId, 5, leaf(taskId, owner(1), 10 ether), 10 ether, false);
        settlement.postResult(r, signatures(r, 3));
        settlement.claim(taskId, owner(1), 10 ether, new bytes32[](0));
        vm.expectPartialRevert(Settlement.NothingToClaim.selector);
        settlement.claim(taskId, owner(1), 10 ether, new bytes32[](0));

        r = result(taskId, 10, leaf(taskId, owner(1), 25 ether), 25 ether, false);
        settlement.postResult(r, signatures(r, 3));
        uint256 before = token.balanceOf(owner(1));
        settlement.claim(taskId, owner(1), 25 ether, new bytes32[](0));
        assertEq(token.balanceOf(owner(1)) - before, 15 ether);
    }

    function test_NobodyClaimsWithAForeignLeaf() public {
        bytes32 taskId = started(100 ether, 3);
        Settlement.RoundResult memory r = result(taskId, 5, leaf(taskId, owner(1), 10 ether), 10 ether, false);
        settlement.postResult(r, signatures(r, 3));
        vm.expectPartialRevert(Settlement.ProofInvalid.selector);
        settlement.claim(taskId, owner(2), 10 ether, new bytes32[](0));
    }

    function test_ExactlyTwoThirdsAreNotAQuorum() public {
        bytes32 taskId = started(100 ether, 3);
        Settlement.RoundResult memory r = result(taskId, 1, 0, 0, false);
        bytes[] memory two = signatures(r, 2);
        vm.expectPartialRevert(Settlement.QuorumMissing.selector);
        settlement.postResult(r, two);
    }

    function test_TheSameSignatureDoesNotCountTwice() public {
        bytes32 taskId = started(100 ether, 3);
        Settlement.RoundResult memory r = result(taskId, 1, 0, 0, false);
        bytes[] memory three = signatures(r, 3);
        three[1] = three[0];
        vm.expectPartialRevert(Settlement.SignersNotAscending.selector);
        settlement.postResult(r, three);
    }

    function test_AStrangersSignatureIsRefused() public {
        bytes32 taskId = started(100 ether, 3);
        Settlement.RoundResult memory r = result(taskId, 1, 0, 0, false);
        bytes[] memory four = signatures(r, 4);
        vm.expectPartialRevert(Settlement.UnknownSigner.selector);
        settlement.postResult(r, four);
    }

    function test_RoundsAndRewardsOnlyGrow() public {
        bytes32 taskId = started(100 ether, 3);
        Settlement.RoundResult memory r = result(taskId, 5, 0, 10 ether, false);
        settlement.postResult(r, signatures(r, 3));
        bytes[] memory again = signatures(r, 3);
        vm.expectPartialRevert(Settlement.RoundNotNewer.selector);
        settlement.postResult(r, again);

        r = result(taskId, 6, 0, 9 ether, false);
        bytes[] memory less = signatures(r, 3);
        vm.expectPartialRevert(Settlement.RewardDecreased.selector);
        settlement.postResult(r, less);

        r = result(taskId, 21, 0, 10 ether, false);
        bytes[] memory beyond = signatures(r, 3);
        vm.expectPartialRevert(Settlement.RoundBeyondEnd.selector);
        settlement.postResult(r, beyond);
    }

    function testFuzz_NoResultPromisesMoreThanTheBounty(uint256 total) public {
        vm.assume(total > 100 ether);
        bytes32 taskId = started(100 ether, 3);
        Settlement.RoundResult memory r = result(taskId, 1, 0, total, false);
        bytes[] memory made = signatures(r, 3);
        vm.expectPartialRevert(Settlement.RewardAboveBounty.selector);
        settlement.postResult(r, made);
    }

    function test_ARotatedSessionKeyIsWorthNothing() public {
        bytes32 taskId = started(100 ether, 3);
        vm.prank(owner(2));
        market.setSession(taskId, vm.addr(999), "10.0.0.1:7443");
        Settlement.RoundResult memory r = result(taskId, 1, 0, 0, false);
        bytes[] memory made = signatures(r, 3);
        vm.expectPartialRevert(Settlement.UnknownSigner.selector);
        settlement.postResult(r, made);
    }

    function test_GasOfAResultWith16Signers() public {
        bytes32 taskId = started(100 ether, 16);
        Settlement.RoundResult memory r = result(taskId, 1, keccak256("root"), 1 ether, false);
        settlement.postResult(r, signatures(r, 11));
    }
}

contract MarketTest is Base {
    function test_ATaskIsPublishedOnce() public {
        enroll(0, STAKE);
        publish(1 ether, 1);
        TaskMarket.Terms memory same = terms(1 ether, 1);
        vm.expectPartialRevert(TaskMarket.AlreadyPublished.selector);
        vm.prank(owner(0));
        market.publish(same, SPEC);
    }

    function test_AGreedyTokenIsRefusedAsBounty() public {
        enroll(0, STAKE);
        GreedyToken greedy = new GreedyToken();
        greedy.mint(owner(0), 100 ether);
        vm.prank(owner(0));
        greedy.approve(address(market), type(uint256).max);
        TaskMarket.Terms memory wanted = terms(10 ether, 1);
        wanted.token = IERC20(address(greedy));
        vm.expectPartialRevert(TaskMarket.FeeOnTransfer.selector);
        vm.prank(owner(0));
        market.publish(wanted, SPEC);
    }

    function test_CancelReturnsTheBountyButNotAfterTheStart() public {
        enroll(0, STAKE);
        uint256 before = token.balanceOf(owner(0));
        bytes32 taskId = publish(10 ether, 1);
        vm.prank(owner(0));
        market.cancel(taskId);
        assertEq(token.balanceOf(owner(0)), before);
        vm.expectPartialRevert(TaskMarket.NotOpen.selector);
        vm.prank(owner(0));
        market.accept(taskId, 6, session(0), "");
    }

    function test_AStartedTaskExpiresWithItsEarningsKept() public {
        bytes32 taskId = started(100 ether, 3);
        Settlement.RoundResult memory r = result(taskId, 5, leaf(taskId, owner(1), 10 ether), 10 ether, false);
        settlement.postResult(r, signatures(r, 3));
        vm.expectPartialRevert(TaskMarket.NotExpired.selector);
        market.expire(taskId);
        vm.warp(block.timestamp + 3 days);
        uint256 before = token.balanceOf(owner(0));
        market.expire(taskId);
        assertEq(token.balanceOf(owner(0)) - before, 90 ether);
        settlement.claim(taskId, owner(1), 10 ether, new bytes32[](0));
        assertEq(token.balanceOf(address(market)), 0);
    }

    function test_OnlySettlementReachesTheEscrow() public {
        bytes32 taskId = started(100 ether, 3);
        vm.expectPartialRevert(TaskMarket.NotSettlement.selector);
        market.pay(taskId, owner(1), 1);
        vm.expectPartialRevert(TaskMarket.NotSettlement.selector);
        market.finish(taskId, 0);
        vm.expectRevert(TaskMarket.SettlementAlreadySet.selector);
        market.setSettlement(address(this));
    }

    function test_StakeIsSnapshottedAtTheStart() public {
        bytes32 taskId = started(100 ether, 3);
        vm.prank(owner(1));
        registry.unstake(consortium, STAKE);
        assertEq(market.stakeOfSession(taskId, session(1)), STAKE);
        assertEq(market.totalStakeOf(taskId), 3 * STAKE);
    }

    function test_AcceptanceCanBeWithdrawnBeforeTheStart() public {
        enroll(0, STAKE);
        enroll(1, STAKE);
        bytes32 taskId = publish(1 ether, 2);
        vm.prank(owner(0));
        market.accept(taskId, 6, session(0), "");
        vm.prank(owner(1));
        market.accept(taskId, 6, session(1), "");
        vm.prank(owner(0));
        market.withdrawAcceptance(taskId);
        assertEq(market.participants(taskId).length, 1);
        vm.expectPartialRevert(TaskMarket.TooFewMembers.selector);
        market.start(taskId);
    }

    function test_ASessionKeyBelongsToOneMember() public {
        enroll(0, STAKE);
        enroll(1, STAKE);
        bytes32 taskId = publish(1 ether, 2);
        vm.prank(owner(0));
        market.accept(taskId, 6, session(0), "");
        vm.expectPartialRevert(TaskMarket.SessionKeyTaken.selector);
        vm.prank(owner(1));
        market.accept(taskId, 6, session(0), "");
    }

    function test_WhoHasTooLittleStakeStaysOut() public {
        enroll(0, STAKE);
        enroll(1, 0);
        bytes32 taskId = publish(1 ether, 2);
        vm.expectPartialRevert(MemberRegistry.StakeTooLow.selector);
        vm.prank(owner(1));
        market.accept(taskId, 6, session(1), "");
    }
}

contract RegistryTest is Base {
    function test_UnbondingStakeCannotLeaveEarly() public {
        enroll(0, STAKE);
        vm.startPrank(owner(0));
        registry.unstake(consortium, STAKE);
        vm.expectPartialRevert(MemberRegistry.StillBonded.selector);
        registry.withdraw(consortium);
        vm.warp(block.timestamp + 7 days);
        registry.withdraw(consortium);
        vm.stopPrank();
        assertEq(token.balanceOf(address(registry)), 0);
    }

    function test_AdmissionByVoteNeedsMoreThanHalf() public {
        consortium =
            registry.createConsortium("by-vote", IERC20(address(token)), 0, MemberRegistry.Admission.Vote, 1 days);
        registry.join(consortium, 7, bytes32(uint256(1)), "", 0, "");
        vm.expectPartialRevert(MemberRegistry.NotAdmitted.selector);
        vm.prank(owner(1));
        registry.join(consortium, 7, bytes32(uint256(1)), "", 0, "");
        registry.admit(consortium, owner(1));
        vm.prank(owner(1));
        registry.join(consortium, 7, bytes32(uint256(1)), "", 0, "");
        assertEq(registry.members(consortium).length, 2);
    }

    function testFuzz_NobodyUnstakesMoreThanTheStake(uint128 amount) public {
        vm.assume(amount > STAKE);
        enroll(0, STAKE);
        vm.expectPartialRevert(MemberRegistry.StakeTooLow.selector);
        vm.prank(owner(0));
        registry.unstake(consortium, amount);
    }
}
