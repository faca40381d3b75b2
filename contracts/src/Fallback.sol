// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Arrays} from "@openzeppelin/contracts/utils/Arrays.sol";
import {Hashes} from "@openzeppelin/contracts/utils/cryptography/Hashes.sol";
import {Settlement} from "./Settlement.sol";
import {IFallback, TaskMarket} from "./TaskMarket.sol";

/// @title The end of a task whose quorum is gone: what each member has earned, by stake-weighted medians (ADR 0013).
/// @notice It begins at the deadline and has two windows of the task's terms: to commit to one's own vector of
/// cumulative rewards, and to reveal it. Then the medians of what more than half of the active stake has revealed settle. Medians are claimed and verified, not sorted for. Rewards that a quorum has settled stay; nobody is
/// slashed, for whatever it says; and what is held of members returns (`Appeals.resolveHeld`).
contract Fallback is IFallback {
    enum Phase {
        Closed, // no way leads here any more: the task is over, or may expire
        Waiting, // for the deadline
        Committing,
        Revealing,
        Settling
    }

    struct Course {
        uint256 set; // bit i: participants()[i] counts; that of the epoch at the first commitment, 0 before it
        uint256 revealed; // bit i: participants()[i] has
        uint64 settledBlock; // 0: not settled
    }

    error WrongPhase(bytes32 taskId, Phase phase);
    error NotYours(address site, address sender);
    error NotActive(address site);
    error NotCommitted(address site);
    error AlreadyRevealed(address site);
    error WrongLength(uint256 found, uint256 wanted);
    error NoMedian(uint8 place, uint128 claimed);
    error NotSettledSoFar(bytes32 root);

    event RewardsCommitted(bytes32 indexed taskId, address indexed member, bytes32 commitment);
    event RewardsRevealed(bytes32 indexed taskId, address indexed member, bytes rewards);
    event SettledByMedians(bytes32 indexed taskId, uint128[] rewards, uint256 totalReward);

    uint256 private constant AMOUNT_BYTES = 16;

    Settlement public immutable settlement;
    TaskMarket public immutable market;

    mapping(bytes32 taskId => Course) private _courses;
    mapping(bytes32 taskId => mapping(address site => bytes32)) public commitmentOf;
    mapping(bytes32 taskId => mapping(uint8 place => Ballot)) private _ballots;

    /// @dev Made by the settlement contract.
    constructor(TaskMarket market_) {
        settlement = Settlement(msg.sender);
        market = market_;
    }

    /// @notice Bind `site` to a vector that nobody can read yet; sent by the member or with its session key. A later
    /// commitment replaces an earlier one.
    /// @param commitment `digestOf` the vector: worth nothing to another site.
    function commit(bytes32 taskId, address site, bytes32 commitment) external {
        _require(taskId, Phase.Committing);
        if (msg.sender != site && msg.sender != market.participantOf(taskId, site).sessionKey) {
            revert NotYours(site, msg.sender);
        }
        Course storage course = _courses[taskId];
        if (course.set == 0) course.set = _activeSet(taskId);
        if ((course.set >> market.placeOf(taskId, site)) & 1 == 0) revert NotActive(site);
        commitmentOf[taskId][site] = commitment;
        emit RewardsCommitted(taskId, site, commitment);
    }

    /// @notice Open a commitment; anybody may carry it. Who does not has no weight, and loses nothing.
    /// @param rewards uint128 for each of participants(), packed: all that it has earned in the task.
    function reveal(bytes32 taskId, address site, bytes calldata rewards, bytes32 salt) external {
        _require(taskId, Phase.Revealing);
        if (commitmentOf[taskId][site] != digestOf(taskId, site, rewards, salt)) revert NotCommitted(site);
        uint256 wanted = market.participants(taskId).length * AMOUNT_BYTES;
        if (rewards.length != wanted) revert WrongLength(rewards.length, wanted);
        uint8 place = market.placeOf(taskId, site);
        Course storage course = _courses[taskId];
        if ((course.revealed >> place) & 1 == 1) revert AlreadyRevealed(site);
        course.revealed |= uint256(1) << place;
        _ballots[taskId][place] = new Ballot(rewards);
        emit RewardsRevealed(taskId, site, rewards);
    }

    /// @notice End a task by the medians; anybody may.
    /// @param settled cumulative rewards that the newest result has settled, in the order of participants(): the leaves
    /// of its tree; zeros if there is no result.
    /// @param medians for each place the smallest revealed amount such that at most half of the revealed stake is above.
    function settle(bytes32 taskId, uint128[] calldata settled, uint128[] calldata medians) external {
        _require(taskId, Phase.Settling);
        address[] memory members = market.participants(taskId);
        if (settled.length != members.length) revert WrongLength(settled.length, members.length);
        if (medians.length != members.length) revert WrongLength(medians.length, members.length);
        _requireSettled(taskId, members, settled);
        _requireMedians(taskId, medians);
        (uint128[] memory rewards, uint256 total) = _capped(settled, medians, _bountyOf(taskId));
        _courses[taskId].settledBlock = uint64(block.number);
        emit SettledByMedians(taskId, rewards, total);
        settlement.settleByMedians(taskId, _root(taskId, members, rewards), total);
    }

    /// @notice What `site` commits to.
    function digestOf(bytes32 taskId, address site, bytes calldata rewards, bytes32 salt)
        public
        view
        returns (bytes32)
    {
        return keccak256(abi.encode(block.chainid, address(this), taskId, site, keccak256(rewards), salt));
    }

    /// @notice What a participant has revealed, packed; nothing if it has not.
    function revealedBy(bytes32 taskId, uint8 place) external view returns (bytes memory rewards) {
        if ((_courses[taskId].revealed >> place) & 1 == 0) return "";
        rewards = new bytes(market.participants(taskId).length * AMOUNT_BYTES);
        _read(_ballots[taskId][place], rewards);
    }

    function courseOf(bytes32 taskId) external view returns (Course memory) {
        return _courses[taskId];
    }

    function phaseOf(bytes32 taskId) public view returns (Phase) {
        TaskMarket.Task memory task = market.taskOf(taskId);
        if (task.status != TaskMarket.Status.Started) return Phase.Closed;
        uint256 deadline = task.terms.deadline;
        uint256 window = task.terms.fallbackWindow;
        if (block.timestamp < deadline) return Phase.Waiting;
        if (block.timestamp < deadline + window) return Phase.Committing;
        if (_courses[taskId].set == 0) return Phase.Closed; // nobody has committed
        if (block.timestamp < deadline + 2 * window) return Phase.Revealing;
        return _hasMajority(taskId) ? Phase.Settling : Phase.Closed;
    }

    /// @notice Whether a task whose deadline has passed must not expire: it may still be settled by medians.
    function isOpen(bytes32 taskId) external view returns (bool) {
        return phaseOf(taskId) != Phase.Closed;
    }

    function _require(bytes32 taskId, Phase wanted) private view {
        Phase phase = phaseOf(taskId);
        if (phase != wanted) revert WrongPhase(taskId, phase);
    }

    /// @dev Whose stake a result of now would need.
    function _activeSet(bytes32 taskId) private view returns (uint256) {
        uint32 epoch = settlement.epochOf(taskId);
        return epoch == 0 ? type(uint256).max : settlement.epochAt(taskId, epoch).members;
    }

    /// @dev More than half of the active stake without the expelled, so that those who are left out are fewer.
    function _hasMajority(bytes32 taskId) private view returns (bool) {
        // slither-disable-next-line unused-return - only stakes and the expelled are asked for
        (, uint96[] memory stakes, uint256 expelled,) = market.snapshotOf(taskId);
        uint256 active = _courses[taskId].set & ~expelled;
        return 2 * _sum(stakes, active & _courses[taskId].revealed) > _sum(stakes, active);
    }

    function _bountyOf(bytes32 taskId) private view returns (uint256 bounty) {
        // slither-disable-next-line unused-return - only the bounty is asked for
        (,, bounty) = market.limitsOf(taskId);
    }

    function _requireSettled(bytes32 taskId, address[] memory members, uint128[] calldata settled) private view {
        Settlement.State memory state = settlement.stateOf(taskId);
        bool same = state.round == 0 ? _isZero(settled) : _root(taskId, members, settled) == state.rewardRoot;
        if (!same) revert NotSettledSoFar(state.rewardRoot);
    }

    /// @dev An amount is the median if less than half of the stake is below it and at most half above: there is one.
    function _requireMedians(bytes32 taskId, uint128[] memory claimed) private view {
        // slither-disable-next-line unused-return - only stakes and the expelled are asked for
        (, uint96[] memory stakes, uint256 expelled,) = market.snapshotOf(taskId);
        uint256 counting = _courses[taskId].set & _courses[taskId].revealed & ~expelled;
        uint256[] memory below = new uint256[](claimed.length);
        uint256[] memory above = new uint256[](claimed.length);
        bytes memory ballot = new bytes(claimed.length * AMOUNT_BYTES);
        for (uint256 i = 0; i < stakes.length; ++i) {
            if ((counting >> i) & 1 == 0) continue;
            // forge-lint: disable-next-line(unsafe-typecast) - a place
            _read(_ballots[taskId][uint8(i)], ballot);
            _tally(ballot, stakes[i], claimed, below, above);
        }
        uint256 total = _sum(stakes, counting);
        for (uint256 j = 0; j < claimed.length; ++j) {
            // forge-lint: disable-next-line(unsafe-typecast) - a place
            if (2 * below[j] >= total || 2 * above[j] > total) revert NoMedian(uint8(j), claimed[j]);
        }
    }

    /// @dev Adds a stake where its ballot is below what is claimed, or above it. N^2 times in a task of N: in assembly it
    /// is a fifth, and 256 fit into one transaction. All four arrays are of one length; stakes of 2^96 do not overflow.
    function _tally(
        bytes memory ballot,
        uint256 stake,
        uint128[] memory claimed,
        uint256[] memory below,
        uint256[] memory above
    ) private pure {
        assembly ("memory-safe") {
            let end := add(claimed, shl(5, add(mload(claimed), 1)))
            for {
                let at := add(claimed, 32)
                let amounts := add(ballot, 32)
            } lt(at, end) {
                at := add(at, 32)
                amounts := add(amounts, AMOUNT_BYTES)
            } {
                let amount := shr(128, mload(amounts))
                let wanted := mload(at)
                let cell := 0
                if lt(amount, wanted) { cell := add(below, sub(at, claimed)) }
                if gt(amount, wanted) { cell := add(above, sub(at, claimed)) }
                if cell { mstore(cell, add(mload(cell), stake)) }
            }
        }
    }

    /// @dev Nobody gets less than was settled; what medians add is cut in proportion where the escrow has less. Medians
    /// of vectors that each keep the bounty may together exceed it.
    function _capped(uint128[] calldata settled, uint128[] calldata medians, uint256 bounty)
        private
        pure
        returns (uint128[] memory rewards, uint256 total)
    {
        uint256 more = 0;
        for (uint256 i = 0; i < settled.length; ++i) {
            total += settled[i];
            if (medians[i] > settled[i]) more += medians[i] - settled[i];
        }
        uint256 rest = bounty - total;
        rewards = new uint128[](settled.length);
        for (uint256 i = 0; i < settled.length; ++i) {
            uint256 part = medians[i] > settled[i] ? medians[i] - settled[i] : 0;
            if (more > rest) part = part * rest / more;
            // forge-lint: disable-next-line(unsafe-typecast) - not above the bounty, which is below 2^128
            rewards[i] = settled[i] + uint128(part);
            total += part;
        }
    }

    /// @dev The tree that `Settlement.claim` takes proofs of: leaves ascend, and who has no neighbour moves up.
    function _root(bytes32 taskId, address[] memory members, uint128[] memory rewards) private pure returns (bytes32) {
        bytes32[] memory leaves = new bytes32[](members.length);
        for (uint256 i = 0; i < leaves.length; ++i) {
            leaves[i] = keccak256(bytes.concat(keccak256(abi.encode(taskId, members[i], uint256(rewards[i])))));
        }
        bytes32[] memory nodes = Arrays.sort(leaves);
        for (uint256 width = nodes.length; width > 1; width = (width + 1) / 2) {
            for (uint256 i = 0; i < width; i += 2) {
                nodes[i / 2] = i + 1 < width ? Hashes.commutativeKeccak256(nodes[i], nodes[i + 1]) : nodes[i];
            }
        }
        return nodes[0];
    }

    function _sum(uint96[] memory stakes, uint256 set) private pure returns (uint256 sum) {
        for (uint256 i = 0; i < stakes.length; ++i) {
            if ((set >> i) & 1 == 1) sum += stakes[i];
        }
    }

    function _isZero(uint128[] calldata amounts) private pure returns (bool) {
        for (uint256 i = 0; i < amounts.length; ++i) {
            if (amounts[i] != 0) return false;
        }
        return true;
    }

    function _read(Ballot ballot, bytes memory into) private view {
        assembly ("memory-safe") {
            extcodecopy(ballot, add(into, 32), 1, mload(into))
        }
    }
}

/// @title A revealed vector as code: half the gas of storage to write, and 256 of them can be read in one transaction.
contract Ballot {
    /// @dev The first byte, STOP, keeps anybody from running it.
    constructor(bytes memory rewards) {
        bytes memory code = bytes.concat(hex"00", rewards);
        assembly ("memory-safe") {
            return(add(code, 32), mload(code))
        }
    }
}
