// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Signed} from "./Signed.sol";

/// @title What members lose for the quality of their updates, as results under a quorum's signatures say.
/// @notice The rule that decides is not here: the validators compute it, and sign the ledger of all that it has come to
/// so far, so that results may skip rounds. It has one entry of 26 bytes for every member that was ever penalised, in
/// ascending order of places: uint8 place in participants(), uint8 flags, uint96 held, uint96 slashed. What is held is
/// the member's and cannot leave; what is slashed is burnt at once, and nobody gets a share of it.
abstract contract Penalties is Signed {
    struct Penalty {
        bool removed; // answers no later roll call
        bool appealing; // an appeal protects what is held
        uint96 held;
        uint96 slashed;
    }

    uint256 private constant ENTRY_BYTES = 26;
    uint8 private constant REMOVED = 1;
    uint8 private constant APPEALING = 2;

    error PenaltiesMismatch(bytes32 signed);
    error PenaltiesCut(uint256 length);
    error PenaltiesNotAscending(uint8 place);
    error PenaltyUnknown(uint8 flags);
    error PenaltyForgotten(uint256 places);
    error PenaltyAboveStake(address member, uint256 penalty, uint256 stake);
    error HeldWithoutAppeal(uint8 place, uint256 held);
    error SlashDecreased(address member, uint256 slashed, uint256 before);

    /// Only for entries that have changed.
    event PenaltyChanged(bytes32 indexed taskId, address indexed member, uint256 held, uint256 slashed, bool removed);

    /// Bit i: participants()[i] is in the ledger.
    mapping(bytes32 taskId => uint256) private _penalised;
    mapping(bytes32 taskId => mapping(uint8 place => Penalty)) internal _penalties;

    /// @notice What a member has lost in a task so far; its place is that in participants().
    function penaltyAt(bytes32 taskId, uint8 place) external view returns (Penalty memory) {
        return _penalties[taskId][place];
    }

    /// @dev Take over a signed ledger.
    /// @param last whether it is the task's last: then nothing stays held but what an appeal protects.
    function _penalise(bytes32 taskId, bytes calldata ledger, bool last) internal {
        if (ledger.length % ENTRY_BYTES != 0) revert PenaltiesCut(ledger.length);
        uint256 known = _penalised[taskId];
        uint256 seen = 0;
        for (uint256 i = 0; i < ledger.length; i += ENTRY_BYTES) {
            uint8 place = uint8(ledger[i]);
            // Nothing at this place or above it so far.
            if (seen >> place != 0) revert PenaltiesNotAscending(place);
            seen |= uint256(1) << place;
            Penalty memory entry = _decoded(ledger[i + 1:i + ENTRY_BYTES]);
            if (last && entry.held > 0 && !entry.appealing) revert HeldWithoutAppeal(place, entry.held);
            _enter(taskId, place, entry, (known >> place) & 1 == 0);
        }
        if (known & ~seen != 0) revert PenaltyForgotten(known & ~seen);
        if (known != seen) _penalised[taskId] = seen;
    }

    /// @dev Change an entry: hold, let go and burn the difference.
    function _change(bytes32 taskId, uint8 place, Penalty memory before, Penalty memory now_) internal {
        uint96 burnt = now_.slashed > before.slashed ? now_.slashed - before.slashed : 0;
        // The market and its registry are ours, and without a reporter they call no token; at most once for each place.
        // slither-disable-next-line calls-loop,reentrancy-no-eth,reentrancy-benign,reentrancy-events
        (address member, uint96 stake) = market.penalise(taskId, place, before.held, now_.held, burnt, now_.removed);
        if (now_.slashed < before.slashed) revert SlashDecreased(member, now_.slashed, before.slashed);
        uint256 lost = uint256(now_.held) + now_.slashed;
        if (lost > stake) revert PenaltyAboveStake(member, lost, stake);
        if (now_.removed && !before.removed) _silence(taskId, place, stake);
        _penalties[taskId][place] = now_;
        emit PenaltyChanged(taskId, member, now_.held, now_.slashed, now_.removed);
    }

    function _enter(bytes32 taskId, uint8 place, Penalty memory now_, bool first) private {
        Penalty memory before = _penalties[taskId][place];
        bool same = now_.held == before.held && now_.slashed == before.slashed && now_.removed == before.removed
            && now_.appealing == before.appealing;
        if (first || !same) _change(taskId, place, before, now_);
    }

    /// @param entry without its place.
    function _decoded(bytes calldata entry) private pure returns (Penalty memory) {
        uint8 flags = uint8(entry[0]);
        if (flags > REMOVED | APPEALING) revert PenaltyUnknown(flags);
        uint96 held = uint96(bytes12(entry[1:13]));
        uint96 slashed = uint96(bytes12(entry[13:25]));
        return Penalty(flags & REMOVED != 0, flags & APPEALING != 0, held, slashed);
    }
}
