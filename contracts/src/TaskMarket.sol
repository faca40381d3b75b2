// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {ExactTransfer} from "./ExactTransfer.sol";
import {MemberRegistry} from "./MemberRegistry.sol";
import {Seats} from "./Seats.sol";

/// @title Tasks, their bounties in escrow, and who takes part.
/// @notice The escrow can leave only to members (rewards under a quorum's signature) and back to the Planner: rewards
/// never above what was settled, refunds never more than the rest.
contract TaskMarket is Seats {
    using SafeERC20 for IERC20;
    using SafeCast for uint256;

    enum Status {
        None,
        Open,
        Started,
        Finished,
        Cancelled
    }

    uint8 private constant PLANNER = 1;
    uint8 private constant TRAINER = 2;
    uint8 private constant VALIDATOR = 4;

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
        uint32 answerWindow; // seconds to answer a roll call
        uint32 appealWindow; // seconds after the last result in which the auditor may still speak
        uint32 fallbackWindow; // seconds after the deadline to commit to rewards, and as many to reveal them (ADR 0013)
        address auditor; // whose word decides appeals; 0: there are no appeals
        bytes32 salt;
    }

    /// Records of a participant under one Merkle root.
    struct Holdout {
        bytes32 root;
        uint32 records; // 0: none was committed
    }

    struct Task {
        Terms terms;
        address planner;
        Status status;
        uint64 publishedBlock;
        uint128 paid; // rewards that have left the escrow
        uint128 refunded; // the Planner's part, whether it has left or waits in `refundDue`
    }

    /// Members of one task: its start writes a slot for each, and its results carry a signature of most.
    uint16 public constant MAX_MEMBERS = 256;
    /// Canonical terms in bytes: every operator of the consortium reads them.
    uint256 public constant MAX_SPEC_BYTES = 65_536;
    /// A day: who is away for longer has to come back by the next roll call.
    uint32 public constant MAX_ANSWER_WINDOW = 86_400;
    /// So long after a task at most what it holds waits for an auditor.
    uint32 public constant MAX_APPEAL_WINDOW = 30 days;
    /// So long the bounty of a task without a last result waits at most for its members to commit, and again to reveal.
    uint32 public constant MAX_FALLBACK_WINDOW = 30 days;
    /// From publication to deadline: for that long a started task holds the stake of its members.
    uint64 public constant MAX_TASK_SECONDS = 2 * 366 days;

    error NotSettlement(address sender);
    error AlreadyPublished(bytes32 taskId);
    error UnknownTask(bytes32 taskId);
    error BadTerms(string field);
    error SpecMismatch(bytes32 expected, bytes32 found);
    error NotOpen(bytes32 taskId, Status status);
    error AlreadyAccepted(address member);
    error AlreadyFull(uint256 members);
    error RolesNotHeld(uint8 asked, uint8 held);
    error NotPlanner(address sender);
    error TooFewMembers(uint256 accepted, uint256 minimum);
    error StartTooEarly(uint64 acceptBy);
    error NotExpired(uint64 deadline);
    error FallbackOpen(bytes32 taskId);
    error RewardExceeded(uint256 paid, uint256 settled);
    error NothingDue(bytes32 taskId);
    error NoAuditor(bytes32 taskId);
    error HoldoutEmpty();
    error AlreadyCommitted(address member);
    error NeverStarted(bytes32 taskId);

    event TaskPublished(
        bytes32 indexed taskId, bytes32 indexed consortium, address indexed planner, bytes32 specHash, bytes spec
    );
    event TaskAccepted(
        bytes32 indexed taskId, address indexed member, uint8 roles, address sessionKey, string endpoint
    );
    event SessionChanged(bytes32 indexed taskId, address indexed member, address sessionKey, string endpoint);
    event HoldoutCommitted(bytes32 indexed taskId, address indexed member, bytes32 root, uint32 records);
    event TaskStarted(bytes32 indexed taskId, uint256 members, uint256 totalStake);
    event TaskCancelled(bytes32 indexed taskId, uint256 refund);
    event TaskFinished(bytes32 indexed taskId, uint256 refund);
    event RefundDeferred(bytes32 indexed taskId, uint256 amount);
    event RefundCollected(bytes32 indexed taskId, uint256 amount);

    MemberRegistry public immutable registry;
    ISettlement public immutable settlement;

    mapping(bytes32 taskId => Task) private _tasks;
    mapping(bytes32 consortium => bytes32[] taskIds) private _tasksOf;
    mapping(bytes32 taskId => mapping(address member => Holdout)) private _holdouts;
    /// Refunds that the token did not deliver; `collectRefund` tries again.
    mapping(bytes32 taskId => uint256) public refundDue;

    /// @param settlement_ where the settlement contract will be: it takes a market only that names it, so that nobody
    /// can come in between.
    constructor(ISettlement settlement_) {
        registry = new MemberRegistry();
        settlement = settlement_;
    }

    modifier onlySettlement() {
        if (msg.sender != address(settlement)) revert NotSettlement(msg.sender);
        _;
    }

    /// @notice The id that `planner` gets for `salt`; known before publication.
    function taskIdOf(address planner, bytes32 salt) public view returns (bytes32) {
        return keccak256(abi.encode(block.chainid, address(this), planner, salt));
    }

    /// @notice Publish a task; its bounty goes into escrow here. The Planner is a member with its stake in place.
    function publish(Terms calldata terms, bytes calldata spec) external nonReentrant returns (bytes32 taskId) {
        registry.requireStaked(terms.consortium, msg.sender);
        uint8 held = registry.rolesOf(terms.consortium, msg.sender);
        if (held & PLANNER == 0) revert RolesNotHeld(PLANNER, held);
        if (keccak256(spec) != terms.specHash) revert SpecMismatch(terms.specHash, keccak256(spec));
        if (terms.minMembers == 0 || terms.minMembers > terms.maxMembers) revert BadTerms("minMembers");
        if (terms.maxMembers > MAX_MEMBERS) revert BadTerms("maxMembers");
        if (terms.bounty > type(uint128).max) revert BadTerms("bounty");
        if (spec.length > MAX_SPEC_BYTES) revert BadTerms("spec");
        if (terms.answerWindow == 0 || terms.answerWindow > MAX_ANSWER_WINDOW) revert BadTerms("answerWindow");
        if (terms.appealWindow > MAX_APPEAL_WINDOW) revert BadTerms("appealWindow");
        if (terms.fallbackWindow == 0 || terms.fallbackWindow > MAX_FALLBACK_WINDOW) revert BadTerms("fallbackWindow");
        if (terms.rounds == 0) revert BadTerms("rounds");
        if (terms.acceptBy < block.timestamp) revert BadTerms("acceptBy");
        if (terms.deadline <= terms.acceptBy || terms.deadline > block.timestamp + MAX_TASK_SECONDS) {
            revert BadTerms("deadline");
        }
        taskId = taskIdOf(msg.sender, terms.salt);
        Task storage task = _tasks[taskId];
        if (task.status != Status.None) revert AlreadyPublished(taskId);
        task.terms = terms;
        task.planner = msg.sender;
        task.status = Status.Open;
        task.publishedBlock = uint64(block.number);
        _tasksOf[terms.consortium].push(taskId);
        emit TaskPublished(taskId, terms.consortium, msg.sender, terms.specHash, spec);
        ExactTransfer.pull(terms.token, terms.bounty);
    }

    /// @notice Take part, with a session key that signs for the member in this task only.
    function accept(bytes32 taskId, uint8 roles, address sessionKey, string calldata endpoint) external {
        Task storage task = _open(taskId);
        registry.requireStaked(task.terms.consortium, msg.sender);
        uint8 held = registry.rolesOf(task.terms.consortium, msg.sender);
        if (roles & (TRAINER | VALIDATOR) == 0 || roles & held != roles) revert RolesNotHeld(roles, held);
        if (_participationOf[taskId][msg.sender].roles != 0) revert AlreadyAccepted(msg.sender);
        if (_participants[taskId].length >= task.terms.maxMembers) revert AlreadyFull(task.terms.maxMembers);
        _enter(taskId, roles, sessionKey, endpoint);
        emit TaskAccepted(taskId, msg.sender, roles, sessionKey, endpoint);
    }

    /// @notice Replace the session key or end point; the old key counts no more from here on. A key of a started task
    /// is not forgotten: what it has signed stays its member's word.
    function setSession(bytes32 taskId, address sessionKey, string calldata endpoint) external {
        // slither-disable-next-line incorrect-equality - a state that only this contract sets, not a balance or a time
        _move(taskId, sessionKey, endpoint, _tasks[taskId].status == Status.Open);
        emit SessionChanged(taskId, msg.sender, sessionKey, endpoint);
    }

    /// @notice Bind the sender to its records, once, before anybody can know which an auditor will want to see. It need
    /// not have accepted yet: a task may start as soon as it has.
    function commitHoldout(bytes32 taskId, bytes32 root, uint32 records) external {
        if (_open(taskId).terms.auditor == address(0)) revert NoAuditor(taskId);
        if (records == 0) revert HoldoutEmpty();
        if (_holdouts[taskId][msg.sender].records != 0) revert AlreadyCommitted(msg.sender);
        _holdouts[taskId][msg.sender] = Holdout(root, records);
        emit HoldoutCommitted(taskId, msg.sender, root, records);
    }

    /// @notice Step back before the task has started.
    function withdrawAcceptance(bytes32 taskId) external {
        _open(taskId);
        _participation(taskId);
        address[] storage list = _participants[taskId];
        uint256 i = 0;
        while (list[i] != msg.sender) ++i;
        _remove(taskId, i);
    }

    /// @notice Freeze participants and their stake, which stays within reach until the deadline. Anybody may start a task that is full or whose acceptance
    /// time has passed; the Planner as soon as the minimum is there. Who has taken out stake since and now holds less
    /// than the consortium's minimum is left out.
    function start(bytes32 taskId) external {
        Task storage task = _open(taskId);
        address[] storage list = _participants[taskId];
        if (msg.sender != task.planner && list.length < task.terms.maxMembers && block.timestamp < task.terms.acceptBy)
        {
            revert StartTooEarly(task.terms.acceptBy);
        }
        uint256 total = 0;
        for (uint256 i = list.length; i > 0; --i) {
            // The registry is this contract's own and calls nobody; at most MAX_MEMBERS calls.
            // slither-disable-next-line calls-loop,reentrancy-no-eth,reentrancy-benign,reentrancy-events
            uint96 held = registry.snapshot(task.terms.consortium, list[i - 1], task.terms.deadline);
            if (held == 0) {
                _remove(taskId, i - 1);
            } else {
                _weigh(taskId, list[i - 1], held);
                total += held;
            }
        }
        if (list.length < task.terms.minMembers) revert TooFewMembers(list.length, task.terms.minMembers);
        _freeze(taskId, total);
        task.status = Status.Started;
        emit TaskStarted(taskId, list.length, total);
    }

    /// @notice The Planner takes back a task that has not started; the whole bounty returns.
    function cancel(bytes32 taskId) external nonReentrant {
        Task storage task = _open(taskId);
        if (msg.sender != task.planner) revert NotPlanner(msg.sender);
        _refund(taskId, task, Status.Cancelled, task.terms.bounty);
    }

    /// @notice End a task whose deadline has passed; what nobody has earned returns to the Planner. A started one waits
    /// for the members, who may settle it by medians.
    function expire(bytes32 taskId) external nonReentrant {
        Task storage task = _tasks[taskId];
        if (task.status != Status.Open && task.status != Status.Started) revert NotOpen(taskId, task.status);
        if (block.timestamp < task.terms.deadline) revert NotExpired(task.terms.deadline);
        if (task.status == Status.Started && settlement.quorumFallback().isOpen(taskId)) revert FallbackOpen(taskId);
        uint256 earned = settlement.totalReward(taskId);
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
    /// @param settled what all members together have earned so far: the limit of what leaves, whatever a tree of
    /// rewards may promise.
    function pay(bytes32 taskId, address member, uint256 amount, uint256 settled) external onlySettlement nonReentrant {
        Task storage task = _tasks[taskId];
        uint256 paid = task.paid + amount;
        if (paid > settled) revert RewardExceeded(paid, settled);
        task.paid = paid.toUint128();
        task.terms.token.safeTransfer(member, amount);
    }

    /// @notice Expel a member for a proven fault, and slash half of its snapshotted stake, rounded up; called by the
    /// settlement contract, once for each member and task. It keeps what it has earned.
    /// @return stake the snapshot, which counts no more.
    function expel(bytes32 taskId, uint8 place, address reporter)
        external
        onlySettlement
        nonReentrant
        returns (uint96 stake)
    {
        Task storage task = _tasks[taskId];
        if (task.status != Status.Started && task.status != Status.Finished) revert NeverStarted(taskId);
        address member;
        (member, stake) = _expel(taskId, place);
        registry.slash(task.terms.consortium, member, (uint256(stake) + 1) / 2, reporter);
    }

    /// @notice Hold and burn a participant's stake for quality, and keep it out of roll calls or let it back in; called
    /// by the settlement contract.
    /// @param before what this task has held so far.
    /// @param held what it holds from now on.
    /// @param burnt more of the stake; nobody gets a share.
    /// @return member whose place it is.
    /// @return stake its snapshot.
    function penalise(bytes32 taskId, uint8 place, uint96 before, uint96 held, uint96 burnt, bool removed)
        external
        onlySettlement
        returns (address member, uint96 stake)
    {
        (member, stake) = _at(taskId, place);
        _bar(taskId, place, removed, stake);
        bytes32 consortium = _tasks[taskId].terms.consortium;
        if (held != before) registry.hold(consortium, member, before, held);
        if (burnt > 0) registry.slash(consortium, member, burnt, address(0));
    }

    /// @notice Send the Planner a refund that its token refused before; anybody may call.
    function collectRefund(bytes32 taskId) external nonReentrant {
        uint256 amount = refundDue[taskId];
        if (amount == 0) revert NothingDue(taskId);
        delete refundDue[taskId];
        emit RefundCollected(taskId, amount);
        _tasks[taskId].terms.token.safeTransfer(_tasks[taskId].planner, amount);
    }

    function taskOf(bytes32 taskId) external view returns (Task memory) {
        return _tasks[taskId];
    }

    /// @notice Tasks of a consortium in the order of publication.
    function tasksOf(bytes32 consortium) external view returns (bytes32[] memory) {
        return _tasksOf[consortium];
    }

    function holdoutOf(bytes32 taskId, address member) external view returns (Holdout memory) {
        return _holdouts[taskId][member];
    }

    function statusOf(bytes32 taskId) external view returns (Status) {
        return _tasks[taskId].status;
    }

    /// @notice The limits that a result must keep.
    function limitsOf(bytes32 taskId) external view returns (Status status, uint64 rounds, uint256 bounty) {
        Task storage task = _tasks[taskId];
        return (task.status, task.terms.rounds, task.terms.bounty);
    }

    /// @notice Whose word decides appeals, and for how many seconds after the last result.
    function auditOf(bytes32 taskId) external view returns (address auditor, uint32 appealWindow) {
        Terms storage terms = _tasks[taskId].terms;
        return (terms.auditor, terms.appealWindow);
    }

    /// @notice Seconds to answer a roll call.
    function answerWindowOf(bytes32 taskId) external view returns (uint32) {
        return _tasks[taskId].terms.answerWindow;
    }

    function _open(bytes32 taskId) private view returns (Task storage task) {
        task = _tasks[taskId];
        if (task.status == Status.None) revert UnknownTask(taskId);
        if (task.status != Status.Open) revert NotOpen(taskId, task.status);
    }

    function _refund(bytes32 taskId, Task storage task, Status to, uint256 amount) private {
        task.status = to;
        task.refunded = amount.toUint128();
        if (to == Status.Cancelled) emit TaskCancelled(taskId, amount);
        else emit TaskFinished(taskId, amount);
        // A Planner that its token refuses to pay must not keep the last result, and with it the rewards, off the chain.
        if (amount > 0 && !task.terms.token.trySafeTransfer(task.planner, amount)) {
            refundDue[taskId] = amount;
            emit RefundDeferred(taskId, amount);
        }
    }
}

/// What the market asks of the settlement contract.
interface ISettlement {
    function totalReward(bytes32 taskId) external view returns (uint256);
    function quorumFallback() external view returns (IFallback);
}

/// What the market asks of the fallback.
interface IFallback {
    function isOpen(bytes32 taskId) external view returns (bool);
}
