// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Base} from "./Base.sol";
import {RollCalls} from "../src/RollCalls.sol";
import {Signed} from "../src/Signed.sol";
import {TaskMarket} from "../src/TaskMarket.sol";
import {MemberRegistry} from "../src/MemberRegistry.sol";
import {Settlement} from "../src/Settlement.sol";

/// Tasks whose members have stakes of one's choice.
abstract contract RollCallBase is Base {
    uint256 internal constant WINDOW = 60;

    function startedWith(uint96[] memory stakes) internal returns (bytes32 taskId) {
        // forge-lint: disable-next-line(unsafe-typecast) - a handful
        uint16 members = uint16(stakes.length);
        for (uint256 i = 0; i < members; ++i) {
            enroll(i, stakes[i]);
        }
        taskId = publish(100 ether, members);
        for (uint256 i = 0; i < members; ++i) {
            vm.prank(owner(i));
            market.accept(taskId, 6, session(i), "");
        }
        market.start(taskId);
    }

    /// Answers of the members whose bits are set, and the end of the call if it can end.
    function call(bytes32 taskId, uint32 epoch, uint256 who, uint256 members) internal {
        for (uint256 i = 0; i < members; ++i) {
            if ((who >> i) & 1 == 1) answer(taskId, epoch, i);
        }
        vm.warp(block.timestamp + WINDOW);
        if (settlement.epochOf(taskId) < epoch) settlement.closeRollCall(taskId, epoch);
    }

    function sum(uint96[] memory stakes, uint256 who) internal pure returns (uint256 stake) {
        for (uint256 i = 0; i < stakes.length; ++i) {
            if ((who >> i) & 1 == 1) stake += stakes[i];
        }
    }
}

