// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Penalties} from "./Penalties.sol";
import {TaskMarket} from "./TaskMarket.sol";

/// @title What a member has against a penalty: an auditor who sees records that it committed to before the start.
/// @notice While a task runs, the validators' rule reads appeals and verdicts, and its ledger says what comes of them.
/// What an appeal still protects after the last result is decided here: by the auditor's newest verdict, or, once the
/// appeal window has passed without one, for the member that has appealed.
abstract contract Appeals is Penalties {
    struct Appeal {
        uint40 filedBlock; // 0: not filed
        uint32 epoch; // of the newest verdict; 0: there is none
        bool authentic; // what it says
        uint40 verdictBlock;
    }

    /// What an auditor signs about the records that a member has opened.
    struct AuditVerdict {
        bytes32 taskId;
        address member;
        uint32 epoch; // of the incentive rule, from 1; the findings are of all epochs up to it
        bool authentic;
        bytes32 findingsHash; // keccak256
    }

    /// Findings in bytes: everybody reads them.
    uint256 public constant MAX_FINDINGS_BYTES = 8192;

    error NothingToAppeal(address member);
    error AlreadyAppealed(address member);
    error AppealsOver(bytes32 taskId);
    error FindingsMismatch(bytes32 signed);
    error FindingsTooLong(uint256 length, uint256 maximum);
    error VerdictNotNewer(uint32 epoch, uint32 newest);
    error NothingHeld(address member);
    error NotYetOver(bytes32 taskId, TaskMarket.Status status);
    error AuditorMayAnswer(uint256 until);

    event AppealFiled(bytes32 indexed taskId, address indexed member);
    event Testified(
        bytes32 indexed taskId, address indexed judge, address indexed member, uint32 epoch, bytes findings
    );
    event VerdictPosted(bytes32 indexed taskId, address indexed member, uint32 epoch, bool authentic, bytes findings);

    bytes32 private constant VERDICT_TYPEHASH =
        keccak256("AuditVerdict(bytes32 taskId,address member,uint32 epoch,bool authentic,bytes32 findingsHash)");

    mapping(bytes32 taskId => mapping(address member => Appeal)) private _appeals;

    /// @notice Say that a penalty is wrong; once in a task. The rule asks whether it was in time.
    function appeal(bytes32 taskId) external {
        _auditor(taskId);
        Penalty storage lost = _penalties[taskId][market.placeOf(taskId, msg.sender)];
        if (lost.held == 0 && !lost.removed) revert NothingToAppeal(msg.sender);
        _requireInTime(taskId);
        Appeal storage a = _appeals[taskId][msg.sender];
        if (a.filedBlock != 0) revert AlreadyAppealed(msg.sender);
        a.filedBlock = uint40(block.number);
        emit AppealFiled(taskId, msg.sender);
    }

    /// @notice Put an auditor's verdict on chain; anybody may carry it. A later epoch's replaces it.
    /// @param findings the numbers behind `verdict.findingsHash`; in the event, for all to read, and not looked at here.
    function postVerdict(AuditVerdict calldata verdict, bytes calldata findings, bytes calldata signature) external {
        _requireShort(findings);
        if (keccak256(findings) != verdict.findingsHash) revert FindingsMismatch(verdict.findingsHash);
        address auditor = _auditor(verdict.taskId);
        bytes32 digest = _hashTypedDataV4(keccak256(abi.encode(VERDICT_TYPEHASH, verdict)));
        address signer = _signer(digest, signature, 0);
        if (signer != auditor) revert WrongSigner(auditor, signer);
        // slither-disable-next-line unused-return - asked because it reverts for a stranger
        market.placeOf(verdict.taskId, verdict.member);
        _requireInTime(verdict.taskId);
        Appeal storage a = _appeals[verdict.taskId][verdict.member];
        if (verdict.epoch <= a.epoch) revert VerdictNotNewer(verdict.epoch, a.epoch);
        (a.epoch, a.authentic, a.verdictBlock) = (verdict.epoch, verdict.authentic, uint40(block.number));
        emit VerdictPosted(verdict.taskId, verdict.member, verdict.epoch, verdict.authentic, findings);
    }

    /// @notice Say, as a participant, what the models lose on records that the terms have committed to. Nothing is
    /// decided here: the validators' rule takes medians by stake.
    /// @param epoch of the incentive rule; the findings are of all epochs up to it.
    function testify(bytes32 taskId, address member, uint32 epoch, bytes calldata findings) external {
        _requireShort(findings);
        // slither-disable-next-line unused-return - asked because it reverts for a stranger
        market.placeOf(taskId, msg.sender);
        emit Testified(taskId, msg.sender, member, epoch, findings);
    }

    /// @notice Decide on what a task that is over still holds of a member; anybody may. It is burnt if the auditor's
    /// newest verdict says that the records are not real, and let go if it says that they are; without a verdict, once
    /// the window has passed, it is burnt if the member has not appealed, and let go if it has. A task that has ended
    /// without a last result lets all go.
    function resolveHeld(bytes32 taskId, address member) external {
        uint8 place = market.placeOf(taskId, member);
        Penalty memory before = _penalties[taskId][place];
        if (before.held == 0) revert NothingHeld(member);
        bool burnt = _isForfeit(taskId, member);
        uint96 slashed = before.slashed + (burnt ? before.held : 0);
        _change(taskId, place, before, Penalty(before.removed, false, 0, slashed));
    }

    function appealOf(bytes32 taskId, address member) external view returns (Appeal memory) {
        return _appeals[taskId][member];
    }

    /// @dev When a task has had its last result, in seconds since 1970; 0 if it has not.
    function _endedAt(bytes32 taskId) internal view virtual returns (uint256);

    function _isForfeit(bytes32 taskId, address member) private view returns (bool) {
        TaskMarket.Status status = market.statusOf(taskId);
        if (status != TaskMarket.Status.Finished) revert NotYetOver(taskId, status);
        uint256 endedAt = _endedAt(taskId);
        // slither-disable-next-line incorrect-equality - 0 is no time but says that there was no last result
        if (endedAt == 0) return false;
        Appeal storage a = _appeals[taskId][member];
        if (a.epoch != 0) return !a.authentic;
        uint256 until = _windowEnd(taskId, endedAt);
        if (block.timestamp <= until) revert AuditorMayAnswer(until);
        return a.filedBlock == 0;
    }

    function _requireShort(bytes calldata findings) private pure {
        if (findings.length > MAX_FINDINGS_BYTES) revert FindingsTooLong(findings.length, MAX_FINDINGS_BYTES);
    }

    /// @dev Between the start and the end of the window.
    function _requireInTime(bytes32 taskId) private view {
        TaskMarket.Status status = market.statusOf(taskId);
        if (status == TaskMarket.Status.Started) return;
        uint256 endedAt = _endedAt(taskId);
        // slither-disable-next-line incorrect-equality - 0 is no time but says that there was no last result
        if (endedAt == 0 || block.timestamp > _windowEnd(taskId, endedAt)) revert AppealsOver(taskId);
    }

    function _windowEnd(bytes32 taskId, uint256 endedAt) private view returns (uint256) {
        // slither-disable-next-line unused-return - only the window is asked for
        (, uint32 window) = market.auditOf(taskId);
        return endedAt + window;
    }

    function _auditor(bytes32 taskId) private view returns (address auditor) {
        // slither-disable-next-line unused-return - only the auditor is asked for
        (auditor,) = market.auditOf(taskId);
        if (auditor == address(0)) revert TaskMarket.NoAuditor(taskId);
    }
}
