// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Base} from "./Base.sol";
import {FraudProofs} from "../src/FraudProofs.sol";
import {MemberRegistry} from "../src/MemberRegistry.sol";
import {RollCalls} from "../src/RollCalls.sol";
import {Settlement} from "../src/Settlement.sol";
import {Signed} from "../src/Signed.sol";
import {Seats} from "../src/Seats.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {TaskMarket} from "../src/TaskMarket.sol";
import {GreetingToken} from "./Tokens.sol";

contract FraudProofsTest is Base {
    address private constant REPORTER = address(0xbeef);

    function header(bytes32 taskId, uint256 who, bytes32 root) private pure returns (FraudProofs.UpdateHeader memory) {
        return FraudProofs.UpdateHeader(taskId, 3, 0, owner(who), "base", "codec", 1000, root, 50);
    }

    function vote(bytes32 taskId, uint256 who, bytes32 value) private pure returns (FraudProofs.Vote memory) {
        return FraudProofs.Vote(taskId, 3, 1, 2, 1, value, owner(who));
    }

    function proposal(bytes32 taskId, uint256 who, int32 validView) private pure returns (FraudProofs.Proposal memory) {
        return FraudProofs.Proposal(taskId, 3, 1, 2, validView, "value", owner(who));
    }

    function by(uint256 key, FraudProofs.UpdateHeader memory h) private view returns (bytes memory) {
        bytes32 typehash = keccak256(
            "UpdateHeader(bytes32 taskId,uint64 round,uint32 attempt,address site,bytes32 base,bytes32 codec,uint64 length,bytes32 root,uint64 samples)"
        );
        return signatureBy(key, digestOf(keccak256(abi.encode(typehash, h))));
    }

    function by(uint256 key, FraudProofs.Proposal memory p) private view returns (bytes memory) {
        bytes32 typehash = keccak256(
            "Proposal(bytes32 taskId,uint64 round,uint8 step,uint32 view,int32 validView,bytes32 value,address site)"
        );
        return signatureBy(key, digestOf(keccak256(abi.encode(typehash, p))));
    }

    function by(uint256 key, FraudProofs.Vote memory v) private view returns (bytes memory) {
        return signatureBy(key, digestOf(voteHash(v)));
    }

    function expel(bytes32 taskId, uint256 who) private {
        proveTwoVotes(taskId, who, who + 101, REPORTER);
    }

    function expelFor(bytes32 taskId, uint256 who) external {
        expel(taskId, who);
    }

    function test_TwoHeadersCostHalfOfTheStakeAndTheSeat() public {
        bytes32 taskId = started(100 ether, 3);
        FraudProofs.UpdateHeader memory a = header(taskId, 2, "a");
        FraudProofs.UpdateHeader memory b = header(taskId, 2, "b");
        settlement.proveEquivocation(a, by(103, a), b, by(103, b), REPORTER);
        vm.snapshotGasLastCall("FraudProofs", "two headers");
        assertEq(registry.stakeOf(consortium, owner(2)), STAKE / 2);
        assertEq(token.balanceOf(REPORTER), STAKE / 20);
        assertEq(registry.burnt(consortium), STAKE / 2 - STAKE / 20);
        assertEq(token.balanceOf(address(registry)), 3 * STAKE - STAKE / 20);
        assertTrue(market.participantOf(taskId, owner(2)).expelled);
        assertEq(market.participantOf(taskId, owner(2)).stake, STAKE);

        // The two that are left are a quorum; the expelled one's signature does no harm and is worth nothing.
        Settlement.RoundResult memory r = result(taskId, 1, 0, 0, false);
        bytes memory one = joined(signaturesBy(settlement.digestOf(r), sorted([uint256(101), 103, 999])));
        vm.expectPartialRevert(Settlement.QuorumMissing.selector);
        settlement.postResult(r, "", one);
        settlement.postResult(r, "", joined(signatures(r, 3)));
        r.round = 2;
        settlement.postResult(r, "", joined(signatures(r, 2)));
    }

    function test_TwoVotesOrTwoProposalsAreAFaultToo() public {
        bytes32 taskId = started(100 ether, 4);
        expel(taskId, 1);
        FraudProofs.Proposal memory a = proposal(taskId, 2, -1);
        FraudProofs.Proposal memory b = proposal(taskId, 2, 1);
        settlement.proveConflictingProposal(a, by(103, a), b, by(103, b), REPORTER);
        assertEq(token.balanceOf(REPORTER), STAKE / 10);
        assertTrue(market.participantOf(taskId, owner(1)).expelled && market.participantOf(taskId, owner(2)).expelled);
        assertTrue(!market.participantOf(taskId, owner(0)).expelled);
        // 0 has the first place; a stranger has none.
        expel(taskId, 0);
        assertTrue(market.participantOf(taskId, owner(0)).expelled);
        assertTrue(!market.participantOf(taskId, owner(9)).expelled);
    }

    function test_AMemberIsSlashedOnceInATask() public {
        bytes32 taskId = started(100 ether, 3);
        expel(taskId, 1);
        FraudProofs.UpdateHeader memory a = header(taskId, 1, "a");
        FraudProofs.UpdateHeader memory b = header(taskId, 1, "b");
        (bytes memory sa, bytes memory sb) = (by(102, a), by(102, b));
        vm.expectPartialRevert(Seats.AlreadyExpelled.selector);
        settlement.proveEquivocation(a, sa, b, sb, REPORTER);
        assertEq(registry.stakeOf(consortium, owner(1)), STAKE / 2);
    }

    /// Every pair of votes is a fault exactly if it is for one slot and two values.
    function testFuzz_OnlyOneSlotAndTwoValuesAreAConflict(uint8 change, bytes32 other) public {
        bytes32 taskId = started(100 ether, 3);
        FraudProofs.Vote memory a = vote(taskId, 1, "a");
        FraudProofs.Vote memory b = vote(taskId, 1, other);
        change %= 8;
        if (change == 1) b.round += 1;
        if (change == 2) b.step += 1;
        if (change == 3) b.view_ += 1;
        if (change == 4) b.kind += 1;
        if (change == 5) b.site = owner(0);
        if (change == 6) b.taskId = keccak256("another");
        if (change == 7) b.value = a.value;
        (bytes memory sa, bytes memory sb) = (by(102, a), by(change == 5 ? 101 : 102, b));
        if (change != 0 || other == a.value) vm.expectPartialRevert(FraudProofs.NoConflict.selector);
        settlement.proveConflictingVote(a, sa, b, sb, REPORTER);
        assertTrue(market.participantOf(taskId, owner(1)).expelled == (change == 0 && other != a.value));
        assertTrue(!market.participantOf(taskId, owner(0)).expelled);
    }

    function test_HeadersAndProposalsOfDifferentSlotsAreNone() public {
        bytes32 taskId = started(100 ether, 3);
        FraudProofs.UpdateHeader memory a = header(taskId, 1, "a");
        for (uint256 i = 0; i < 5; ++i) {
            FraudProofs.UpdateHeader memory b = header(taskId, 1, i == 4 ? a.root : keccak256("b"));
            if (i == 0) b.round += 1;
            if (i == 1) b.attempt += 1;
            if (i == 2) b.site = owner(0);
            if (i == 3) b.taskId = keccak256("another");
            (bytes memory sa, bytes memory sb) = (by(102, a), by(i == 2 ? 101 : 102, b));
            vm.expectPartialRevert(FraudProofs.NoConflict.selector);
            settlement.proveEquivocation(a, sa, b, sb, REPORTER);
        }
        FraudProofs.Proposal memory p = proposal(taskId, 1, -1);
        for (uint256 i = 0; i < 6; ++i) {
            FraudProofs.Proposal memory q = proposal(taskId, 1, i == 5 ? -1 : int32(0));
            if (i == 0) q.round += 1;
            if (i == 1) q.step += 1;
            if (i == 2) q.view_ += 1;
            if (i == 3) q.site = owner(0);
            if (i == 4) q.taskId = keccak256("another");
            (bytes memory sp, bytes memory sq) = (by(102, p), by(i == 3 ? 101 : 102, q));
            vm.expectPartialRevert(FraudProofs.NoConflict.selector);
            settlement.proveConflictingProposal(p, sp, q, sq, REPORTER);
        }
    }

    function test_OnlyTheMembersOwnSignaturesProveAnything() public {
        bytes32 taskId = started(100 ether, 3);
        FraudProofs.Vote memory a = vote(taskId, 1, "a");
        FraudProofs.Vote memory b = vote(taskId, 1, "b");
        (bytes memory sa, bytes memory sb) = (by(102, a), by(102, b));
        (bytes memory strangers, bytes memory anothers) = (by(999, b), by(101, b));
        vm.expectPartialRevert(Signed.WrongSigner.selector);
        settlement.proveConflictingVote(a, sa, b, strangers, REPORTER);
        vm.expectPartialRevert(Signed.WrongSigner.selector);
        settlement.proveConflictingVote(a, sa, b, anothers, REPORTER);
        vm.expectPartialRevert(Signed.WrongSigner.selector);
        settlement.proveConflictingVote(a, sa, b, sa, REPORTER);
        vm.expectRevert(abi.encodeWithSelector(Signed.BadSignature.selector, 0));
        settlement.proveConflictingVote(a, "", b, sb, REPORTER);
        a.site = b.site = address(0);
        (sa, sb) = (by(999, a), by(999, b));
        vm.expectPartialRevert(Signed.WrongSigner.selector);
        settlement.proveConflictingVote(a, sa, b, sb, REPORTER);
    }

    function test_AReplacedKeyStaysItsMembersWord() public {
        bytes32 taskId = started(100 ether, 3);
        vm.prank(owner(1));
        market.setSession(taskId, vm.addr(999), "");
        FraudProofs.Vote memory a = vote(taskId, 1, "a");
        FraudProofs.Vote memory b = vote(taskId, 1, "b");
        settlement.proveConflictingVote(a, by(102, a), b, by(999, b), REPORTER);
        assertTrue(market.participantOf(taskId, owner(1)).expelled);
        // Nor does a fresh key bring an expelled member back.
        vm.prank(owner(1));
        market.setSession(taskId, vm.addr(998), "");
        (,, uint96 stake) = market.seatOf(taskId, vm.addr(998));
        assertEq(stake, 0);
        assertEq(market.participantOf(taskId, owner(1)).stake, STAKE);
        vm.prank(owner(2));
        vm.expectPartialRevert(Seats.SessionKeyTaken.selector);
        market.setSession(taskId, session(1), "");
    }

    function test_AFaultIsOneFromTheStartOnAndStaysOneAfterTheEnd() public {
        for (uint256 i = 0; i < 3; ++i) {
            enroll(i, STAKE);
        }
        bytes32 taskId = publish(100 ether, 3);
        for (uint256 i = 0; i < 3; ++i) {
            vm.prank(owner(i));
            market.accept(taskId, 6, session(i), "");
        }
        vm.expectPartialRevert(TaskMarket.NeverStarted.selector);
        this.expelFor(taskId, 1);
        market.start(taskId);
        Settlement.RoundResult memory r = result(taskId, 1, 0, 0, true);
        settlement.postResult(r, "", joined(signatures(r, 3)));
        expel(taskId, 1);
        assertEq(registry.stakeOf(consortium, owner(1)), STAKE / 2);
    }

    function test_UnbondingStakeIsWithinReachUntilTheDeadlineAndTheUnbondingTime() public {
        bytes32 taskId = started(100 ether, 3);
        uint256 deadline = market.taskOf(taskId).terms.deadline;
        vm.prank(owner(1));
        registry.unstake(consortium, STAKE);
        assertEq(registry.memberOf(consortium, owner(1)).withdrawableAt, deadline + 7 days);
        vm.warp(deadline + 7 days - 1);
        vm.expectPartialRevert(MemberRegistry.StillBonded.selector);
        vm.prank(owner(1));
        registry.withdraw(consortium);
        expel(taskId, 1);
        assertEq(registry.memberOf(consortium, owner(1)).unbonding, STAKE / 2);
        vm.warp(deadline + 7 days);
        uint256 before = token.balanceOf(owner(1));
        vm.prank(owner(1));
        registry.withdraw(consortium);
        assertEq(token.balanceOf(owner(1)) - before, STAKE / 2);
    }

    function test_ALaterTaskDoesNotHoldWhatIsAlreadyLeaving() public {
        enroll(0, 2 * STAKE);
        vm.prank(owner(0));
        registry.unstake(consortium, STAKE);
        uint256 free = registry.memberOf(consortium, owner(0)).withdrawableAt;
        vm.warp(free - 1);
        bytes32 taskId = publish(1 ether, 1);
        vm.prank(owner(0));
        market.accept(taskId, 6, session(0), "");
        market.start(taskId);
        vm.warp(free);
        vm.prank(owner(0));
        registry.withdraw(consortium);
        assertEq(registry.stakeOf(consortium, owner(0)), STAKE);
    }

    function test_NoMoreIsTakenThanIsThere() public {
        bytes32[3] memory taskIds;
        for (uint256 i = 0; i < 3; ++i) {
            enroll(i, STAKE + 1);
        }
        for (uint256 n = 0; n < 3; ++n) {
            TaskMarket.Terms memory wanted = terms(1 ether, 3);
            wanted.salt = bytes32(n);
            vm.prank(owner(0));
            taskIds[n] = market.publish(wanted, SPEC);
            for (uint256 i = 0; i < 3; ++i) {
                vm.prank(owner(i));
                market.accept(taskIds[n], 6, session(i), "");
            }
            market.start(taskIds[n]);
        }
        vm.prank(owner(1));
        registry.unstake(consortium, 1 ether);
        expel(taskIds[0], 1);
        assertEq(registry.stakeOf(consortium, owner(1)), STAKE / 2 - 1 ether);
        expel(taskIds[1], 1);
        assertEq(registry.stakeOf(consortium, owner(1)), 0);
        assertEq(registry.memberOf(consortium, owner(1)).unbonding, 0);
        expel(taskIds[2], 1);
        assertEq(registry.burnt(consortium) + token.balanceOf(REPORTER), STAKE + 1);
        assertTrue(market.participantOf(taskIds[2], owner(1)).expelled);
    }

    function test_ARollCallGoesOnWithoutWhomItExpels() public {
        bytes32 taskId = started(100 ether, 4);
        answer(taskId, 1, 0);
        answer(taskId, 1, 1);
        expel(taskId, 1);
        assertEq(settlement.epochAt(taskId, 1).members, 1);
        assertEq(settlement.epochAt(taskId, 1).stake, STAKE);
        bytes memory mine = signatureBy(102, rollCallDigest(taskId, 1, owner(1), ""));
        vm.expectPartialRevert(RollCalls.NotCounted.selector);
        settlement.answerRollCall(taskId, 1, owner(1), "", mine);
        answer(taskId, 1, 2);
        answer(taskId, 1, 3);
        assertEq(settlement.epochOf(taskId), 1);
        assertEq(settlement.epochAt(taskId, 1).members, 13);

        // In a later epoch its stake leaves the total of that epoch.
        expel(taskId, 2);
        assertEq(settlement.epochAt(taskId, 1).expelled, STAKE);
        Settlement.RoundResult memory r = result(taskId, 1, 0, 0, false);
        r.epoch = 1;
        settlement.postResult(r, "", joined(signaturesBy(settlement.digestOf(r), sorted([uint256(101), 104, 999]))));
    }

    function test_WhoIsTheLastWithoutAnAnswerHoldsNothingUpOnceExpelled() public {
        bytes32 taskId = started(100 ether, 2);
        answer(taskId, 1, 0);
        vm.expectPartialRevert(RollCalls.RollCallNotOpen.selector);
        settlement.closeRollCall(taskId, 1);
        expel(taskId, 1);
        settlement.closeRollCall(taskId, 1);
        assertEq(settlement.epochAt(taskId, 1).members, 1);
    }

    function test_OnlyTheirOwnersReachTheLevers() public {
        bytes32 taskId = started(100 ether, 3);
        vm.expectPartialRevert(TaskMarket.NotSettlement.selector);
        market.expel(taskId, 0, REPORTER);
        vm.expectPartialRevert(MemberRegistry.NotMarket.selector);
        registry.slash(consortium, owner(0), 1, REPORTER);
        vm.expectPartialRevert(MemberRegistry.NotMarket.selector);
        registry.snapshot(consortium, owner(0), 1);
    }

    function test_NoTaskHoldsStakeForEver() public {
        enroll(0, STAKE);
        TaskMarket.Terms memory wanted = terms(0, 1);
        wanted.deadline = uint64(block.timestamp) + market.MAX_TASK_SECONDS() + 1;
        vm.expectRevert(abi.encodeWithSelector(TaskMarket.BadTerms.selector, "deadline"));
        vm.prank(owner(0));
        market.publish(wanted, SPEC);
    }
}

