// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Base} from "./Base.sol";
import {Fallback} from "../src/Fallback.sol";

/// Which medians the fallback takes, and what they cost.
contract MediansTest is Base {
    uint128 private constant BOUNTY = 900 ether;
    uint256 private constant WINDOW = 60;

    bytes32 private taskId;
    uint256 private deadline;

    uint16 private constant VOTERS = 5;

    function beginWith(uint96[VOTERS] memory stakes) private {
        token.mint(owner(0), BOUNTY);
        for (uint256 i = 0; i < VOTERS; ++i) {
            stakes[i] = uint96(10 ether + stakes[i] % 10_000 ether);
            enroll(i, stakes[i]);
        }
        taskId = publish(BOUNTY, VOTERS);
        deadline = market.taskOf(taskId).terms.deadline;
        for (uint256 i = 0; i < VOTERS; ++i) {
            vm.prank(owner(i));
            market.accept(taskId, 6, session(i), "");
        }
        market.start(taskId);
    }

    /// All say what `voice` has for them, about everybody the same.
    function allSay(uint128[VOTERS] memory voice) private {
        vm.warp(deadline);
        for (uint256 i = 0; i < VOTERS; ++i) {
            commitRewards(taskId, i, five(voice[i]));
        }
        vm.warp(deadline + WINDOW);
        for (uint256 i = 0; i < VOTERS; ++i) {
            revealRewards(taskId, i, five(voice[i]));
        }
        vm.warp(deadline + 2 * WINDOW);
    }

    function five(uint128 amount) private pure returns (uint128[] memory list) {
        list = new uint128[](VOTERS);
        for (uint256 i = 0; i < VOTERS; ++i) {
            list[i] = amount;
        }
    }

    function stakesOf() private view returns (uint256[] memory stakes, uint256 total) {
        stakes = new uint256[](VOTERS);
        for (uint256 i = 0; i < VOTERS; ++i) {
            stakes[i] = market.participantOf(taskId, owner(i)).stake;
            total += stakes[i];
        }
    }

    /// Whatever less than half of the stake says, the median lies among what the others say; where they agree, it is it.
    function testFuzz_LessThanHalfOfTheStakeDoesNotMoveMedians(
        uint96[VOTERS] memory stakes,
        uint128[VOTERS] memory voice,
        uint8 liars,
        uint128 lowest,
        uint128 spread
    ) public {
        beginWith(stakes);
        (uint256[] memory weights, uint256 total) = stakesOf();
        lowest = lowest % (BOUNTY / 10);
        spread = spread % (BOUNTY / 10);
        uint256 lying = 0;
        for (uint256 i = 0; i < VOTERS; ++i) {
            if ((liars >> i) & 1 == 1 && 2 * (lying + weights[i]) < total) lying += weights[i];
            else voice[i] = spread == 0 ? lowest : lowest + voice[i] % spread;
        }
        allSay(voice);
        uint128 median = medianOf(copied(voice), weights);
        assertTrue(median >= lowest && median <= lowest + spread);
        quorumFallback.settle(taskId, five(0), five(median));
        // `median` is at most a fifth of the bounty: nothing is cut.
        assertEq(settlement.totalReward(taskId), VOTERS * uint256(median));
    }

    function testFuzz_NoOtherAmountIsTakenForTheMedian(
        uint96[VOTERS] memory stakes,
        uint128[VOTERS] memory voice,
        uint8 which,
        uint128 other
    ) public {
        beginWith(stakes);
        allSay(voice);
        (uint256[] memory weights,) = stakesOf();
        uint128 median = medianOf(copied(voice), weights);
        // Mostly what somebody has said, which is the hardest to tell from the median.
        uint128 claimed = which % 2 == 0 ? voice[which / 2 % VOTERS] : other;
        vm.assume(claimed != median);
        uint128[] memory all = five(median);
        all[which % VOTERS] = claimed;
        vm.expectRevert(abi.encodeWithSelector(Fallback.NoMedian.selector, which % VOTERS, claimed));
        quorumFallback.settle(taskId, five(0), all);
        quorumFallback.settle(taskId, five(0), five(median));
    }

    function copied(uint128[VOTERS] memory voice) private pure returns (uint128[] memory list) {
        list = new uint128[](VOTERS);
        for (uint256 i = 0; i < VOTERS; ++i) {
            list[i] = voice[i];
        }
    }

    // --- gas --------------------------------------------------------------------------------------------------------------

    function test_Gas3() public {
        measure(3, "3 sites");
    }

    function test_Gas16() public {
        measure(16, "16 sites");
    }

    function test_Gas64() public {
        measure(64, "64 sites");
    }

    function begin(uint16 members) private {
        taskId = started(BOUNTY, members);
        deadline = market.taskOf(taskId).terms.deadline;
    }

    function claim(uint256 place, uint128[] memory rewards) private {
        uint256[] memory amounts_ = new uint256[](rewards.length);
        for (uint256 i = 0; i < rewards.length; ++i) {
            amounts_[i] = rewards[i];
        }
        (, bytes32[] memory proof) = rewardTree(taskId, amounts_, place);
        settlement.claim(taskId, owner(place), rewards[place], proof);
    }

    function measure(uint16 n, string memory name) private {
        begin(n);
        uint128[] memory said_ = new uint128[](n);
        for (uint256 i = 0; i < n; ++i) {
            // forge-lint: disable-next-line(unsafe-typecast) - below n
            said_[i] = BOUNTY / n - uint128(i);
        }
        vm.warp(deadline);
        for (uint256 i = 0; i < n; ++i) {
            commitRewards(taskId, i, said_);
        }
        vm.snapshotGasLastCall("Fallback", string.concat(name, ", commit"));
        vm.warp(deadline + WINDOW);
        for (uint256 i = 0; i < n; ++i) {
            revealRewards(taskId, i, said_);
        }
        vm.snapshotGasLastCall("Fallback", string.concat(name, ", reveal"));
        vm.warp(deadline + 2 * WINDOW);
        quorumFallback.settle(taskId, new uint128[](n), said_);
        vm.snapshotGasLastCall("Fallback", string.concat(name, ", settle"));
        claim(n - 1, said_);
    }
}
