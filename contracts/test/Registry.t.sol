// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {Base} from "./Base.sol";
import {GreedyToken} from "./Tokens.sol";
import {ExactTransfer} from "../src/ExactTransfer.sol";
import {MemberRegistry} from "../src/MemberRegistry.sol";

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
        vm.expectPartialRevert(MemberRegistry.NotEnoughStaked.selector);
        vm.prank(owner(0));
        registry.unstake(consortium, amount);
    }

    function test_AGreedyTokenIsRefusedAsStake() public {
        GreedyToken greedy = new GreedyToken();
        consortium =
            registry.createConsortium("greedy", IERC20(address(greedy)), 0, MemberRegistry.Admission.Open, 1 days);
        greedy.mint(owner(0), STAKE);
        vm.startPrank(owner(0));
        greedy.approve(address(registry), STAKE);
        registry.join(consortium, 7, bytes32(uint256(1)), "", 0, "");
        vm.expectPartialRevert(ExactTransfer.FeeOnTransfer.selector);
        registry.stake(consortium, STAKE);
        vm.stopPrank();
    }

    function test_AnotherUnstakeStartsTheTimeAnew() public {
        enroll(0, STAKE);
        vm.startPrank(owner(0));
        registry.unstake(consortium, STAKE / 2);
        vm.warp(6 days);
        registry.unstake(consortium, STAKE / 2);
        vm.warp(12 days);
        vm.expectPartialRevert(MemberRegistry.StillBonded.selector);
        registry.withdraw(consortium);
        vm.warp(13 days);
        registry.withdraw(consortium);
        vm.stopPrank();
        assertEq(token.balanceOf(owner(0)), STAKE + 1_000_000 ether);
    }

    function test_AMemberJoinsOnceAndChangesItsEntry() public {
        enroll(0, 0);
        vm.expectPartialRevert(MemberRegistry.AlreadyMember.selector);
        vm.prank(owner(0));
        registry.join(consortium, 7, keccak256("tls"), "", 0, "");
        vm.roll(block.number + 7);
        vm.prank(owner(0));
        registry.update(consortium, 2, keccak256("new"), "10.0.0.9", keccak256("meta"), "new certificate");
        MemberRegistry.Member memory m = registry.memberOf(consortium, owner(0));
        assertEq(m.roles, 2);
        assertTrue(m.tlsKeyHash == keccak256("new") && m.metadataHash == keccak256("meta"));
        assertEq(m.updatedBlock, block.number);
        assertEq(m.joinedBlock, block.number - 7);
        vm.expectPartialRevert(MemberRegistry.NotMember.selector);
        vm.prank(owner(1));
        registry.update(consortium, 2, keccak256("new"), "", 0, "");
    }

    function test_EntriesThatNobodyCouldUseAreRefused() public {
        vm.expectPartialRevert(MemberRegistry.BadRoles.selector);
        registry.join(consortium, 8, keccak256("tls"), "", 0, "");
        vm.expectPartialRevert(MemberRegistry.BadRoles.selector);
        registry.join(consortium, 0, keccak256("tls"), "", 0, "");
        vm.expectPartialRevert(MemberRegistry.TlsKeyMissing.selector);
        registry.join(consortium, 7, 0, "", 0, "");
        vm.expectPartialRevert(MemberRegistry.TooLong.selector);
        registry.join(consortium, 7, keccak256("tls"), string(new bytes(256)), 0, "");
        vm.expectPartialRevert(MemberRegistry.TooLong.selector);
        registry.join(consortium, 7, keccak256("tls"), "", 0, new bytes(8193));
        vm.expectPartialRevert(MemberRegistry.UnknownConsortium.selector);
        registry.join(keccak256("nowhere"), 7, keccak256("tls"), "", 0, "");
    }

    function test_ANameIsTakenOnce() public {
        vm.expectPartialRevert(MemberRegistry.ConsortiumExists.selector);
        registry.createConsortium("oncology-eu", IERC20(address(token)), 0, MemberRegistry.Admission.Open, 0);
        vm.expectRevert(abi.encodeWithSelector(MemberRegistry.NameEmpty.selector));
        registry.createConsortium("", IERC20(address(token)), 0, MemberRegistry.Admission.Open, 0);
    }

    function test_AVoteCountsOnceAndOnlyFromMembers() public {
        consortium =
            registry.createConsortium("by-vote", IERC20(address(token)), 0, MemberRegistry.Admission.Vote, 1 days);
        vm.expectPartialRevert(MemberRegistry.NotMember.selector);
        registry.admit(consortium, owner(1));
        registry.join(consortium, 7, bytes32(uint256(1)), "", 0, "");
        registry.admit(consortium, owner(1));
        vm.expectPartialRevert(MemberRegistry.AlreadyVoted.selector);
        registry.admit(consortium, owner(1));
    }
}