contract RollCallsTest is RollCallBase {
    function test_TwoOfThreeGoOnWithoutTheThird() public {
        bytes32 taskId = started(100 ether, 3);
        answer(taskId, 1, 0);
        assertEq(settlement.epochAt(taskId, 1).closesAt, 0);
        vm.expectPartialRevert(RollCalls.RollCallNotOpen.selector);
        settlement.closeRollCall(taskId, 1);
        answer(taskId, 1, 1);
        uint256 closesAt = settlement.epochAt(taskId, 1).closesAt;
        assertEq(closesAt, block.timestamp + WINDOW);
        vm.warp(closesAt - 1);
        vm.expectPartialRevert(RollCalls.RollCallStillOpen.selector);
        settlement.closeRollCall(taskId, 1);
        Settlement.RoundResult memory r = result(taskId, 1, 0, 0, false);
        r.epoch = 1;
        bytes memory two = joined(signatures(r, 2));
        vm.expectPartialRevert(RollCalls.WrongEpoch.selector);
        settlement.postResult(r, "", two);
        vm.warp(closesAt);
        settlement.closeRollCall(taskId, 1);
        assertEq(settlement.epochOf(taskId), 1);
        assertEq(settlement.epochAt(taskId, 1).members, 3);
        assertEq(settlement.epochAt(taskId, 1).stake, 2 * STAKE);
        settlement.postResult(r, "", two);
        assertEq(settlement.stateOf(taskId).round, 1);
    }

    function test_TheAbsentOneSignsForNothingUntilItComesBack() public {
        bytes32 taskId = started(100 ether, 3);
        call(taskId, 1, 3, 3);
        Settlement.RoundResult memory r = result(taskId, 1, 0, 0, false);
        r.epoch = 1;
        bytes memory made = joined(signaturesBy(settlement.digestOf(r), sorted([uint256(101), 103, 999])));
        vm.expectPartialRevert(Settlement.QuorumMissing.selector);
        settlement.postResult(r, "", made);

        call(taskId, 2, 7, 3);
        assertEq(settlement.epochAt(taskId, 2).members, 7);
        assertEq(settlement.epochAt(taskId, 2).stake, 3 * STAKE);
        r.epoch = 2;
        bytes memory two = joined(signatures(r, 2));
        vm.expectPartialRevert(Settlement.QuorumMissing.selector);
        settlement.postResult(r, "", two);
        settlement.postResult(r, "", joined(signatures(r, 3)));
    }

    function test_AnswersOfAllEndTheCallAtOnce() public {
        bytes32 taskId = started(100 ether, 3);
        for (uint256 i = 0; i < 3; ++i) {
            assertEq(settlement.epochOf(taskId), 0);
            answer(taskId, 1, i);
        }
        assertEq(settlement.epochOf(taskId), 1);
        assertEq(settlement.epochAt(taskId, 1).stake, 3 * STAKE);
    }

    function test_HalfOfTheStakeOpensNoCall() public {
        bytes32 taskId = started(100 ether, 4);
        answer(taskId, 1, 0);
        answer(taskId, 1, 1);
        vm.warp(block.timestamp + 10 * WINDOW);
        vm.expectPartialRevert(RollCalls.RollCallNotOpen.selector);
        settlement.closeRollCall(taskId, 1);
        // The other half has only the same call to answer, and comes too late for one of its own.
        answer(taskId, 1, 2);
        vm.warp(block.timestamp + WINDOW);
        settlement.closeRollCall(taskId, 1);
        vm.expectPartialRevert(RollCalls.WrongEpoch.selector);
        this.answerOf(taskId, 1, 3);
    }

    function test_AResultOfAnEarlierEpochIsStillOne() public {
        bytes32 taskId = started(100 ether, 3);
        Settlement.RoundResult memory r = result(taskId, 1, 0, 0, false);
        bytes memory three = joined(signatures(r, 3));
        bytes memory two = joined(signatures(r, 2));
        call(taskId, 1, 3, 3);
        vm.expectPartialRevert(Settlement.QuorumMissing.selector);
        settlement.postResult(r, "", two);
        settlement.postResult(r, "", three);
    }

    function test_WhoAloneIsLeftCannotLetTheOthersOut() public {
        bytes32 taskId = started(100 ether, 3);
        call(taskId, 1, 3, 3);
        answer(taskId, 2, 0);
        answer(taskId, 2, 2);
        vm.warp(block.timestamp + WINDOW);
        vm.expectPartialRevert(RollCalls.RollCallNotOpen.selector);
        settlement.closeRollCall(taskId, 2);
    }

    /// 0, 1 and 2 of five are active; 2 goes while 3 and 4 come back. With them the two that stay would be half.
    function test_TooMuchStakeAtOnceComesInWithTheNextCall() public {
        uint96[] memory stakes = new uint96[](5);
        (stakes[0], stakes[1], stakes[2], stakes[3], stakes[4]) = (31 ether, 31 ether, 38 ether, 30 ether, 30 ether);
        bytes32 taskId = startedWith(stakes);
        call(taskId, 1, 7, 5);
        call(taskId, 2, 27, 5);
        assertEq(settlement.epochAt(taskId, 2).members, 3);
        assertEq(settlement.epochAt(taskId, 2).stake, 62 ether);
        assertEq(settlement.epochAt(taskId, 2).newcomers, 60 ether);
        call(taskId, 3, 27, 5);
        assertEq(settlement.epochAt(taskId, 3).members, 27);
        assertEq(settlement.epochAt(taskId, 3).stake, 122 ether);
    }

    function test_WhatIsNoAnswerIsRefused() public {
        bytes32 taskId = started(100 ether, 3);
        bytes memory evidence = "locked";
        bytes32 digest = rollCallDigest(taskId, 1, owner(0), evidence);
        bytes memory good = signatureBy(101, digest);

        vm.expectPartialRevert(RollCalls.WrongEpoch.selector);
        settlement.answerRollCall(taskId, 2, owner(0), evidence, good);
        vm.expectPartialRevert(RollCalls.WrongEpoch.selector);
        settlement.answerRollCall(taskId, 0, owner(0), evidence, good);
        vm.expectPartialRevert(Signed.WrongSigner.selector);
        settlement.answerRollCall(taskId, 1, owner(1), evidence, good);
        vm.expectPartialRevert(Signed.WrongSigner.selector);
        settlement.answerRollCall(taskId, 1, owner(0), "other", good);
        vm.expectPartialRevert(Signed.WrongSigner.selector);
        settlement.answerRollCall(taskId, 1, owner(0), evidence, signatureBy(102, digest));
        vm.expectPartialRevert(Signed.BadSignature.selector);
        settlement.answerRollCall(taskId, 1, owner(0), evidence, "");
        vm.expectPartialRevert(RollCalls.EvidenceTooLong.selector);
        settlement.answerRollCall(taskId, 1, owner(0), new bytes(65_537), good);
        vm.expectPartialRevert(Signed.TaskNotStarted.selector);
        settlement.answerRollCall(keccak256("no task"), 1, owner(0), evidence, good);

        settlement.answerRollCall(taskId, 1, owner(0), evidence, good);
        vm.expectPartialRevert(RollCalls.AlreadyAnswered.selector);
        settlement.answerRollCall(taskId, 1, owner(0), evidence, good);

        vm.prank(owner(1));
        market.setSession(taskId, vm.addr(999), "");
        bytes memory old = signatureBy(102, rollCallDigest(taskId, 1, owner(1), evidence));
        vm.expectPartialRevert(RollCalls.NotCounted.selector);
        settlement.answerRollCall(taskId, 1, owner(1), evidence, old);
    }

    function test_NothingIsCalledAfterTheEnd() public {
        bytes32 taskId = started(100 ether, 3);
        answer(taskId, 1, 0);
        answer(taskId, 1, 1);
        Settlement.RoundResult memory r = result(taskId, 1, 0, 0, true);
        settlement.postResult(r, "", joined(signatures(r, 3)));
        vm.expectPartialRevert(Signed.TaskNotStarted.selector);
        this.answerOf(taskId, 1, 2);
        vm.warp(block.timestamp + WINDOW);
        vm.expectPartialRevert(Signed.TaskNotStarted.selector);
        settlement.closeRollCall(taskId, 1);
    }

    /// What ADR 0008 needs: whatever was decided by more than 2/3 of the set before, an honest one of those who decided
    /// is in the next set, as long as less than a third of each set lie; and the old set without those who have
    /// answered, with all liars, cannot decide any more.
    function testFuzz_SomebodyHonestShowsWhatWasDecided(uint96[6] memory amounts, uint8 first, uint8 second) public {
        uint96[] memory stakes = new uint96[](6);
        for (uint256 i = 0; i < 6; ++i) {
            stakes[i] = 10 ether + amounts[i] % 100 ether;
        }
        first &= 63;
        second &= 63;
        vm.assume(2 * sum(stakes, first) > sum(stakes, 63) && 2 * sum(stakes, first & second) > sum(stakes, first));
        bytes32 taskId = startedWith(stakes);
        call(taskId, 1, first, 6);
        call(taskId, 2, second, 6);
        uint256 old = settlement.epochAt(taskId, 1).members;
        uint256 set = settlement.epochAt(taskId, 2).members;
        assertEq(old, first);
        assertEq(set & old, first & second);
        assertTrue(set & ~uint256(second) == 0);
        assertEq(settlement.epochAt(taskId, 2).stake, sum(stakes, set));
        for (uint256 liars = 0; liars < 64; ++liars) {
            if (3 * sum(stakes, liars & old) >= sum(stakes, old)) continue;
            if (3 * sum(stakes, liars & set) >= sum(stakes, set)) continue;
            assertTrue(3 * sum(stakes, old & (~set | liars)) <= 2 * sum(stakes, old));
            for (uint256 decided = 0; decided < 64; ++decided) {
                if (decided & ~old != 0 || 3 * sum(stakes, decided) <= 2 * sum(stakes, old)) continue;
                assertTrue(decided & set & ~liars != 0);
            }
        }
    }

    function answerOf(bytes32 taskId, uint32 epoch, uint256 i) external {
        answer(taskId, epoch, i);
    }

    /// Gas as a transaction pays it, with the evidence of a round at that size.
    function test_GasOfRollCalls() public {
        uint16[2] memory sizes = [uint16(3), 64];
        for (uint256 n = 0; n < sizes.length; ++n) {
            setUp();
            bytes32 taskId = started(100 ether, sizes[n]);
            string memory name = n == 0 ? "3 sites" : "64 sites";
            // Two quorums of prevotes, each a signature and a view.
            bytes memory evidence = new bytes(2 * (uint256(sizes[n]) * 2 / 3 + 1) * 69);
            for (uint256 i = 0; i < evidence.length; ++i) {
                evidence[i] = 0xff;
            }
            for (uint256 i = 0; i < uint256(sizes[n]) / 2 + 1; ++i) {
                bytes memory signature = signatureBy(i + 101, rollCallDigest(taskId, 1, owner(i), evidence));
                settlement.answerRollCall(taskId, 1, owner(i), evidence, signature);
            }
            vm.snapshotGasLastCall("RollCalls", string.concat(name, ", answer that opens"));
            vm.warp(block.timestamp + WINDOW);
            settlement.closeRollCall(taskId, 1);
            vm.snapshotGasLastCall("RollCalls", string.concat(name, ", close"));
            uint256 quorum = (uint256(sizes[n]) / 2 + 1) * 2 / 3 + 1;
            for (uint64 round = 1; round <= 2; ++round) {
                Settlement.RoundResult memory r = result(taskId, round, keccak256("root"), round * 1 ether, false);
                (r.epoch, r.updatesRoot, r.scoresRoot) = (1, keccak256("updates"), keccak256("scores"));
                settlement.postResult(r, "", joined(signatures(r, quorum)));
            }
            vm.snapshotGasLastCall("RollCalls", string.concat(name, ", result of the smallest quorum"));
        }
    }
}

