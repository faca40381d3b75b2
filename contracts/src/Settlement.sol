// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";
import {MemberRegistry} from "./MemberRegistry.sol";
import {TaskMarket, ISettlement} from "./TaskMarket.sol";

/// @title Results of rounds under the signatures of more than two thirds of the stake, and rewards by proof.
/// @notice The entry of Covey's contracts: `registry()` and `market()` lead to the others.
contract Settlement is EIP712, ISettlement {
    struct RoundResult {
        bytes32 taskId;
        uint64 round; // counted from 1
        bytes32 modelDigest;
        bytes32 updatesRoot;
        bytes32 scoresRoot;
        bytes32 rewardRoot; // tree of cumulative rewards
        uint256 totalReward; // cumulative
        bool accepted;
        bool last;
    }

    struct State {
        uint64 round;
        bool last;
        bytes32 modelDigest;
        bytes32 rewardRoot;
        uint256 totalReward;
    }

    error TaskNotStarted(bytes32 taskId, TaskMarket.Status status);
    error RoundNotNewer(uint64 round, uint64 settled);
    error RoundBeyondEnd(uint64 round, uint64 rounds);
    error RewardDecreased(uint256 total, uint256 settled);
    error RewardAboveBounty(uint256 total, uint256 bounty);
    error SignersNotAscending(address signer);
    error UnknownSigner(address signer);
    error QuorumMissing(uint256 stake, uint256 total);
    error ProofInvalid(address member, uint256 cumulative);
    error NothingToClaim(address member);

    event ResultPosted(
        bytes32 indexed taskId,
        uint64 indexed round,
        bytes32 modelDigest,
        bytes32 rewardRoot,
        uint256 totalReward,
        bool last
    );
    event RewardClaimed(bytes32 indexed taskId, address indexed member, uint256 amount, uint256 cumulative);

    bytes32 private constant RESULT_TYPEHASH = keccak256(
        "RoundResult(bytes32 taskId,uint64 round,bytes32 modelDigest,bytes32 updatesRoot,bytes32 scoresRoot,bytes32 rewardRoot,uint256 totalReward,bool accepted,bool last)"
    );

    MemberRegistry public immutable registry;
    TaskMarket public immutable market;
    mapping(bytes32 taskId => State) private _states;
    mapping(bytes32 taskId => mapping(address member => uint256)) public claimed;

    constructor(MemberRegistry registry_, TaskMarket market_) EIP712("Covey", "1") {
        registry = registry_;
        market = market_;
    }

    /// @notice Put a round's result on chain; anybody may carry it. The last one closes the task.
    /// @param signatures of session keys, in ascending order of the signer's address.
    function postResult(RoundResult calldata result, bytes[] calldata signatures) external {
        TaskMarket.Status status = market.statusOf(result.taskId);
        if (status != TaskMarket.Status.Started) revert TaskNotStarted(result.taskId, status);
        State storage state = _states[result.taskId];
        if (result.round <= state.round) revert RoundNotNewer(result.round, state.round);
        uint64 rounds = market.roundsOf(result.taskId);
        if (result.round > rounds) revert RoundBeyondEnd(result.round, rounds);
        if (result.totalReward < state.totalReward) revert RewardDecreased(result.totalReward, state.totalReward);
        uint256 bounty = market.bountyOf(result.taskId);
        if (result.totalReward > bounty) revert RewardAboveBounty(result.totalReward, bounty);
        _requireQuorum(result, signatures);

        state.round = result.round;
        state.last = result.last;
        state.modelDigest = result.modelDigest;
        state.rewardRoot = result.rewardRoot;
        state.totalReward = result.totalReward;
        emit ResultPosted(
            result.taskId, result.round, result.modelDigest, result.rewardRoot, result.totalReward, result.last
        );
        if (result.last) market.finish(result.taskId, result.totalReward);
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
        market.pay(taskId, member, cumulative - paid);
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

    function _requireQuorum(RoundResult calldata result, bytes[] calldata signatures) private view {
        bytes32 digest = digestOf(result);
        address previous = address(0);
        uint256 stake;
        for (uint256 i = 0; i < signatures.length; ++i) {
            address signer = ECDSA.recoverCalldata(digest, signatures[i]);
            if (signer <= previous) revert SignersNotAscending(signer);
            previous = signer;
            uint256 held = market.stakeOfSession(result.taskId, signer);
            if (held == 0) revert UnknownSigner(signer);
            stake += held;
        }
        uint256 total = market.totalStakeOf(result.taskId);
        if (stake * 3 <= total * 2) revert QuorumMissing(stake, total);
    }
}
