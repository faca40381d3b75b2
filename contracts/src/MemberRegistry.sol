// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {ExactTransfer} from "./ExactTransfer.sol";

// Every member's operator reads what another one writes.
uint256 constant MAX_ENDPOINT_BYTES = 255;
uint256 constant MAX_CERTIFICATE_BYTES = 8192;

/// @title Consortia, their members, and the members' stake.
/// @notice A member is an owner address. TLS keys and end points are found here, so that no certificate
/// authority is needed; the certificate itself is only in the event.
contract MemberRegistry is ReentrancyGuardTransient {
    using SafeCast for uint256;
    using SafeERC20 for IERC20;

    /// Open lets anybody join; Vote needs the consent of more than half of the members.
    enum Admission {
        Open,
        Vote
    }

    /// How to reach a member, and its money.
    struct Member {
        uint8 roles; // 1 Planner, 2 Trainer, 4 Validator
        uint64 joinedBlock; // 0: not a member
        uint64 updatedBlock; // where the newest event with the certificate is
        uint96 stake;
        uint96 unbonding;
        uint64 withdrawableAt; // seconds since 1970
        uint64 lockedUntil; // the latest deadline of the tasks that have snapshotted the stake
        uint128 held; // by tasks, for quality: so much of stake and unbonding stake stays, however long it takes
        bytes32 tlsKeyHash; // SHA-256 of the SubjectPublicKeyInfo (RFC 7469)
        bytes32 metadataHash;
        string endpoint;
    }

    struct Consortium {
        string name;
        address creator;
        IERC20 stakeToken;
        uint256 minStake;
        Admission admission;
        uint64 unbondingSeconds;
    }

    /// What the reporter of a fault gets of a slash; nobody gets the rest.
    uint256 public constant REPORTER_SHARE = 10;

    error NameEmpty();
    error ConsortiumExists(bytes32 consortium);
    error UnknownConsortium(bytes32 consortium);
    error AlreadyMember(address member);
    error NotMember(address member);
    error NotAdmitted(address candidate, uint256 votes, uint256 needed);
    error AlreadyVoted(address voter, address candidate);
    error BadRoles(uint8 roles);
    error TlsKeyMissing();
    error TooLong(string field, uint256 length, uint256 maximum);
    error AmountZero();
    error StakeTooLow(uint256 stake, uint256 minimum);
    error NotEnoughStaked(uint256 stake, uint256 asked);
    error StillBonded(uint64 until);
    error StillHeld(uint256 held);
    error NotMarket(address sender);

    event ConsortiumCreated(bytes32 indexed consortium, string name, address creator);
    event AdmissionVoted(bytes32 indexed consortium, address indexed candidate, address indexed voter);
    event MemberJoined(bytes32 indexed consortium, address indexed member, bytes certificate);
    event MemberUpdated(bytes32 indexed consortium, address indexed member, bytes certificate);
    event Staked(bytes32 indexed consortium, address indexed member, uint256 amount);
    event Unstaked(bytes32 indexed consortium, address indexed member, uint256 amount, uint64 withdrawableAt);
    event Withdrawn(bytes32 indexed consortium, address indexed member, uint256 amount);
    event Slashed(bytes32 indexed consortium, address indexed member, uint256 amount, address reporter, uint256 reward);

    /// Deploys the registry; starts tasks, and knows who has lied in one.
    address public immutable market;

    mapping(bytes32 consortium => Consortium) private _consortia;
    mapping(bytes32 consortium => address[]) private _members;
    mapping(bytes32 consortium => mapping(address member => Member)) private _memberOf;
    mapping(bytes32 consortium => mapping(address candidate => uint256)) public admissionVotes;
    mapping(bytes32 consortium => mapping(address candidate => mapping(address voter => bool))) public hasVoted;

    /// Stake that was slashed and is nobody's: there is no way out for it.
    mapping(bytes32 consortium => uint256) public burnt;

    constructor() {
        market = msg.sender;
    }

    modifier onlyMarket() {
        if (msg.sender != market) revert NotMarket(msg.sender);
        _;
    }

    modifier onlyMember(bytes32 consortium) {
        _requireMember(consortium, msg.sender);
        _;
    }

    /// @return id keccak256 of the name.
    function createConsortium(
        string calldata name,
        IERC20 stakeToken,
        uint256 minStake,
        Admission admission,
        uint64 unbondingSeconds
    ) external returns (bytes32 id) {
        if (bytes(name).length == 0) revert NameEmpty();
        id = keccak256(bytes(name));
        if (_consortia[id].creator != address(0)) revert ConsortiumExists(id);
        _consortia[id] = Consortium(name, msg.sender, stakeToken, minStake, admission, unbondingSeconds);
        emit ConsortiumCreated(id, name, msg.sender);
    }

    /// @notice Agree that `candidate` may join.
    function admit(bytes32 consortium, address candidate) external onlyMember(consortium) {
        if (hasVoted[consortium][candidate][msg.sender]) revert AlreadyVoted(msg.sender, candidate);
        hasVoted[consortium][candidate][msg.sender] = true;
        admissionVotes[consortium][candidate] += 1;
        emit AdmissionVoted(consortium, candidate, msg.sender);
    }

    /// @notice Become a member. The first member of a consortium with admission by vote is its creator.
    function join(
        bytes32 consortium,
        uint8 roles,
        bytes32 tlsKeyHash,
        string calldata endpoint,
        bytes32 metadataHash,
        bytes calldata certificate
    ) external {
        Consortium storage c = _consortia[consortium];
        if (c.creator == address(0)) revert UnknownConsortium(consortium);
        Member storage m = _memberOf[consortium][msg.sender];
        if (m.joinedBlock != 0) revert AlreadyMember(msg.sender);
        if (c.admission == Admission.Vote && msg.sender != c.creator) {
            uint256 needed = _members[consortium].length / 2 + 1;
            uint256 votes = admissionVotes[consortium][msg.sender];
            if (votes < needed) revert NotAdmitted(msg.sender, votes, needed);
        }
        m.joinedBlock = uint64(block.number);
        _members[consortium].push(msg.sender);
        _describe(m, roles, tlsKeyHash, endpoint, metadataHash, certificate);
        emit MemberJoined(consortium, msg.sender, certificate);
    }

    /// @notice Change roles, end point or TLS key (rotation).
    function update(
        bytes32 consortium,
        uint8 roles,
        bytes32 tlsKeyHash,
        string calldata endpoint,
        bytes32 metadataHash,
        bytes calldata certificate
    ) external onlyMember(consortium) {
        _describe(_memberOf[consortium][msg.sender], roles, tlsKeyHash, endpoint, metadataHash, certificate);
        emit MemberUpdated(consortium, msg.sender, certificate);
    }

    /// @notice Add `amount` base units of the stake token to the sender's stake.
    function stake(bytes32 consortium, uint256 amount) external nonReentrant onlyMember(consortium) {
        if (amount == 0) revert AmountZero();
        ExactTransfer.pull(_consortia[consortium].stakeToken, amount);
        _memberOf[consortium][msg.sender].stake += amount.toUint96();
        emit Staked(consortium, msg.sender, amount);
    }

    /// @notice Begin to take stake out. It stays here, within reach of a slash, until the unbonding time is over. The
    /// time starts anew for all that is still unbonding, and not before the deadline of the last task that counts on
    /// this stake; tasks that start later do not count on it.
    function unstake(bytes32 consortium, uint256 amount) external onlyMember(consortium) {
        if (amount == 0) revert AmountZero();
        Member storage m = _memberOf[consortium][msg.sender];
        if (amount > m.stake) revert NotEnoughStaked(m.stake, amount);
        // forge-lint: disable-next-line(unsafe-typecast) - not above m.stake
        uint96 leaving = uint96(amount);
        m.stake -= leaving;
        m.unbonding += leaving;
        uint64 from = m.lockedUntil > block.timestamp ? m.lockedUntil : uint64(block.timestamp);
        m.withdrawableAt = from + _consortia[consortium].unbondingSeconds;
        emit Unstaked(consortium, msg.sender, amount, m.withdrawableAt);
    }

    /// @notice Take out everything that has finished unbonding, but for what the stake left behind lacks of what is held.
    function withdraw(bytes32 consortium) external nonReentrant onlyMember(consortium) {
        Member storage m = _memberOf[consortium][msg.sender];
        uint256 amount = m.unbonding;
        if (amount == 0) revert AmountZero();
        if (block.timestamp < m.withdrawableAt) revert StillBonded(m.withdrawableAt);
        uint256 kept = m.held > m.stake ? m.held - m.stake : 0;
        if (kept >= amount) revert StillHeld(m.held);
        // forge-lint: disable-next-line(unsafe-typecast) - below m.unbonding
        m.unbonding = uint96(kept);
        amount -= kept;
        emit Withdrawn(consortium, msg.sender, amount);
        _consortia[consortium].stakeToken.safeTransfer(msg.sender, amount);
    }

    /// @notice Count on a member's stake in a task that starts.
    /// @param until the task's deadline: before it nothing of the stake leaves.
    /// @return held the stake; 0, and nothing is counted on, if it is below the consortium's minimum.
    function snapshot(bytes32 consortium, address member, uint64 until) external onlyMarket returns (uint96 held) {
        Member storage m = _memberOf[consortium][member];
        held = m.stake;
        if (held < _consortia[consortium].minStake) return 0;
        if (held > 0 && m.lockedUntil < until) m.lockedUntil = until;
    }

    /// @notice Change what a task holds of a member's stake; tasks that count on the same stake add up.
    function hold(bytes32 consortium, address member, uint96 before, uint96 now_) external onlyMarket {
        Member storage m = _memberOf[consortium][member];
        m.held = m.held - before + now_;
    }

    /// @notice Take `amount`, or as much as is there, for good: first from the stake, then from what is unbonding.
    /// @param reporter gets a share; 0: nobody does.
    function slash(bytes32 consortium, address member, uint256 amount, address reporter)
        external
        onlyMarket
        nonReentrant
    {
        Member storage m = _memberOf[consortium][member];
        uint96 fromStake = amount < m.stake ? amount.toUint96() : m.stake;
        uint256 rest = amount - fromStake;
        uint96 fromUnbonding = rest < m.unbonding ? rest.toUint96() : m.unbonding;
        m.stake -= fromStake;
        m.unbonding -= fromUnbonding;
        uint256 taken = uint256(fromStake) + fromUnbonding;
        uint256 reward = reporter == address(0) ? 0 : taken * REPORTER_SHARE / 100;
        burnt[consortium] += taken - reward;
        emit Slashed(consortium, member, taken, reporter, reward);
        if (reward > 0) _consortia[consortium].stakeToken.safeTransfer(reporter, reward);
    }

    function consortiumOf(bytes32 consortium) external view returns (Consortium memory) {
        return _consortia[consortium];
    }

    function memberOf(bytes32 consortium, address member) external view returns (Member memory) {
        return _memberOf[consortium][member];
    }

    function members(bytes32 consortium) external view returns (address[] memory) {
        return _members[consortium];
    }

    function isMember(bytes32 consortium, address member) external view returns (bool) {
        return _memberOf[consortium][member].joinedBlock != 0;
    }

    /// @notice Bit field of roles; 0 for who is no member.
    function rolesOf(bytes32 consortium, address member) external view returns (uint8) {
        return _memberOf[consortium][member].roles;
    }

    /// @notice Stake that counts in votes; unbonding stake does not.
    function stakeOf(bytes32 consortium, address member) external view returns (uint96) {
        return _memberOf[consortium][member].stake;
    }

    /// @notice Revert unless `member` belongs to `consortium` and holds its minimum stake.
    function requireStaked(bytes32 consortium, address member) external view {
        _requireMember(consortium, member);
        uint256 held = _memberOf[consortium][member].stake;
        if (held < _consortia[consortium].minStake) revert StakeTooLow(held, _consortia[consortium].minStake);
    }

    function _requireMember(bytes32 consortium, address member) private view {
        if (_consortia[consortium].creator == address(0)) revert UnknownConsortium(consortium);
        // slither-disable-next-line incorrect-equality - 0 is no block but says that there is no such member
        if (_memberOf[consortium][member].joinedBlock == 0) revert NotMember(member);
    }

    function _describe(
        Member storage m,
        uint8 roles,
        bytes32 tlsKeyHash,
        string calldata endpoint,
        bytes32 metadataHash,
        bytes calldata certificate
    ) private {
        if (roles == 0 || roles > 7) revert BadRoles(roles);
        if (tlsKeyHash == 0) revert TlsKeyMissing();
        if (bytes(endpoint).length > MAX_ENDPOINT_BYTES) {
            revert TooLong("endpoint", bytes(endpoint).length, MAX_ENDPOINT_BYTES);
        }
        if (certificate.length > MAX_CERTIFICATE_BYTES) {
            revert TooLong("certificate", certificate.length, MAX_CERTIFICATE_BYTES);
        }
        m.updatedBlock = uint64(block.number);
        m.roles = roles;
        m.tlsKeyHash = tlsKeyHash;
        m.endpoint = endpoint;
        m.metadataHash = metadataHash;
    }
}
