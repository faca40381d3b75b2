// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";
import {Appeals} from "./Appeals.sol";
import {Fallback} from "./Fallback.sol";
import {FraudProofs} from "./FraudProofs.sol";
import {RollCalls} from "./RollCalls.sol";
import {Signed} from "./Signed.sol";
import {IFallback, ISettlement, TaskMarket} from "./TaskMarket.sol";

/// @title Results of rounds under the signatures of more than two thirds of the stake, and rewards by proof.
/// @notice The entry of Covey's contracts: `registry()` and `market()` lead to the others.
contract Settlement is RollCalls, FraudProofs, Appeals, ISettlement {
    struct RoundResult {
        bytes32 taskId;
        uint64 round; // counted from 1
        uint32 epoch; // whose set of active members signs (ADR 0008)
        bytes32 modelDigest;
        bytes32 updatesRoot;
        bytes32 scoresRoot;
        bytes32 rewardRoot; // tree of cumulative rewards
        bytes32 penalties; // keccak256 of their ledger; 0 if nobody was ever penalised
        uint256 totalReward; // cumulative
        bool accepted;
        bool last;
    }

    struct State {
        uint64 round;
        bool last;
        bool penalised; // whether there is a ledger of penalties
        uint40 endedAt; // seconds since 1970; of the last result
        uint128 totalReward;
        bytes32 modelDigest;
        bytes32 rewardRoot;
    }

    error RoundNotNewer(uint64 round, uint64 settled);
    error RoundBeyondEnd(uint64 round, uint64 rounds);
    error RewardDecreased(uint256 total, uint256 settled);
    error RewardAboveBounty(uint256 total, uint256 bounty);
    error SignersNotAscending(address signer);
    error QuorumMissing(uint256 stake, uint256 total);
    error ProofInvalid(address member, uint256 cumulative);
    error NothingToClaim(address member);
    error NotFallback(address sender);

    event ResultPosted(
        bytes32 indexed taskId,
        uint64 indexed round,
        bytes32 modelDigest,
        bytes32 updatesRoot,
        bytes32 scoresRoot,
        bytes32 rewardRoot,
        uint256 totalReward,
        bool accepted,
        bool last
    );
    event RewardClaimed(bytes32 indexed taskId, address indexed member, uint256 amount, uint256 cumulative);

    bytes32 private constant RESULT_TYPEHASH = keccak256(
        "RoundResult(bytes32 taskId,uint64 round,uint32 epoch,bytes32 modelDigest,bytes32 updatesRoot,bytes32 scoresRoot,bytes32 rewardRoot,bytes32 penalties,uint256 totalReward,bool accepted,bool last)"
    );

    mapping(bytes32 taskId => State) private _states;
    mapping(bytes32 taskId => mapping(address member => uint256)) public claimed;

    /// What ends a task without a quorum.
    IFallback public immutable quorumFallback;

    constructor(TaskMarket market_) Signed(market_) {
        quorumFallback = new Fallback(market_);
    }

    /// @notice Put a round's result on chain; anybody may carry it. The last one closes the task.
    ///
    /// The signatures are counted with the set of the result's epoch, which need not be the newest: a result that more
    /// than 2/3 of an earlier set signed was agreed before the call, and those who answered the call have to agree on
    /// the same values after it. No other result can come to such signatures afterwards: who answered signs nothing
    /// more in the earlier epoch, and the rest of its stake with less than a third of liars is too little.
    /// @param penalties the ledger behind `result.penalties` (`Penalties`); empty for 0.
    /// @param signatures of session keys, 65 bytes each, in ascending order of the signer's address.
    function postResult(RoundResult calldata result, bytes calldata penalties, bytes calldata signatures) external {
        State storage state = _states[result.taskId];
        _requireNext(result, state);
        _requireQuorum(result, signatures);
        if (result.penalties != (penalties.length == 0 ? bytes32(0) : keccak256(penalties))) {
            revert PenaltiesMismatch(result.penalties);
        }
        if (penalties.length > 0 || state.penalised) {
            _penalise(result.taskId, penalties, result.last);
            state.penalised = true;
        }

        state.round = result.round;
        state.last = result.last;
        // forge-lint: disable-next-line(unsafe-typecast) - not above the bounty, which the market keeps below 2^128
        state.totalReward = uint128(result.totalReward);
        state.modelDigest = result.modelDigest;
        state.rewardRoot = result.rewardRoot;
        emit ResultPosted(
            result.taskId,
            result.round,
            result.modelDigest,
            result.updatesRoot,
            result.scoresRoot,
            result.rewardRoot,
            result.totalReward,
            result.accepted,
            result.last
        );
        if (!result.last) return;
        state.endedAt = uint40(block.timestamp);
        market.finish(result.taskId, result.totalReward);
    }

    /// @notice Pay what `member` has earned and not yet been paid; anybody may send it, the member receives it.
    function claim(bytes32 taskId, address member, uint256 cumulative, bytes32[] calldata proof) external {
        bytes32 leaf = keccak256(bytes.concat(keccak256(abi.encode(taskId, member, cumulative))));
        if (!MerkleProof.verifyCalldata(proof, _states[taskId].rewardRoot, leaf)) {
            revert ProofInvalid(member, cumulative);
        }
        uint256 paid = claimed[taskId][member];
        if (cumulative <= paid) revert NothingToClaim(member);
        claimed[taskId][member] = cumulative;
        emit RewardClaimed(taskId, member, cumulative - paid, cumulative);
        market.pay(taskId, member, cumulative - paid, _states[taskId].totalReward);
    }

    /// @notice End a task without a last result; called by the fallback.
    /// @param rewardRoot tree of cumulative rewards, not below those settled before.
    /// @param total of all rewards.
    function settleByMedians(bytes32 taskId, bytes32 rewardRoot, uint256 total) external {
        if (msg.sender != address(quorumFallback)) revert NotFallback(msg.sender);
        // forge-lint: disable-next-line(unsafe-typecast) - not above the bounty, which the market keeps below 2^128
        _states[taskId].totalReward = uint128(total);
        _states[taskId].rewardRoot = rewardRoot;
        market.finish(taskId, total);
    }

    function stateOf(bytes32 taskId) external view returns (State memory) {
        return _states[taskId];
    }

    function totalReward(bytes32 taskId) external view returns (uint256) {
        return _states[taskId].totalReward;
    }

    /// @notice The digest that session keys sign (EIP-712).
    function digestOf(RoundResult calldata result) public view returns (bytes32) {
        return _hashTypedDataV4(keccak256(abi.encode(RESULT_TYPEHASH, result)));
    }

    function _requireNext(RoundResult calldata result, State storage state) private view {
        (TaskMarket.Status status, uint64 rounds, uint256 bounty) = market.limitsOf(result.taskId);
        if (status != TaskMarket.Status.Started) revert TaskNotStarted(result.taskId, status);
        if (result.round <= state.round) revert RoundNotNewer(result.round, state.round);
        if (result.round > rounds) revert RoundBeyondEnd(result.round, rounds);
        if (result.totalReward < state.totalReward) revert RewardDecreased(result.totalReward, state.totalReward);
        if (result.totalReward > bounty) revert RewardAboveBounty(result.totalReward, bounty);
    }

    function _endedAt(bytes32 taskId) internal view override returns (uint256) {
        return _states[taskId].endedAt;
    }

    function _requireQuorum(RoundResult calldata result, bytes calldata signatures) private view {
        bytes32 digest = digestOf(result);
        if (signatures.length % 65 != 0) revert BadSignature(signatures.length / 65);
        address[] memory signers = new address[](signatures.length / 65);
        address previous = address(0);
        for (uint256 i = 0; i < signers.length; ++i) {
            address signer = _signer(digest, signatures[65 * i:65 * i + 65], i);
            if (signer <= previous) revert SignersNotAscending(signer);
            previous = signers[i] = signer;
        }
        (uint256 stake, uint256 total) = _stakeBehind(result.taskId, result.epoch, signers);
        if (stake * 3 <= total * 2) revert QuorumMissing(stake, total);
    }
}