/// Answers, closes and changes keys in any order.
contract RollCaller is RollCallBase {
    uint96[] public stakes;
    bytes32 public taskId;
    uint256[] private keys;

    function setUp() public override {
        super.setUp();
        for (uint96 i = 0; i < 5; ++i) {
            stakes.push(100 ether + 17 ether * i * i);
            keys.push(101 + i);
        }
        taskId = startedWith(stakes);
    }

    function answerNext(uint256 who, uint8 wrong) external {
        who %= 5;
        uint32 epoch = settlement.epochOf(taskId) + 1;
        bytes32 digest = rollCallDigest(taskId, epoch, owner(who), "");
        settlement.answerRollCall(
            taskId, wrong % 32 == 0 ? epoch + 1 : epoch, owner(who), "", signatureBy(keys[who], digest)
        );
    }

    function close(uint8 later) external {
        vm.warp(block.timestamp + later);
        settlement.closeRollCall(taskId, settlement.epochOf(taskId) + 1);
    }

    /// 0 has the least stake, less than half of any two.
    function expel(uint8 rarely) external {
        if (rarely % 16 == 0) proveTwoVotes(taskId, 0, keys[0], owner(4));
    }

    function rotate(uint256 who, uint64 key) external {
        who %= 5;
        vm.prank(owner(who));
        market.setSession(taskId, vm.addr(uint256(key) + 1000), "");
        keys[who] = uint256(key) + 1000;
    }

    function world() external view returns (Settlement, TaskMarket, uint96[] memory) {
        return (settlement, market, stakes);
    }
}

