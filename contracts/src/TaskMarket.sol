// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {MemberRegistry} from "./MemberRegistry.sol";

/// @title Tasks, their bounties in escrow, and who takes part.
/// @notice The escrow can leave only to members (rewards under a quorum's signature) and back to the Planner,
/// and never twice: `paidOut` of a task cannot exceed its bounty.
contract TaskMarket is ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    enum Status {
        None,
        Open,
        Started,
        Finished,
        Cancelled
    }

    struct Terms {
        bytes32 consortium;
        bytes32 specHash; // keccak256 of the canonical terms
        IERC20 token;
        uint256 bounty;
        uint16 minMembers;
        uint16 maxMembers;
        uint64 rounds;
        uint64 acceptBy; // seconds since 1970
        uint64 deadline; // seconds since 1970
        bytes32 salt;
    }

    struct Task {
        Terms terms;
        address planner;
        Status status;
        uint64 publishedBlock;
        uint256 totalStake; // snapshot at start
        uint256 paidOut; // rewards and refunds that have left the escrow
    }

    struct Participant {
        uint8 roles; // 0: not a participant
        address sessionKey;
        uint256 stake; // snapshot at start
        string endpoint;
    }

    error NotSettlement(address sender);
    error SettlementAlreadySet();
    error AlreadyPublished(bytes32 taskId);
    error UnknownTask(bytes32 taskId);
    error BadTerms(string field);
    error SpecMismatch(bytes32 expected, bytes32 found);
    error FeeOnTransfer(uint256 sent, uint256 arrived);
    error NotOpen(bytes32 taskId, Status status);
    error AlreadyAccepted(address member);
    error AlreadyFull(uint256 members);
    error RolesNotHeld(uint8 asked, uint8 held);
    error SessionKeyTaken(address sessionKey);
    error NotParticipant(address member);
    error NotPlanner(address sender);
    error TooFewMembers(uint256 accepted, uint256 minimum);
    error StartTooEarly(uint64 acceptBy);
    error NotExpired(uint64 deadline);
    error EscrowExceeded(uint256 asked, uint256 left);

    event TaskPublished(
        bytes32 indexed taskId, bytes32 indexed consortium, address indexed planner, bytes32 specHash, bytes spec
    );
    event TaskAccepted(
        bytes32 indexed taskId, address indexed member, uint8 roles, address sessionKey, string endpoint
    );
    event SessionChanged(bytes32 indexed taskId, address indexed member, address sessionKey, string endpoint);
    event AcceptanceWithdrawn(bytes32 indexed taskId, address indexed member);
    event TaskStarted(bytes32 indexed taskId, uint256 members, uint256 totalStake);
    event TaskCancelled(bytes32 indexed taskId, uint256 refund);
    event TaskFinished(bytes32 indexed taskId, uint256 refund);

    MemberRegistry public immutable registry;
    address public settlement;
    address private immutable _deployer;

    mapping(bytes32 taskId => Task) private _tasks;
    mapping(bytes32 taskId => address[]) private _participants;
    mapping(bytes32 taskId => mapping(address member => Participant)) private _participantOf;
    mapping(bytes32 taskId => mapping(address sessionKey => address member)) public memberOfSession;

    constructor(MemberRegistry registry_) {
        registry = registry_;
        _deployer = msg.sender;
    }

    /// @notice Name the settlement contract, once; the deployer does it in the same breath.
    function setSettlement(address settlement_) external {
        if (msg.sender != _deployer || settlement != address(0)) revert SettlementAlreadySet();
        settlement = settlement_;
    }

    modifier onlySettlement() {
        if (msg.sender != settlement) revert NotSettlement(msg.sender);
        _;
    }

    /// @notice The id that `planner` gets for `salt`; known before publication.
    function taskIdOf(address planner, bytes32 salt) public view returns (bytes32) {
        return keccak256(abi.encode(block.chainid, address(this), planner, salt));
    }

    /// @notice Publish a task; its bounty goes into escrow here.
    function publish(Terms calldata terms, bytes calldata spec) external nonReentrant returns (bytes32 taskId) {
        registry.requireStaked(terms.consortium, msg.sender);
        if (registry.memberOf(terms.consortium, msg.sender).roles & 1 == 0) revert RolesNotHeld(1, 0);
        if (keccak256(spec) != terms.specHash) revert SpecMismatch(terms.specHash, keccak256(spec));
        if (terms.minMembers == 0 || terms.minMembers > terms.maxMembers) revert BadTerms("minMembers");
        if (terms.rounds == 0) revert BadTerms("rounds");
        if (terms.acceptBy < block.timestamp) revert BadTerms("acceptBy");
        if (terms.deadline <= terms.acceptBy) revert BadTerms("deadline");
        taskId = taskIdOf(msg.sender, terms.salt);
        Task storage task = _tasks[taskId];
        if (task.status != Status.None) revert AlreadyPublished(taskId);
        task.terms = terms;
        task.planner = msg.sender;
        task.status = Status.Open;
        task.publishedBlock = uint64(block.number);
        emit TaskPublished(taskId, terms.consortium, msg.sender, terms.specHash, spec);

        uint256 before = terms.token.balanceOf(address(this));
        terms.token.safeTransferFrom(msg.sender, address(this), terms.bounty);
        uint256 arrived = terms.token.balanceOf(address(this)) - before;
        if (arrived != terms.bounty) revert FeeOnTransfer(terms.bounty, arrived);
    }

    /// @notice Take part, with a session key that signs for the member in this task only.
    function accept(bytes32 taskId, uint8 roles, address sessionKey, string calldata endpoint) external {
        Task storage task = _open(taskId);
        registry.requireStaked(task.terms.consortium, msg.sender);
        uint8 held = registry.memberOf(task.terms.consortium, msg.sender).roles;
        if (roles == 0 || roles & held != roles) revert RolesNotHeld(roles, held);
        if (_participantOf[taskId][msg.sender].roles != 0) revert AlreadyAccepted(msg.sender);
        if (_participants[taskId].length >= task.terms.maxMembers) revert AlreadyFull(task.terms.maxMembers);
        _participants[taskId].push(msg.sender);
        _participantOf[taskId][msg.sender].roles = roles;
        _setSession(taskId, sessionKey, endpoint);
        emit TaskAccepted(taskId, msg.sender, roles, sessionKey, endpoint);
    }

    /// @notice Replace the session key or end point; the old key is worth nothing from here on.
    function setSession(bytes32 taskId, address sessionKey, string calldata endpoint) external {
        if (_participantOf[taskId][msg.sender].roles == 0) revert NotParticipant(msg.sender);
        delete memberOfSession[taskId][_participantOf[taskId][msg.sender].sessionKey];
        _setSession(taskId, sessionKey, endpoint);
        emit SessionChanged(taskId, msg.sender, sessionKey, endpoint);
    }

    /// @notice Step back before the task has started.
    function withdrawAcceptance(bytes32 taskId) external {
        _open(taskId);
        if (_participantOf[taskId][msg.sender].roles == 0) revert NotParticipant(msg.sender);
        delete memberOfSession[taskId][_participantOf[taskId][msg.sender].sessionKey];
        delete _participantOf[taskId][msg.sender];
        address[] storage list = _participants[taskId];
        uint256 last = list.length - 1;
        for (uint256 i = 0; i <= last; ++i) {
            if (list[i] == msg.sender) {
                list[i] = list[last];
                list.pop();
                break;
            }
        }
        emit AcceptanceWithdrawn(taskId, msg.sender);
    }

    /// @notice Freeze participants and their stake. Anybody may start a task that is full or whose acceptance
    /// time has passed; the Planner as soon as the minimum is there.
    function start(bytes32 taskId) external {
        Task storage task = _open(taskId);
        address[] storage list = _participants[taskId];
        uint256 n = list.length;
        if (n < task.terms.minMembers) revert TooFewMembers(n, task.terms.minMembers);
        if (msg.sender != task.planner && n < task.terms.maxMembers && block.timestamp < task.terms.acceptBy) {
            revert StartTooEarly(task.terms.acceptBy);
        }
        uint256 total;
        for (uint256 i = 0; i < n; ++i) {
            uint256 held = registry.stakeOf(task.terms.consortium, list[i]);
            _participantOf[taskId][list[i]].stake = held;
            total += held;
        }
        task.totalStake = total;
        task.status = Status.Started;
        emit TaskStarted(taskId, n, total);
    }

    /// @notice The Planner takes back a task that has not started; the whole bounty returns.
    function cancel(bytes32 taskId) external nonReentrant {
        Task storage task = _open(taskId);
        if (msg.sender != task.planner) revert NotPlanner(msg.sender);
        _refund(taskId, task, Status.Cancelled, task.terms.bounty);
    }

    /// @notice End a task whose deadline has passed; what nobody has earned returns to the Planner.
    function expire(bytes32 taskId) external nonReentrant {
        Task storage task = _tasks[taskId];
        if (task.status != Status.Open && task.status != Status.Started) revert NotOpen(taskId, task.status);
        if (block.timestamp < task.terms.deadline) revert NotExpired(task.terms.deadline);
        uint256 earned = ISettlement(settlement).totalReward(taskId);
        _refund(
            taskId, task, task.status == Status.Open ? Status.Cancelled : Status.Finished, task.terms.bounty - earned
        );
    }

    /// @notice Close a task after its last result; called by the settlement contract.
    function finish(bytes32 taskId, uint256 earned) external onlySettlement nonReentrant {
        Task storage task = _tasks[taskId];
        _refund(taskId, task, Status.Finished, task.terms.bounty - earned);
    }

    /// @notice Pay a reward out of the escrow; called by the settlement contract.
    function pay(bytes32 taskId, address member, uint256 amount) external onlySettlement nonReentrant {
        _release(_tasks[taskId], member, amount);
    }

    function taskOf(bytes32 taskId) external view returns (Task memory) {
        return _tasks[taskId];
    }

    function statusOf(bytes32 taskId) external view returns (Status) {
        return _tasks[taskId].status;
    }

    function bountyOf(bytes32 taskId) external view returns (uint256) {
        return _tasks[taskId].terms.bounty;
    }

    function roundsOf(bytes32 taskId) external view returns (uint64) {
        return _tasks[taskId].terms.rounds;
    }

    function totalStakeOf(bytes32 taskId) external view returns (uint256) {
        return _tasks[taskId].totalStake;
    }

    function participants(bytes32 taskId) external view returns (address[] memory) {
        return _participants[taskId];
    }

    function participantOf(bytes32 taskId, address member) external view returns (Participant memory) {
        return _participantOf[taskId][member];
    }

    /// @notice Snapshotted stake behind a session key; 0 for a key that is nobody's.
    function stakeOfSession(bytes32 taskId, address sessionKey) external view returns (uint256) {
        return _participantOf[taskId][memberOfSession[taskId][sessionKey]].stake;
    }

    function _open(bytes32 taskId) private view returns (Task storage task) {
        task = _tasks[taskId];
        if (task.status == Status.None) revert UnknownTask(taskId);
        if (task.status != Status.Open) revert NotOpen(taskId, task.status);
    }

    function _setSession(bytes32 taskId, address sessionKey, string calldata endpoint) private {
        if (sessionKey == address(0) || memberOfSession[taskId][sessionKey] != address(0)) {
            revert SessionKeyTaken(sessionKey);
        }
        memberOfSession[taskId][sessionKey] = msg.sender;
        Participant storage p = _participantOf[taskId][msg.sender];
        p.sessionKey = sessionKey;
        p.endpoint = endpoint;
    }

    function _refund(bytes32 taskId, Task storage task, Status to, uint256 amount) private {
        task.status = to;
        if (to == Status.Cancelled) emit TaskCancelled(taskId, amount);
        else emit TaskFinished(taskId, amount);
        if (amount > 0) _release(task, task.planner, amount);
    }

    function _release(Task storage task, address to, uint256 amount) private {
        uint256 left = task.terms.bounty - task.paidOut;
        if (amount > left) revert EscrowExceeded(amount, left);
        task.paidOut += amount;
        task.terms.token.safeTransfer(to, amount);
    }
}

/// What the market asks of the settlement contract.
interface ISettlement {
    function totalReward(bytes32 taskId) external view returns (uint256);
}
