// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Actor} from "./Actor.sol";
import {Base} from "./Base.sol";
import {Fallback} from "../src/Fallback.sol";
import {Penalties} from "../src/Penalties.sol";
import {TaskMarket} from "../src/TaskMarket.sol";

contract ConservationInvariants is Base {
    Actor private actor;

    function setUp() public override {
        actor = new Actor();
        actor.setUp();
        (token, registry, market, settlement) = actor.contracts();
        quorumFallback = Fallback(address(settlement.quorumFallback()));
        consortium = keccak256("oncology-eu");
    }

    struct Selectors {
        address addr;
        bytes4[] selectors;
    }

    /// Foundry reads here whom it may call.
    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(actor);
    }

    function excludeSelectors() public view returns (Selectors[] memory excluded) {
        excluded = new Selectors[](1);
        bytes4[] memory selectors = new bytes4[](1);
        selectors[0] = Base.setUp.selector;
        excluded[0] = Selectors(address(actor), selectors);
    }

    function invariant_StakeAndUnbondingAreAllHere() public view {
        (uint256 balance, uint256 booked) = actor.inRegistry();
        assertEq(balance, booked);
    }

    /// What tasks hold is what their ledgers say, and it is not taken out, however late.
    function invariant_WhatIsHeldIsBookedAndDoesNotLeave() public view {
        assertTrue(!actor.heldLeft());
        for (uint256 i = 0; i < 4; ++i) {
            uint256 held;
            for (uint256 j = 0; j < actor.taskCount(); ++j) {
                (address[] memory members,,,) = market.snapshotOf(actor.tasks(j));
                for (uint8 k = 0; k < members.length; ++k) {
                    if (members[k] == owner(i)) held += settlement.penaltyAt(actor.tasks(j), k).held;
                }
            }
            assertEq(registry.memberOf(consortium, owner(i)).held, held);
        }
    }

    function invariant_WhatIsSlashedOnlyGrowsAndStaysBelowTheStake() public view {
        for (uint256 i = 0; i < actor.taskCount(); ++i) {
            bytes32 taskId = actor.tasks(i);
            (, uint96[] memory stakes,,) = market.snapshotOf(taskId);
            for (uint8 j = 0; j < stakes.length; ++j) {
                Penalties.Penalty memory p = settlement.penaltyAt(taskId, j);
                // No member that sits in a started task has a stake of 0.
                assertTrue(p.slashed >= actor.burnt(taskId, j) && uint256(p.held) + p.slashed <= stakes[j]);
            }
        }
    }

    /// Until its deadline a task finds all the stake that it has snapshotted, but for what was slashed.
    function invariant_NothingLeavesThatATaskCountsOn() public view {
        for (uint256 i = 0; i < actor.taskCount(); ++i) {
            bytes32 taskId = actor.tasks(i);
            TaskMarket.Task memory t = market.taskOf(taskId);
            bool counts = t.status == TaskMarket.Status.Started || t.status == TaskMarket.Status.Finished;
            if (!counts || actor.clock() >= t.terms.deadline) continue;
            (address[] memory members, uint96[] memory stakes,,) = market.snapshotOf(taskId);
            for (uint256 j = 0; j < members.length; ++j) {
                assertTrue(actor.here(members[j]) + actor.slashed(members[j]) >= stakes[j]);
            }
        }
    }

    function invariant_MediansAddToWhatWasSettled() public view {
        assertTrue(!actor.otherRewards());
    }

    function invariant_EscrowIsAllHere() public view {
        (uint256 balance, uint256 booked) = actor.inMarket();
        assertEq(balance, booked);
    }

    function invariant_NoTokenIsMadeOrLost() public view {
        assertEq(actor.everything(), actor.supply());
    }

    function invariant_NoTaskPaysMoreThanWasSettledNorSettlesMoreThanItsBounty() public view {
        for (uint256 i = 0; i < actor.taskCount(); ++i) {
            bytes32 taskId = actor.tasks(i);
            TaskMarket.Task memory t = market.taskOf(taskId);
            uint256 settled = settlement.totalReward(taskId);
            assertTrue(t.paid <= settled && settled <= t.terms.bounty);
            bool closed = t.status == TaskMarket.Status.Finished || t.status == TaskMarket.Status.Cancelled;
            assertEq(t.refunded, closed ? t.terms.bounty - settled : 0);
        }
    }
}