contract RollCallInvariants is RollCallBase {
    RollCaller private actor;
    uint96[] private stakes;

    function setUp() public override {
        actor = new RollCaller();
        actor.setUp();
        (settlement, market, stakes) = actor.world();
    }

    struct Selectors {
        address addr;
        bytes4[] selectors;
    }

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

    function invariant_EachSetIsWhatItsStakeSaysAndHoldsMoreThanHalfOfTheOneBefore() public view {
        bytes32 taskId = actor.taskId();
        uint32 current = settlement.epochOf(taskId);
        uint256 before = 31;
        for (uint32 number = 1; number <= current; ++number) {
            RollCalls.Epoch memory epoch = settlement.epochAt(taskId, number);
            assertTrue(epoch.closedBlock != 0 && epoch.members < 32);
            assertEq(epoch.stake, sum(stakes, epoch.members));
            assertTrue(2 * sum(stakes, epoch.members & before) > sum(stakes, before));
            before = epoch.members;
        }
        RollCalls.Epoch memory next = settlement.epochAt(taskId, current + 1);
        assertEq(next.closedBlock, 0);
        assertEq(uint256(next.stake) + next.newcomers, sum(stakes, next.members));
        assertEq(next.stake, sum(stakes, next.members & before));
        (,, uint256 expelled,) = market.snapshotOf(taskId);
        assertEq(next.members & expelled, 0);
        // What an expelled member had answered may have opened the call.
        assertTrue(next.closesAt != 0 || 2 * uint256(next.stake) <= sum(stakes, before));
        assertEq(settlement.epochAt(taskId, current + 2).members, 0);
    }

    function invariant_KeysMayChangeButStakesDoNot() public view {
        bytes32 taskId = actor.taskId();
        for (uint256 i = 0; i < 5; ++i) {
            assertEq(market.participantOf(taskId, owner(i)).stake, stakes[i]);
        }
    }
}
