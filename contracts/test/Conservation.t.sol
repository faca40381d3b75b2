// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Base} from "./Base.sol";
import {TaskMarket} from "../src/TaskMarket.sol";
import {Settlement} from "../src/Settlement.sol";

/// Does what members and strangers may do, in any order and with any numbers.
contract Actor is Base {
    bytes32 public taskId;
    uint256 public totalStaked;
    uint64 public round;
    uint256 public earned;
    uint256 public claimedTotal;

    function setUp() public override {
        super.setUp();
        taskId = started(100 ether, 3);
        totalStaked = 3 * STAKE;
    }

    function stake(uint256 who, uint256 amount) external {
        amount = 1 + amount % 1000 ether;
        vm.prank(owner(who % 3));
        registry.stake(consortium, amount);
        totalStaked += amount;
    }

    function unstake(uint256 who, uint256 amount) external {
        uint256 held = registry.stakeOf(consortium, owner(who % 3));
        if (held == 0) return;
        vm.prank(owner(who % 3));
        registry.unstake(consortium, 1 + amount % held);
    }

    function withdraw(uint256 who, uint256 later) external {
        vm.warp(block.timestamp + later % 4 days);
        uint256 amount = registry.memberOf(consortium, owner(who % 3)).unbonding;
        vm.prank(owner(who % 3));
        registry.withdraw(consortium);
        totalStaked -= amount;
    }

    function post(uint256 more, bool last) external {
        earned += more % (100 ether - earned + 1);
        round += 1;
        Settlement.RoundResult memory r = result(taskId, round, leaf(taskId, owner(1), earned), earned, last);
        settlement.postResult(r, signatures(r, 3));
    }

    function claim() external {
        uint256 before = token.balanceOf(owner(1));
        settlement.claim(taskId, owner(1), settlement.totalReward(taskId), new bytes32[](0));
        claimedTotal += token.balanceOf(owner(1)) - before;
    }

    function expire() external {
        market.expire(taskId);
    }

    function held() external view returns (uint256 registry_, uint256 market_) {
        return (token.balanceOf(address(registry)), token.balanceOf(address(market)));
    }

    function escrow() external view returns (uint256) {
        TaskMarket.Task memory t = market.taskOf(taskId);
        return t.terms.bounty - t.paidOut;
    }

    function memberSum() external view returns (uint256 sum) {
        for (uint256 i = 0; i < 3; ++i) {
            sum += registry.memberOf(consortium, owner(i)).stake + registry.memberOf(consortium, owner(i)).unbonding;
        }
    }

    function settled() external view returns (uint256) {
        return settlement.totalReward(taskId);
    }
}

contract ConservationInvariants is Base {
    Actor private actor;

    function setUp() public override {
        actor = new Actor();
        actor.setUp();
    }

    /// Foundry reads here whom it may call.
    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(actor);
    }

    function excludeSelectors() public view returns (Excluded[] memory excluded) {
        excluded = new Excluded[](1);
        bytes4[] memory selectors = new bytes4[](1);
        selectors[0] = Base.setUp.selector;
        excluded[0] = Excluded(address(actor), selectors);
    }

    struct Excluded {
        address addr;
        bytes4[] selectors;
    }

    function invariant_StakeAndUnbondingAreAllHere() public view {
        (uint256 held,) = actor.held();
        assertEq(held, actor.totalStaked());
        assertEq(held, actor.memberSum());
    }

    function invariant_EscrowIsAllHere() public view {
        (, uint256 held) = actor.held();
        assertEq(held, actor.escrow());
    }

    function invariant_NobodyIsPaidMoreThanWasSettled() public view {
        assertTrue(actor.claimedTotal() <= actor.settled() && actor.settled() <= 100 ether);
    }
}
