// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Base} from "./Base.sol";
import {GreetingToken, MoodyToken} from "./Tokens.sol";
import {TaskMarket} from "../src/TaskMarket.sol";
import {Settlement} from "../src/Settlement.sol";
import {Signed} from "../src/Signed.sol";

contract SettlementTest is Base {
    function test_TheLastResultClosesTheTaskAndRefundsTheRest() public {
        bytes32 taskId = started(100 ether, 3);
        uint256 before = token.balanceOf(owner(0));
        bytes32 root = leaf(taskId, owner(1), 60 ether);
        Settlement.RoundResult memory r = result(taskId, 20, root, 60 ether, true);
        settlement.postResult(r, "", joined(signatures(r, 3)));
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
        settlement.postResult(r, "", joined(signatures(r, 3)));
        settlement.claim(taskId, owner(1), 10 ether, new bytes32[](0));
        vm.expectPartialRevert(Settlement.NothingToClaim.selector);
        settlement.claim(taskId, owner(1), 10 ether, new bytes32[](0));

        r = result(taskId, 10, leaf(taskId, owner(1), 25 ether), 25 ether, false);
        settlement.postResult(r, "", joined(signatures(r, 3)));
        uint256 before = token.balanceOf(owner(1));
        settlement.claim(taskId, owner(1), 25 ether, new bytes32[](0));
        assertEq(token.balanceOf(owner(1)) - before, 15 ether);
    }

    function test_NobodyClaimsWithAForeignLeaf() public {
        bytes32 taskId = started(100 ether, 3);
        Settlement.RoundResult memory r = result(taskId, 5, leaf(taskId, owner(1), 10 ether), 10 ether, false);
        settlement.postResult(r, "", joined(signatures(r, 3)));
        vm.expectPartialRevert(Settlement.ProofInvalid.selector);
        settlement.claim(taskId, owner(2), 10 ether, new bytes32[](0));
    }

    function test_ExactlyTwoThirdsAreNotAQuorum() public {
        bytes32 taskId = started(100 ether, 3);
        Settlement.RoundResult memory r = result(taskId, 1, 0, 0, false);
        bytes[] memory two = signatures(r, 2);
        vm.expectPartialRevert(Settlement.QuorumMissing.selector);
        settlement.postResult(r, "", joined(two));
    }

    function test_TheSameSignatureDoesNotCountTwice() public {
        bytes32 taskId = started(100 ether, 3);
        Settlement.RoundResult memory r = result(taskId, 1, 0, 0, false);
        bytes[] memory three = signatures(r, 3);
        three[1] = three[0];
        vm.expectPartialRevert(Settlement.SignersNotAscending.selector);
        settlement.postResult(r, "", joined(three));
    }

    function test_AStrangersSignatureCountsNothingAndDoesNoHarm() public {
        bytes32 taskId = started(100 ether, 3);
        Settlement.RoundResult memory r = result(taskId, 1, 0, 0, false);
        bytes memory two = joined(signaturesBy(settlement.digestOf(r), sorted([uint256(101), 102, 999])));
        vm.expectPartialRevert(Settlement.QuorumMissing.selector);
        settlement.postResult(r, "", two);
        settlement.postResult(r, "", joined(signatures(r, 4)));
    }

    function test_RoundsAndRewardsOnlyGrow() public {
        bytes32 taskId = started(100 ether, 3);
        Settlement.RoundResult memory r = result(taskId, 5, 0, 10 ether, false);
        settlement.postResult(r, "", joined(signatures(r, 3)));
        bytes[] memory again = signatures(r, 3);
        vm.expectPartialRevert(Settlement.RoundNotNewer.selector);
        settlement.postResult(r, "", joined(again));

        r = result(taskId, 6, 0, 9 ether, false);
        bytes[] memory less = signatures(r, 3);
        vm.expectPartialRevert(Settlement.RewardDecreased.selector);
        settlement.postResult(r, "", joined(less));

        r = result(taskId, 21, 0, 10 ether, false);
        bytes[] memory beyond = signatures(r, 3);
        vm.expectPartialRevert(Settlement.RoundBeyondEnd.selector);
        settlement.postResult(r, "", joined(beyond));
    }

    function testFuzz_NoResultPromisesMoreThanTheBounty(uint256 total) public {
        vm.assume(total > 100 ether);
        bytes32 taskId = started(100 ether, 3);
        Settlement.RoundResult memory r = result(taskId, 1, 0, total, false);
        bytes[] memory made = signatures(r, 3);
        vm.expectPartialRevert(Settlement.RewardAboveBounty.selector);
        settlement.postResult(r, "", joined(made));
    }

    function test_ARotatedSessionKeyIsWorthNothing() public {
        bytes32 taskId = started(100 ether, 3);
        vm.prank(owner(2));
        market.setSession(taskId, vm.addr(999), "10.0.0.1:7443");
        Settlement.RoundResult memory r = result(taskId, 1, 0, 0, false);
        bytes[] memory made = signatures(r, 3);
        vm.expectPartialRevert(Settlement.QuorumMissing.selector);
        settlement.postResult(r, "", joined(made));
    }

    function test_SignersMustAscend() public {
        bytes32 taskId = started(100 ether, 3);
        Settlement.RoundResult memory r = result(taskId, 1, 0, 0, false);
        bytes[] memory three = signatures(r, 3);
        (three[0], three[1]) = (three[1], three[0]);
        vm.expectPartialRevert(Settlement.SignersNotAscending.selector);
        settlement.postResult(r, "", joined(three));
    }

    function test_AMalleatedOrBrokenSignatureIsRefused() public {
        bytes32 taskId = started(100 ether, 3);
        Settlement.RoundResult memory r = result(taskId, 1, 0, 0, false);
        bytes[] memory three = signatures(r, 3);
        (uint8 v, bytes32 rr, bytes32 s) = vm.sign(101, settlement.digestOf(r));
        uint256 order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;
        bytes memory malleated = abi.encodePacked(rr, bytes32(order - uint256(s)), v == 27 ? uint8(28) : uint8(27));
        for (uint256 i = 0; i < 3; ++i) {
            bytes memory good = three[i];
            three[i] = malleated;
            vm.expectRevert(abi.encodeWithSelector(Signed.BadSignature.selector, i));
            settlement.postResult(r, "", joined(three));
            three[i] = good;
        }
        vm.expectRevert(abi.encodeWithSelector(Signed.BadSignature.selector, 3));
        settlement.postResult(r, "", bytes.concat(joined(three), bytes1(0x1b)));
        settlement.postResult(r, "", joined(three));
    }

    function test_ASignatureOfAnotherTaskIsAStrangers() public {
        bytes32 taskId = started(100 ether, 3);
        Settlement.RoundResult memory other = result(keccak256("other"), 1, 0, 0, false);
        bytes[] memory made = signatures(other, 3);
        Settlement.RoundResult memory r = result(taskId, 1, 0, 0, false);
        // The signatures recover to some keys, in some order, and none of them is a participant's.
        try settlement.postResult(r, "", joined(made)) {
            revert("accepted");
        } catch (bytes memory reason) {
            // forge-lint: disable-next-line(unsafe-typecast) - an error begins with its selector
            bytes4 found = bytes4(reason);
            assertTrue(
                found == Settlement.QuorumMissing.selector || found == Settlement.SignersNotAscending.selector
                    || found == Signed.BadSignature.selector
            );
        }
    }

    function test_NoResultBeforeTheStartOrAfterTheLast() public {
        enroll(0, STAKE);
        bytes32 taskId = publish(1 ether, 1);
        vm.prank(owner(0));
        market.accept(taskId, 6, session(0), "");
        Settlement.RoundResult memory r = result(taskId, 1, 0, 0, true);
        bytes[] memory made = signatures(r, 1);
        vm.expectPartialRevert(Signed.TaskNotStarted.selector);
        settlement.postResult(r, "", joined(made));
        market.start(taskId);
        settlement.postResult(r, "", joined(made));
        r.round = 2;
        made = signatures(r, 1);
        vm.expectPartialRevert(Signed.TaskNotStarted.selector);
        settlement.postResult(r, "", joined(made));
    }

    /// Stakes of any size: the quorum is more than two thirds to the last base unit.
    function testFuzz_TheQuorumIsExact(uint64 a, uint64 b, uint64 c) public {
        uint256[3] memory stakes = [10 ether + uint256(a), 10 ether + uint256(b), 10 ether + uint256(c)];
        for (uint256 i = 0; i < 3; ++i) {
            enroll(i, stakes[i]);
        }
        bytes32 taskId = publish(1 ether, 3);
        for (uint256 i = 0; i < 3; ++i) {
            vm.prank(owner(i));
            market.accept(taskId, 6, session(i), "");
        }
        market.start(taskId);
        Settlement.RoundResult memory r = result(taskId, 1, 0, 0, false);
        bytes[] memory two = signatures(r, 2);
        if ((stakes[0] + stakes[1]) * 3 <= (stakes[0] + stakes[1] + stakes[2]) * 2) {
            vm.expectPartialRevert(Settlement.QuorumMissing.selector);
        }
        settlement.postResult(r, "", joined(two));
    }

    function test_TwoThirdsAndOneUnitAreAQuorum() public {
        enroll(0, STAKE);
        enroll(1, STAKE + 1);
        enroll(2, STAKE);
        bytes32 taskId = publish(1 ether, 3);
        for (uint256 i = 0; i < 3; ++i) {
            vm.prank(owner(i));
            market.accept(taskId, 6, session(i), "");
        }
        market.start(taskId);
        Settlement.RoundResult memory r = result(taskId, 1, 0, 0, false);
        settlement.postResult(r, "", joined(signatures(r, 2)));
        assertEq(settlement.stateOf(taskId).round, 1);
    }

    /// A tree that promises more than was settled pays no more than was settled, and leaves the refund alone.
    function test_ALyingTreeDoesNotReachTheRefund() public {
        bytes32 taskId = started(100 ether, 3);
        bytes32 one = leaf(taskId, owner(1), 60 ether);
        bytes32 two = leaf(taskId, owner(2), 60 ether);
        bytes32 root = one < two ? keccak256(abi.encode(one, two)) : keccak256(abi.encode(two, one));
        Settlement.RoundResult memory r = result(taskId, 5, root, 60 ether, false);
        settlement.postResult(r, "", joined(signatures(r, 3)));
        bytes32[] memory proof = new bytes32[](1);
        proof[0] = two;
        settlement.claim(taskId, owner(1), 60 ether, proof);
        proof[0] = one;
        vm.expectPartialRevert(TaskMarket.RewardExceeded.selector);
        settlement.claim(taskId, owner(2), 60 ether, proof);
        r = result(taskId, 6, root, 60 ether, true);
        settlement.postResult(r, "", joined(signatures(r, 3)));
        assertEq(token.balanceOf(address(market)), 0);
    }

    function test_APlannerThatItsTokenRefusesCannotHoldTheRewardsBack() public {
        MoodyToken moody = new MoodyToken();
        bytes32 taskId = startedIn(moody, 100 ether, 3);
        moody.refuse(owner(0));
        Settlement.RoundResult memory r = result(taskId, 20, leaf(taskId, owner(1), 60 ether), 60 ether, true);
        settlement.postResult(r, "", joined(signatures(r, 3)));
        assertTrue(market.statusOf(taskId) == TaskMarket.Status.Finished);
        assertEq(market.refundDue(taskId), 40 ether);
        settlement.claim(taskId, owner(1), 60 ether, new bytes32[](0));
        assertEq(moody.balanceOf(owner(1)), 60 ether);

        vm.expectPartialRevert(MoodyToken.Refused.selector);
        market.collectRefund(taskId);
        moody.refuse(address(0));
        uint256 before = moody.balanceOf(owner(0));
        market.collectRefund(taskId);
        assertEq(moody.balanceOf(owner(0)) - before, 40 ether);
        vm.expectPartialRevert(TaskMarket.NothingDue.selector);
        market.collectRefund(taskId);
    }

    function test_ARewardClaimsNothingTwiceThroughReentrance() public {
        GreetingToken greeting = new GreetingToken();
        bytes32 taskId = startedIn(greeting, 100 ether, 3);
        Settlement.RoundResult memory r = result(taskId, 5, leaf(taskId, owner(1), 10 ether), 10 ether, false);
        settlement.postResult(r, "", joined(signatures(r, 3)));
        greeting.onReceive(
            address(settlement), abi.encodeCall(settlement.claim, (taskId, owner(1), 10 ether, new bytes32[](0)))
        );
        settlement.claim(taskId, owner(1), 10 ether, new bytes32[](0));
        assertTrue(greeting.greeted() && !greeting.succeeded());
        assertEq(greeting.balanceOf(owner(1)), 10 ether);
    }

    /// Gas as a transaction pays it; `FORGE_SNAPSHOT_CHECK=true forge test` holds it to `snapshots/`.
    function test_GasOfResults() public {
        uint16[3] memory sizes = [uint16(3), 16, 64];
        for (uint256 i = 0; i < sizes.length; ++i) {
            uint16 sites = sizes[i];
            setUp();
            bytes32 taskId = started(100 ether, sites);
            uint256 quorum = uint256(sites) * 2 / 3 + 1;
            for (uint64 round = 1; round <= 2; ++round) {
                Settlement.RoundResult memory r =
                    result(taskId, round, keccak256(abi.encode(round)), round * 1 ether, false);
                r.updatesRoot = keccak256("updates");
                r.scoresRoot = keccak256("scores");
                bytes[] memory made = signatures(r, quorum);
                settlement.postResult(r, "", joined(made));
                vm.snapshotGasLastCall(
                    "Settlement",
                    string.concat(
                        ["3 sites, 3 signatures", "16 sites, 11 signatures", "64 sites, 43 signatures"][i],
                        round == 1 ? ", first" : ", later"
                    )
                );
            }
        }
    }
}
