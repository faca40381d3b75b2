// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Signed} from "./Signed.sol";

/// @title Proofs that a member has signed two things of which it may sign only one (ADR 0010).
/// @notice Anybody may prove a fault, at any time after the start. Both signatures must be by session keys that are or
/// were the member's in this task: a key that was replaced stays its member's word. The member is slashed and expelled.
abstract contract FraudProofs is Signed {
    enum Fault {
        Update,
        Proposal,
        Vote
    }

    struct UpdateHeader {
        bytes32 taskId;
        uint64 round;
        uint32 attempt;
        address site;
        bytes32 base;
        bytes32 codec;
        uint64 length;
        bytes32 root;
        uint64 samples;
    }

    struct Proposal {
        bytes32 taskId;
        uint64 round;
        uint8 step;
        uint32 view_;
        int32 validView;
        bytes32 value;
        address site;
    }

    struct Vote {
        bytes32 taskId;
        uint64 round;
        uint8 step;
        uint32 view_;
        uint8 kind;
        bytes32 value;
        address site;
    }

    error NoConflict();

    /// @param first and `second`: the EIP-712 struct hashes of what was signed.
    event FaultProven(bytes32 indexed taskId, address indexed member, Fault fault, bytes32 first, bytes32 second);

    bytes32 private constant UPDATE_TYPEHASH = keccak256(
        "UpdateHeader(bytes32 taskId,uint64 round,uint32 attempt,address site,bytes32 base,bytes32 codec,uint64 length,bytes32 root,uint64 samples)"
    );
    bytes32 private constant PROPOSAL_TYPEHASH = keccak256(
        "Proposal(bytes32 taskId,uint64 round,uint8 step,uint32 view,int32 validView,bytes32 value,address site)"
    );
    bytes32 private constant VOTE_TYPEHASH =
        keccak256("Vote(bytes32 taskId,uint64 round,uint8 step,uint32 view,uint8 kind,bytes32 value,address site)");

    /// @notice Prove two different headers of one site for one task, round and attempt.
    /// @param reporter gets its share of the slash.
    function proveEquivocation(
        UpdateHeader calldata a,
        bytes calldata signatureA,
        UpdateHeader calldata b,
        bytes calldata signatureB,
        address reporter
    ) external {
        if (a.taskId != b.taskId || a.round != b.round || a.attempt != b.attempt || a.site != b.site) {
            revert NoConflict();
        }
        bytes32 first = keccak256(abi.encode(UPDATE_TYPEHASH, a));
        bytes32 second = keccak256(abi.encode(UPDATE_TYPEHASH, b));
        uint8 place = _convict(a.taskId, a.site, first, signatureA, second, signatureB);
        _expel(Fault.Update, a.taskId, a.site, place, reporter, first, second);
    }

    /// @notice Prove two different proposals of one site for one task, round, step and view.
    /// @param reporter gets its share of the slash.
    function proveConflictingProposal(
        Proposal calldata a,
        bytes calldata signatureA,
        Proposal calldata b,
        bytes calldata signatureB,
        address reporter
    ) external {
        if (a.taskId != b.taskId || a.round != b.round || a.step != b.step || a.view_ != b.view_ || a.site != b.site) {
            revert NoConflict();
        }
        bytes32 first = keccak256(abi.encode(PROPOSAL_TYPEHASH, a));
        bytes32 second = keccak256(abi.encode(PROPOSAL_TYPEHASH, b));
        uint8 place = _convict(a.taskId, a.site, first, signatureA, second, signatureB);
        _expel(Fault.Proposal, a.taskId, a.site, place, reporter, first, second);
    }

    /// @notice Prove two votes of one kind for different values by one site, for one task, round, step and view.
    /// @param reporter gets its share of the slash.
    function proveConflictingVote(
        Vote calldata a,
        bytes calldata signatureA,
        Vote calldata b,
        bytes calldata signatureB,
        address reporter
    ) external {
        if (
            a.taskId != b.taskId || a.round != b.round || a.step != b.step || a.view_ != b.view_ || a.kind != b.kind
                || a.site != b.site
        ) {
            revert NoConflict();
        }
        bytes32 first = keccak256(abi.encode(VOTE_TYPEHASH, a));
        bytes32 second = keccak256(abi.encode(VOTE_TYPEHASH, b));
        uint8 place = _convict(a.taskId, a.site, first, signatureA, second, signatureB);
        _expel(Fault.Vote, a.taskId, a.site, place, reporter, first, second);
    }

    function _convict(
        bytes32 taskId,
        address site,
        bytes32 first,
        bytes calldata signatureA,
        bytes32 second,
        bytes calldata signatureB
    ) private view returns (uint8 place) {
        if (first == second) revert NoConflict();
        _seatOf(taskId, site, first, signatureA, 0);
        (place,) = _seatOf(taskId, site, second, signatureB, 1);
    }

    function _expel(
        Fault fault,
        bytes32 taskId,
        address site,
        uint8 place,
        address reporter,
        bytes32 first,
        bytes32 second
    ) private {
        // The reporter's tokens may call anybody, but the market answers no roll call meanwhile (`totalStakeOf`).
        // slither-disable-next-line reentrancy-events
        _leave(taskId, place, market.expel(taskId, place, reporter));
        emit FaultProven(taskId, site, fault, first, second);
    }
}
