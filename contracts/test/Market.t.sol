// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {Base} from "./Base.sol";
import {GreedyToken} from "./Tokens.sol";
import {ExactTransfer} from "../src/ExactTransfer.sol";
import {MemberRegistry} from "../src/MemberRegistry.sol";
import {Seats} from "../src/Seats.sol";
import {TaskMarket} from "../src/TaskMarket.sol";
import {Settlement} from "../src/Settlement.sol";

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
        vm.expectPartialRevert(ExactTransfer.FeeOnTransfer.selector);
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
        settlement.postResult(r, "", joined(signatures(r, 3)));
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
        market.pay(taskId, owner(1), 1, 1);
        vm.expectPartialRevert(TaskMarket.NotSettlement.selector);
        market.finish(taskId, 0);
    }

    function test_StakeIsSnapshottedAtTheStart() public {
        bytes32 taskId = started(100 ether, 3);
        vm.prank(owner(1));
        registry.unstake(consortium, STAKE);
        address[] memory one = new address[](1);
        one[0] = session(1);
        (uint256 stake, uint256 total) = market.stakeBehind(taskId, one, type(uint256).max);
        assertEq(stake, STAKE);
        assertEq(total, 3 * STAKE);
        assertEq(market.participantOf(taskId, owner(1)).stake, STAKE);
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
        vm.prank(owner(0));
        market.start(taskId);
    }

    function test_ASessionKeyBelongsToOneMember() public {
        enroll(0, STAKE);
        enroll(1, STAKE);
        bytes32 taskId = publish(1 ether, 2);
        vm.prank(owner(0));
        market.accept(taskId, 6, session(0), "");
        vm.expectPartialRevert(Seats.SessionKeyTaken.selector);
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

    function test_WhoHasTakenOutItsStakeIsLeftOutOfTheStart() public {
        for (uint256 i = 0; i < 3; ++i) {
            enroll(i, STAKE);
        }
        TaskMarket.Terms memory wanted = terms(1 ether, 3);
        wanted.minMembers = 2;
        vm.prank(owner(0));
        bytes32 taskId = market.publish(wanted, SPEC);
        for (uint256 i = 0; i < 3; ++i) {
            vm.prank(owner(i));
            market.accept(taskId, 6, session(i), "");
        }
        vm.prank(owner(0));
        registry.unstake(consortium, STAKE - 1 ether);
        market.start(taskId);
        assertEq(market.participants(taskId).length, 2);
        assertEq(market.participantOf(taskId, owner(0)).roles, 0);
        (address nobody,,) = market.seatOf(taskId, session(0));
        assertTrue(nobody == address(0));
        (uint256 total,,) = market.totalStakeOf(taskId);
        assertEq(total, 2 * STAKE);
    }

    function test_AStartWithoutStakedMembersIsNone() public {
        consortium = registry.createConsortium("free", IERC20(address(token)), 0, MemberRegistry.Admission.Open, 1 days);
        enroll(0, 0);
        bytes32 taskId = publish(1 ether, 1);
        vm.prank(owner(0));
        market.accept(taskId, 6, session(0), "");
        vm.expectPartialRevert(TaskMarket.TooFewMembers.selector);
        market.start(taskId);
    }

    function test_OnlyThePlannerStartsBeforeTheTaskIsFull() public {
        enroll(0, STAKE);
        enroll(1, STAKE);
        TaskMarket.Terms memory wanted = terms(1 ether, 4);
        wanted.minMembers = 1;
        vm.prank(owner(0));
        bytes32 taskId = market.publish(wanted, SPEC);
        vm.prank(owner(1));
        market.accept(taskId, 6, session(1), "");
        vm.expectPartialRevert(TaskMarket.StartTooEarly.selector);
        vm.prank(owner(1));
        market.start(taskId);
        vm.warp(wanted.acceptBy);
        vm.prank(owner(1));
        market.start(taskId);
        assertTrue(market.statusOf(taskId) == TaskMarket.Status.Started);
        vm.expectPartialRevert(TaskMarket.NotOpen.selector);
        vm.prank(owner(0));
        market.cancel(taskId);
    }

    function test_OnlyThePlannerCancels() public {
        enroll(0, STAKE);
        bytes32 taskId = publish(1 ether, 1);
        vm.expectPartialRevert(TaskMarket.NotPlanner.selector);
        vm.prank(owner(1));
        market.cancel(taskId);
    }

    function test_AnOpenTaskExpiresWithItsWholeBounty() public {
        enroll(0, STAKE);
        uint256 before = token.balanceOf(owner(0));
        bytes32 taskId = publish(10 ether, 1);
        vm.warp(block.timestamp + 2 days);
        market.expire(taskId);
        assertEq(token.balanceOf(owner(0)), before);
        assertTrue(market.statusOf(taskId) == TaskMarket.Status.Cancelled);
        vm.expectPartialRevert(TaskMarket.NotOpen.selector);
        market.expire(taskId);
    }

    function test_RolesThatAMemberDoesNotHoldAreRefused() public {
        enroll(0, STAKE);
        vm.prank(owner(0));
        registry.update(consortium, 3, keccak256("tls"), "", 0, "");
        bytes32 taskId = publish(1 ether, 1);
        vm.expectPartialRevert(TaskMarket.RolesNotHeld.selector);
        vm.prank(owner(0));
        market.accept(taskId, 6, session(0), "");
        vm.expectPartialRevert(TaskMarket.RolesNotHeld.selector);
        vm.prank(owner(0));
        market.accept(taskId, 1, session(0), "");
        vm.prank(owner(0));
        registry.update(consortium, 6, keccak256("tls"), "", 0, "");
        TaskMarket.Terms memory wanted = terms(1 ether, 1);
        wanted.salt = keccak256("another");
        vm.expectPartialRevert(TaskMarket.RolesNotHeld.selector);
        vm.prank(owner(0));
        market.publish(wanted, SPEC);
    }

    function test_TermsThatCannotBeKeptNameTheirField() public {
        enroll(0, STAKE);
        TaskMarket.Terms memory bad = terms(1 ether, 1);
        bad.minMembers = 0;
        refused(bad, "minMembers");
        bad = terms(1 ether, 1);
        bad.maxMembers = 257;
        refused(bad, "maxMembers");
        bad = terms(1 ether, 1);
        bad.rounds = 0;
        refused(bad, "rounds");
        bad = terms(1 ether, 1);
        bad.acceptBy = uint64(block.timestamp - 1);
        refused(bad, "acceptBy");
        bad = terms(1 ether, 1);
        bad.deadline = bad.acceptBy;
        refused(bad, "deadline");
        bad = terms(uint256(type(uint128).max) + 1, 1);
        refused(bad, "bounty");
    }

    function refused(TaskMarket.Terms memory bad, string memory field) private {
        vm.expectRevert(abi.encodeWithSelector(TaskMarket.BadTerms.selector, field));
        vm.prank(owner(0));
        market.publish(bad, SPEC);
    }

    function test_ASpecWithAnotherHashIsRefused() public {
        enroll(0, STAKE);
        TaskMarket.Terms memory wanted = terms(1 ether, 1);
        vm.expectPartialRevert(TaskMarket.SpecMismatch.selector);
        vm.prank(owner(0));
        market.publish(wanted, "something else");
    }

    function test_TasksAreListedInOrder() public {
        enroll(0, STAKE);
        bytes32 first = publish(1 ether, 1);
        TaskMarket.Terms memory wanted = terms(1 ether, 1);
        wanted.salt = keccak256("another");
        vm.prank(owner(0));
        bytes32 second = market.publish(wanted, SPEC);
        bytes32[] memory found = market.tasksOf(consortium);
        assertEq(found.length, 2);
        assertTrue(found[0] == first && found[1] == second);
        assertTrue(first == keccak256(abi.encode(block.chainid, address(market), owner(0), keccak256("uid"))));
    }
}