/// Stake in a token that calls somebody while the reporter is paid.
contract FraudProofsWithACallingTokenTest is Base {
    function setUp() public override {
        super.setUp();
        token = new GreetingToken();
        consortium = registry.createConsortium(
            "calling", IERC20(address(token)), 10 ether, MemberRegistry.Admission.Open, 7 days
        );
    }

    /// The expelled one's answer would count for a call that its expulsion leaves without a majority.
    function test_NoRollCallEndsWhileAMemberIsBeingExpelled() public {
        bytes32 taskId = started(100 ether, 4);
        for (uint256 i = 0; i < 3; ++i) {
            answer(taskId, 1, i);
        }
        GreetingToken calling = GreetingToken(address(token));
        calling.onReceive(address(settlement), abi.encodeCall(settlement.closeRollCall, (taskId, 1)));
        proveTwoVotes(taskId, 0, 101, address(0xbeef));
        assertTrue(calling.greeted() && !calling.succeeded());
        assertEq(settlement.epochOf(taskId), 0);
        assertEq(settlement.epochAt(taskId, 1).members, 6);
        // The call goes on, and ends when the one that is left answers.
        answer(taskId, 1, 3);
        assertEq(settlement.epochOf(taskId), 1);
        assertEq(settlement.epochAt(taskId, 1).members, 14);
    }
}
