// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {MAX_ENDPOINT_BYTES, MemberRegistry} from "./MemberRegistry.sol";

/// @title Who takes part in a task: session keys, the snapshot of stake, and who has been expelled.
abstract contract Seats is ReentrancyGuardTransient {
    using SafeCast for uint256;

    /// What a session key stands for, in one slot: the quorum reads one slot a signature.
    struct Seat {
        bool taken; // false: nobody's key
        uint8 place; // in the list of participants
        uint96 stake; // 0 before the start, and of a key that has been replaced
    }

    struct Participation {
        uint8 roles; // 0: not a participant
        address sessionKey;
        string endpoint;
    }

    struct Participant {
        uint8 roles; // 0: not a participant
        address sessionKey;
        uint256 stake; // snapshot at start
        string endpoint;
        bool expelled; // for a fault that was proven
        bool removed; // for quality; an appeal may bring it back
    }

    /// The stake of all, in one slot, and who counts no more.
    struct Snapshot {
        uint128 stake;
        uint128 expelledStake; // part of it whose owners are expelled
        uint256 expelled; // bit i stands for participants()[i]
        uint256 removed; // answers no roll call, and counts where it counts already
        uint128 removedStake; // of those that are not expelled
    }

    error SessionKeyTaken(address sessionKey);
    error NotParticipant(address member);
    error AlreadyExpelled(address member);
    error NoSuchPlace(uint8 place);

    event AcceptanceWithdrawn(bytes32 indexed taskId, address indexed member);

    mapping(bytes32 taskId => address[]) internal _participants;
    mapping(bytes32 taskId => mapping(address member => Participation)) internal _participationOf;
    mapping(bytes32 taskId => mapping(address sessionKey => Seat)) private _seats;
    mapping(bytes32 taskId => Snapshot) private _snapshots;

    /// @notice Snapshotted stake of those in `set` whose distinct session keys are given, and that of all participants,
    /// both without who is expelled. Keys of strangers, keys that were replaced and members that are not in the set
    /// count nothing and do no harm.
    /// @param set bit i stands for participants()[i].
    function stakeBehind(bytes32 taskId, address[] calldata signers, uint256 set)
        external
        view
        returns (uint256 stake, uint256 total)
    {
        Snapshot storage all = _snapshots[taskId];
        uint256 gone = all.expelledStake;
        total = all.stake - gone;
        if (gone > 0) set &= ~all.expelled;
        mapping(address sessionKey => Seat) storage seats = _seats[taskId];
        for (uint256 i = 0; i < signers.length; ++i) {
            Seat storage seat = seats[signers[i]];
            if ((set >> seat.place) & 1 == 1) stake += seat.stake;
        }
    }

    /// @notice Snapshotted stake of all participants, of those who are expelled, and of those who are only removed: the
    /// rest may answer roll calls.
    /// @dev Not while the reporter of a fault is paid: who is expelled is still in the set of its epoch then.
    function totalStakeOf(bytes32 taskId)
        external
        view
        nonReentrantView
        returns (uint256 total, uint256 expelled, uint256 removed)
    {
        Snapshot storage all = _snapshots[taskId];
        return (all.stake, all.expelledStake, all.removedStake);
    }

    /// @notice Whose session key this is or was; no member if it is nobody's.
    /// @return member owner address.
    /// @return place in participants().
    /// @return stake that answers a roll call with this key: 0 before the start, and once the key is replaced or its
    /// member expelled or removed.
    function seatOf(bytes32 taskId, address sessionKey)
        external
        view
        returns (address member, uint8 place, uint96 stake)
    {
        Seat memory seat = _seats[taskId][sessionKey];
        if (!seat.taken) return (address(0), 0, 0);
        if (_isExpelled(taskId, seat.place) || _isRemoved(taskId, seat.place)) seat.stake = 0;
        return (_participants[taskId][seat.place], seat.place, seat.stake);
    }

    /// @notice The place of a participant in participants(); reverts for a stranger.
    function placeOf(bytes32 taskId, address member) external view returns (uint8) {
        if (_participationOf[taskId][member].roles == 0) revert NotParticipant(member);
        return _seatOf(taskId, member).place;
    }

    function participants(bytes32 taskId) external view returns (address[] memory) {
        return _participants[taskId];
    }

    /// @notice Participants and their snapshotted stake, whatever has become of them; bit i of a set is members[i].
    function snapshotOf(bytes32 taskId)
        external
        view
        returns (address[] memory members, uint96[] memory stakes, uint256 expelled, uint256 removed)
    {
        (expelled, removed) = (_snapshots[taskId].expelled, _snapshots[taskId].removed);
        members = _participants[taskId];
        stakes = new uint96[](members.length);
        for (uint256 i = 0; i < members.length; ++i) {
            stakes[i] = _seatOf(taskId, members[i]).stake;
        }
    }

    function participantOf(bytes32 taskId, address member) external view returns (Participant memory) {
        Participation storage p = _participationOf[taskId][member];
        Seat memory seat = _seats[taskId][p.sessionKey];
        bool expelled = seat.taken && _isExpelled(taskId, seat.place);
        bool removed = seat.taken && _isRemoved(taskId, seat.place);
        return Participant(p.roles, p.sessionKey, seat.stake, p.endpoint, expelled, removed);
    }

    function _participation(bytes32 taskId) internal view returns (Participation storage p) {
        p = _participationOf[taskId][msg.sender];
        if (p.roles == 0) revert NotParticipant(msg.sender);
    }

    /// @dev A new participant, without stake before the start.
    function _enter(bytes32 taskId, uint8 roles, address sessionKey, string calldata endpoint) internal {
        _participants[taskId].push(msg.sender);
        _participationOf[taskId][msg.sender].roles = roles;
        // forge-lint: disable-next-line(unsafe-typecast) - not above MAX_MEMBERS
        _sit(taskId, Seat(true, uint8(_participants[taskId].length - 1), 0), sessionKey, endpoint);
    }

    /// @dev The sender's seat goes to another key, or gets another end point only.
    /// @param forget whether the old key may be used again.
    function _move(bytes32 taskId, address sessionKey, string calldata endpoint, bool forget) internal {
        address old = _participation(taskId).sessionKey;
        Seat memory seat = _seats[taskId][old];
        if (forget || sessionKey == old) delete _seats[taskId][old];
        else _seats[taskId][old].stake = 0;
        _sit(taskId, seat, sessionKey, endpoint);
    }

    /// @dev The last in the list takes the place of who leaves before the start.
    function _remove(bytes32 taskId, uint256 index) internal {
        address[] storage list = _participants[taskId];
        address member = list[index];
        delete _seats[taskId][_participationOf[taskId][member].sessionKey];
        delete _participationOf[taskId][member];
        address last = list[list.length - 1];
        if (last != member) {
            list[index] = last;
            // forge-lint: disable-next-line(unsafe-typecast) - not above MAX_MEMBERS
            _seatOf(taskId, last).place = uint8(index);
        }
        list.pop();
        emit AcceptanceWithdrawn(taskId, member);
    }

    /// @dev Give a participant the stake that it has at the start.
    function _weigh(bytes32 taskId, address member, uint96 stake) internal {
        _seatOf(taskId, member).stake = stake;
    }

    /// @dev Keep the stake of all that have been weighed.
    function _freeze(bytes32 taskId, uint256 total) internal {
        _snapshots[taskId].stake = total.toUint128();
    }

    function _expel(bytes32 taskId, uint8 place) internal returns (address member, uint96 stake) {
        member = _participants[taskId][place];
        if (_isExpelled(taskId, place)) revert AlreadyExpelled(member);
        stake = _seatOf(taskId, member).stake;
        _snapshots[taskId].expelled |= uint256(1) << place;
        _snapshots[taskId].expelledStake += stake;
        if (_isRemoved(taskId, place)) _snapshots[taskId].removedStake -= stake;
    }

    /// @dev Keep a participant out of roll calls, or let it back in.
    function _bar(bytes32 taskId, uint8 place, bool removed, uint96 stake) internal {
        if (_isRemoved(taskId, place) == removed) return;
        Snapshot storage all = _snapshots[taskId];
        all.removed ^= uint256(1) << place;
        if (_isExpelled(taskId, place)) return;
        if (removed) all.removedStake += stake;
        else all.removedStake -= stake;
    }

    /// @dev A participant and its snapshot.
    function _at(bytes32 taskId, uint8 place) internal view returns (address member, uint96 stake) {
        if (place >= _participants[taskId].length) revert NoSuchPlace(place);
        member = _participants[taskId][place];
        stake = _seatOf(taskId, member).stake;
    }

    function _isExpelled(bytes32 taskId, uint8 place) private view returns (bool) {
        return (_snapshots[taskId].expelled >> place) & 1 == 1;
    }

    function _isRemoved(bytes32 taskId, uint8 place) private view returns (bool) {
        return (_snapshots[taskId].removed >> place) & 1 == 1;
    }

    /// @dev Of the present session key.
    function _seatOf(bytes32 taskId, address member) private view returns (Seat storage) {
        return _seats[taskId][_participationOf[taskId][member].sessionKey];
    }

    function _sit(bytes32 taskId, Seat memory seat, address sessionKey, string calldata endpoint) private {
        if (sessionKey == address(0) || _seats[taskId][sessionKey].taken) revert SessionKeyTaken(sessionKey);
        if (bytes(endpoint).length > MAX_ENDPOINT_BYTES) {
            revert MemberRegistry.TooLong("endpoint", bytes(endpoint).length, MAX_ENDPOINT_BYTES);
        }
        _seats[taskId][sessionKey] = seat;
        Participation storage p = _participationOf[taskId][msg.sender];
        p.sessionKey = sessionKey;
        p.endpoint = endpoint;
    }
}
