// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Signed} from "./Signed.sol";
import {TaskMarket} from "./TaskMarket.sol";

/// @title Whose stake counts: sets of active participants, one for each epoch of a task (ADR 0008).
/// @notice Epoch 0 is everybody. The set of each later epoch is who answered its roll call, so that two halves of a
/// partition can never both go on: a call needs more than half of the active stake. Who is expelled leaves the count at
/// once, without a call: where less than a third lie, taking out a liar and its stake leaves every two quorums with
/// somebody honest in common. Who is removed for quality need not have lied: it stays in the sets that it is in.
abstract contract RollCalls is Signed {
    /// An epoch from its first answer on.
    struct Epoch {
        uint256 members; // bit i stands for participants()[i]; until the end of the call, who has answered
        uint128 stake; // of those members who are active in the epoch before; once closed, of all members
        uint128 expelled; // part of `stake` whose owners have been expelled since
        uint128 newcomers; // stake of those who answered and are not active in the epoch before
        uint40 firstBlock; // of the answers
        uint40 closedBlock; // 0: the call is not over
        uint40 closesAt; // seconds since 1970; 0: too few have answered yet
    }

    /// What the answers to a call are measured by.
    struct Count {
        uint256 active; // members of the epoch before
        uint256 stake; // of them
        uint256 unexpelled; // part of it
        uint256 everybody; // stake of all participants that may answer
    }

    /// Answers in bytes: everybody reads them.
    uint256 public constant MAX_EVIDENCE_BYTES = 65_536;
    /// Views of epoch e begin at e * 2^16, and a view is not above 2^31 - 1.
    uint32 public constant MAX_EPOCH = 32_767;

    error WrongEpoch(uint32 epoch, uint32 current);
    error EvidenceTooLong(uint256 length, uint256 maximum);
    error NotCounted(address site);
    error AlreadyAnswered(address site);
    error RollCallNotOpen(bytes32 taskId, uint32 epoch);
    error RollCallStillOpen(uint256 closesAt);

    event RollCallOpened(bytes32 indexed taskId, uint32 indexed epoch, uint256 closesAt);
    event RollCallAnswered(bytes32 indexed taskId, uint32 indexed epoch, address indexed member, bytes evidence);
    event RollCallClosed(bytes32 indexed taskId, uint32 indexed epoch, uint256 members, uint256 activeStake);

    bytes32 private constant ROLL_CALL_TYPEHASH =
        keccak256("RollCall(bytes32 taskId,uint32 epoch,address site,bytes32 evidenceHash)");

    /// The newest epoch whose roll call is over.
    mapping(bytes32 taskId => uint32) public epochOf;
    mapping(bytes32 taskId => mapping(uint32 number => Epoch)) private _epochs;

    /// @notice Answer the roll call that begins `epoch`; anybody may carry a participant's signed answer. Answers of
    /// more than half of the active stake open the call for the task's answer window; answers of all end it. One that
    /// comes later still counts if nobody has closed the call.
    /// @param evidence what the site knows to be locked; in the event, for all to read, and not looked at here.
    function answerRollCall(
        bytes32 taskId,
        uint32 epoch,
        address site,
        bytes calldata evidence,
        bytes calldata signature
    ) external {
        _requireNext(taskId, epoch);
        if (evidence.length > MAX_EVIDENCE_BYTES) revert EvidenceTooLong(evidence.length, MAX_EVIDENCE_BYTES);
        bytes32 structHash = keccak256(abi.encode(ROLL_CALL_TYPEHASH, taskId, epoch, site, keccak256(evidence)));
        (uint8 place, uint96 stake) = _seatOf(taskId, site, structHash, signature, 0);
        uint256 bit = uint256(1) << place;
        if (stake == 0) revert NotCounted(site);
        if (_epochs[taskId][epoch].members & bit != 0) revert AlreadyAnswered(site);
        emit RollCallAnswered(taskId, epoch, site, evidence);
        _count(taskId, epoch, bit, stake);
    }

    /// @notice End a roll call whose window is over; anybody may.
    function closeRollCall(bytes32 taskId, uint32 epoch) external {
        _requireNext(taskId, epoch);
        Epoch storage next = _epochs[taskId][epoch];
        Count memory count = _before(taskId, epoch);
        // Whoever has not answered may have been expelled or removed meanwhile.
        if (!_isComplete(next, count)) {
            if (next.closesAt == 0 || uint256(next.stake) * 2 <= count.stake) revert RollCallNotOpen(taskId, epoch);
            if (block.timestamp < next.closesAt) revert RollCallStillOpen(next.closesAt);
        }
        _close(taskId, epoch, next, count);
    }

    /// @notice An epoch as its roll call has left it; that of epoch 0 stays empty.
    function epochAt(bytes32 taskId, uint32 epoch) external view returns (Epoch memory) {
        return _epochs[taskId][epoch];
    }

    /// @dev Stake behind signers that counts in `epoch`, and that of its whole set without who has been expelled.
    function _stakeBehind(bytes32 taskId, uint32 epoch, address[] memory signers)
        internal
        view
        returns (uint256 stake, uint256 total)
    {
        if (epoch == 0) return market.stakeBehind(taskId, signers, type(uint256).max);
        uint32 current = epochOf[taskId];
        if (epoch > current) revert WrongEpoch(epoch, current);
        Epoch storage set = _epochs[taskId][epoch];
        // slither-disable-next-line unused-return - the total of the call is that of epoch 0, not of the set
        (stake,) = market.stakeBehind(taskId, signers, set.members);
        total = set.stake - set.expelled;
    }

    /// @dev Takes an expelled member out of what is counted now. The majority that a call needs stays one of the whole
    /// set: a value may have been decided with the vote of the expelled.
    function _leave(bytes32 taskId, uint8 place, uint96 stake) internal override {
        uint32 current = epochOf[taskId];
        uint256 bit = uint256(1) << place;
        bool active = true;
        if (current > 0) {
            Epoch storage set = _epochs[taskId][current];
            active = set.members & bit != 0;
            if (active) set.expelled += stake;
        }
        _retract(taskId, current, bit, stake, active);
    }

    /// @dev Who is removed goes on to count in the present set, and in no later one.
    function _silence(bytes32 taskId, uint8 place, uint96 stake) internal override {
        uint32 current = epochOf[taskId];
        uint256 bit = uint256(1) << place;
        _retract(taskId, current, bit, stake, current == 0 || _epochs[taskId][current].members & bit != 0);
    }

    function _retract(bytes32 taskId, uint32 current, uint256 bit, uint96 stake, bool active) private {
        Epoch storage next = _epochs[taskId][current + 1];
        if (next.members & bit == 0) return;
        next.members &= ~bit;
        if (active) next.stake -= stake;
        else next.newcomers -= stake;
    }

    function _count(bytes32 taskId, uint32 epoch, uint256 bit, uint96 stake) private {
        Epoch storage next = _epochs[taskId][epoch];
        Count memory count = _before(taskId, epoch);
        next.members |= bit;
        if (count.active & bit != 0) next.stake += stake;
        else next.newcomers += stake;
        if (next.firstBlock == 0) next.firstBlock = uint40(block.number);
        if (_isComplete(next, count)) {
            _close(taskId, epoch, next, count);
        } else if (next.closesAt == 0 && uint256(next.stake) * 2 > count.stake) {
            next.closesAt = uint40(block.timestamp + market.answerWindowOf(taskId));
            emit RollCallOpened(taskId, epoch, next.closesAt);
        }
    }

    /// @dev Stake that has come back cannot always be let in at once. Let T be the active stake, S the part of it that
    /// has answered, N the stake that comes in, and let less than a third of every set lie. A value may have been
    /// decided by P > 2/3 T, and somebody honest of P must be among S to show it: more than S - T/3 of P are in S, and
    /// liars in S are less than (S + N)/3, and less than T/3. So either 2 S > T + N or 3 S >= 2 T is asked for;
    /// otherwise S goes on alone, for which 2 S > T is enough, and N comes in with the next call.
    function _close(bytes32 taskId, uint32 epoch, Epoch storage next, Count memory count) private {
        uint256 answered = next.stake;
        if (2 * answered > count.stake + next.newcomers || 3 * answered >= 2 * count.stake) {
            next.stake += next.newcomers;
        } else {
            next.members &= count.active;
        }
        next.closedBlock = uint40(block.number);
        epochOf[taskId] = epoch;
        emit RollCallClosed(taskId, epoch, next.members, next.stake);
    }

    function _requireNext(bytes32 taskId, uint32 epoch) private view {
        TaskMarket.Status status = market.statusOf(taskId);
        if (status != TaskMarket.Status.Started) revert TaskNotStarted(taskId, status);
        uint32 current = epochOf[taskId];
        if (epoch != current + 1 || epoch > MAX_EPOCH) revert WrongEpoch(epoch, current);
    }

    /// @dev Whether all have answered that may. Removed members may be most of those who are active: what is left
    /// without them is no majority, and whoever goes on alone could miss what the others have decided.
    function _isComplete(Epoch storage next, Count memory count) private view returns (bool) {
        uint256 answered = next.stake;
        return answered + next.newcomers >= count.everybody && 2 * answered > count.unexpelled;
    }

    /// @dev What the call that begins `epoch` counts with.
    function _before(bytes32 taskId, uint32 epoch) private view returns (Count memory) {
        (uint256 total, uint256 expelled, uint256 removed) = market.totalStakeOf(taskId);
        uint256 everybody = total - expelled - removed;
        if (epoch == 1) return Count(type(uint256).max, total, total - expelled, everybody);
        Epoch storage set = _epochs[taskId][epoch - 1];
        return Count(set.members, set.stake, set.stake - set.expelled, everybody);
    }
}
