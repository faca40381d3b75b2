"""What one account wants of the contracts: each method states an aim, and sends nothing when it has been reached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple

from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from covey_chain.events import EventKind
from covey_chain.fallback import pack
from covey_chain.journal import Journal
from covey_chain.queue import Call
from covey_chain.types import (
    ZERO_ADDRESS,
    AuditVerdict,
    Holdout,
    Proposal,
    Provable,
    Receipt,
    Role,
    RollCall,
    RoundResult,
    TaskStatus,
    UpdateHeader,
    Vote,
)
from covey_chain.writer import Writer, call_of

__all__ = ["Journal", "Wallet"]

_PROOFS: dict[type[Provable], str] = {
    UpdateHeader: "proveEquivocation",
    Proposal: "proveConflictingProposal",
    Vote: "proveConflictingVote",
}


class Wallet(Writer):
    """An account with its aims; built as `Writer` says."""

    # --- consortium ----------------------------------------------------------------------------------------------

    async def create_consortium(
        self, name: str, token: str, min_stake: int, admission: int = 0, unbonding_seconds: int = 604_800
    ) -> Receipt:
        """Make a consortium; nothing happens if the name exists."""

        async def done() -> bool:
            return await self.chain.consortium(name) is not None

        arguments = (name, to_checksum_address(token), min_stake, admission, unbonding_seconds)
        call = call_of(self.chain.registry_contract, "createConsortium", *arguments)
        return await self._queue.submit(f"consortium:{name}", call, done)

    async def admit(self, consortium: bytes, candidate: str) -> Receipt:
        """Agree that `candidate` may join a consortium with admission by vote."""
        address = to_checksum_address(candidate)
        voted = self.chain.registry_contract.functions.hasVoted(consortium, address, self.address)

        async def done() -> bool:
            return bool(await self.chain.call(voted))

        call = call_of(self.chain.registry_contract, "admit", consortium, address)
        return await self._queue.submit(f"admit:{consortium.hex()}:{address}", call, done)

    async def join(
        self,
        consortium: bytes,
        roles: Role,
        tls_key_hash: bytes,
        endpoint: str,
        metadata_hash: bytes,
        certificate: bytes,
    ) -> Receipt:
        """Become a member, or bring the member's entry up to date (TLS key rotation included)."""
        wanted = (roles, tls_key_hash, endpoint, metadata_hash, certificate)

        async def done() -> bool:
            m = await self.chain.member(consortium, self.address)
            return m is not None and (m.roles, m.tls_key_hash, m.endpoint, m.metadata_hash, m.certificate) == wanted

        verb = "join" if await self.chain.member(consortium, self.address) is None else "update"
        call = call_of(self.chain.registry_contract, verb, consortium, int(roles), *wanted[1:])
        return await self._queue.submit(f"{verb}:{consortium.hex()}:{call.data}", call, done)

    async def stake_up_to(self, consortium: bytes, token: str, target: int) -> Receipt:
        """Raise the stake to `target` base units; nothing happens if it is there."""
        missing = target - await self._staked(consortium)
        registry = self.chain.registry_contract

        async def done() -> bool:
            return await self._staked(consortium) >= target

        call = call_of(registry, "stake", consortium, max(0, missing))
        async with self._spending:
            if missing > 0:
                await self._allow(token, registry.address, missing, "stake")
            return await self._queue.submit(f"stake:{consortium.hex()}:{target}", call, done)

    async def unstake_down_to(self, consortium: bytes, target: int) -> Receipt:
        """Lower the stake to `target` base units; what leaves can be withdrawn after the unbonding time."""
        surplus = await self._staked(consortium) - target

        async def done() -> bool:
            return await self._staked(consortium) <= target

        call = call_of(self.chain.registry_contract, "unstake", consortium, max(0, surplus))
        return await self._queue.submit(f"unstake:{consortium.hex()}:{target}", call, done)

    async def withdraw(self, consortium: bytes) -> Receipt:
        """Take out what has finished unbonding."""

        async def done() -> bool:
            member = await self.chain.member(consortium, self.address)
            return member is None or member.unbonding == 0

        call = call_of(self.chain.registry_contract, "withdraw", consortium)
        return await self._queue.submit(f"withdraw:{consortium.hex()}", call, done)

    # --- tasks ---------------------------------------------------------------------------------------------------

    async def publish(
        self,
        *,
        consortium: bytes,
        spec: bytes,
        spec_hash: bytes,
        token: str,
        bounty: int,
        min_members: int,
        max_members: int,
        rounds: int,
        accept_by: int,
        deadline: int,
        answer_window: int,
        salt: bytes,
        appeal_window: int = 0,
        fallback_window: int = 86_400,
        auditor: str = ZERO_ADDRESS,
    ) -> tuple[bytes, Receipt]:
        """Publish a task with its bounty; the same salt never publishes twice. Returns the task id and the receipt."""
        task_id = await self.chain.task_id_of(self.address, salt)
        market = self.chain.market_contract

        async def done() -> bool:
            return await self.chain.task_status(task_id) != TaskStatus.NONE

        terms = (
            consortium, spec_hash, to_checksum_address(token), bounty, min_members, max_members, rounds, accept_by,
            deadline, answer_window, appeal_window, fallback_window, to_checksum_address(auditor), salt,
        )  # fmt: skip
        call = call_of(market, "publish", terms, spec)
        async with self._spending:
            if bounty and not await done():
                await self._allow(token, market.address, bounty, "bounty")
            return task_id, await self._queue.submit(f"publish:0x{task_id.hex()}", call, done)

    async def accept(self, task_id: bytes, roles: Role, session_key: str, endpoint: str) -> Receipt:
        """Take part in a task, or bring session key and end point of the participation up to date."""
        session = to_checksum_address(session_key)
        participation = self.chain.market_contract.functions.participantOf(task_id, self.address)

        async def done() -> bool:
            has_roles, has_session, _, has_endpoint, *_ = await self.chain.call(participation)
            return bool(has_roles) and (has_session, has_endpoint) == (session, endpoint)

        if (await self.chain.call(participation))[0] == 0:
            call = call_of(self.chain.market_contract, "accept", task_id, int(roles), session, endpoint)
        else:
            call = call_of(self.chain.market_contract, "setSession", task_id, session, endpoint)
        return await self._queue.submit(f"{call.name}:0x{task_id.hex()}:{session}:{endpoint}", call, done)

    async def withdraw_acceptance(self, task_id: bytes) -> Receipt:
        """Step back from a task that has not started."""
        participation = self.chain.market_contract.functions.participantOf(task_id, self.address)

        async def done() -> bool:
            return bool((await self.chain.call(participation))[0] == 0)

        return await self._task("withdrawAcceptance", task_id, done)

    async def start(self, task_id: bytes) -> Receipt:
        """Start a task that has its members."""
        return await self._task("start", task_id, self._status_is(task_id, TaskStatus.STARTED, TaskStatus.FINISHED))

    async def cancel(self, task_id: bytes) -> Receipt:
        """Take back an open task with its whole bounty."""
        return await self._task("cancel", task_id, self._status_is(task_id, TaskStatus.CANCELLED))

    async def expire(self, task_id: bytes) -> Receipt:
        """End a task whose deadline has passed."""
        over = self._status_is(task_id, TaskStatus.CANCELLED, TaskStatus.FINISHED)
        return await self._task("expire", task_id, over)

    async def collect_refund(self, task_id: bytes) -> Receipt:
        """Have the Planner paid the refund that its token refused before."""
        due = self.chain.market_contract.functions.refundDue(task_id)

        async def done() -> bool:
            return int(await self.chain.call(due)) == 0

        return await self._task("collectRefund", task_id, done)

    # --- appeals -------------------------------------------------------------------------------------------------

    async def commit_holdout(self, task_id: bytes, holdout: Holdout) -> Receipt:
        """Bind the account to its records in a task that is open; nothing happens if it has committed to the same."""

        async def done() -> bool:
            return await self.chain.holdout_of(task_id, self.address) == holdout

        call = call_of(self.chain.market_contract, "commitHoldout", task_id, holdout.root, holdout.records)
        return await self._queue.submit(f"holdout:0x{task_id.hex()}:{holdout.root.hex()}", call, done)

    async def appeal(self, task_id: bytes) -> Receipt:
        """Appeal against what a task has held of the account's stake, or against its removal; once."""

        async def done() -> bool:
            return (await self.chain.appeal_of(task_id, self.address)).filed_block is not None

        call = call_of(self.chain.settlement_contract, "appeal", task_id)
        return await self._queue.submit(f"appeal:0x{task_id.hex()}", call, done)

    async def post_verdict(self, verdict: AuditVerdict, findings: bytes, signature: bytes) -> Receipt:
        """Carry an auditor's verdict; nothing happens if that of this or a later epoch is there.

        Args:
            verdict: what the auditor has signed.
            findings: the bytes behind `verdict.findings_hash`, at most 8 KiB.
            signature: 65 bytes by the auditor's key.
        """

        async def done() -> bool:
            posted = (await self.chain.appeal_of(verdict.task_id, verdict.member)).verdict
            return posted is not None and posted.epoch >= verdict.epoch

        call = call_of(self.chain.settlement_contract, "postVerdict", astuple(verdict), findings, signature)
        intent = f"verdict:0x{verdict.task_id.hex()}:{verdict.member}:{verdict.epoch}"
        return await self._queue.submit(intent, call, done)

    async def testify(self, task_id: bytes, member: str, epoch: int, findings: bytes) -> Receipt:
        """Say, as a participant, what the models lose on an audit set; nothing happens if it has said the same before.

        Args:
            task_id: 32 bytes.
            member: about whom.
            epoch: of the incentive rule; the findings are of all epochs up to it.
            findings: at most 8 KiB.
        """
        address, published = to_checksum_address(member), await self.chain.task(task_id)
        first = published.block if published is not None else 0

        async def done() -> bool:
            said = (self.address, address, epoch, findings)
            return any(
                event.kind is EventKind.TESTIFIED
                and tuple(event.arguments[name] for name in ("judge", "member", "epoch", "findings")) == said
                for event in await self.chain.events(first, await self.chain.block_number(), task_id)
            )

        call = call_of(self.chain.settlement_contract, "testify", task_id, address, epoch, findings)
        intent = f"testimony:0x{task_id.hex()}:{address}:{epoch}:{keccak(findings).hex()}"
        return await self._queue.submit(intent, call, done)

    async def resolve_held(self, task_id: bytes, member: str) -> Receipt:
        """Have a task that is over burn or let go what it still holds of a member; nothing happens if that is none."""
        address = to_checksum_address(member)

        async def done() -> bool:
            penalty = await self.chain.penalty_of(task_id, address)
            return penalty is not None and penalty.held == 0

        call = call_of(self.chain.settlement_contract, "resolveHeld", task_id, address)
        return await self._queue.submit(f"resolve:0x{task_id.hex()}:{address}", call, done)

    # --- fallback ------------------------------------------------------------------------------------------------

    async def commit_rewards(self, task_id: bytes, site: str, commitment: bytes) -> Receipt:
        """Bind a site, whose wallet or session key this account is, to what it will reveal (`covey_chain.fallback`)."""
        functions = self.chain.fallback_contract.functions

        async def done() -> bool:
            return bytes(await self.chain.call(functions.commitmentOf(task_id, site))) == commitment

        call = call_of(self.chain.fallback_contract, "commit", task_id, site, commitment)
        return await self._queue.submit(f"commit:0x{task_id.hex()}:{site}:{commitment.hex()}", call, done)

    async def reveal_rewards(self, task_id: bytes, site: str, rewards: Sequence[int], salt: bytes) -> Receipt:
        """Open a site's commitment: cumulative rewards in base units, in the order of places."""

        async def done() -> bool:
            return site in (await self.chain.fallback(task_id)).revealed

        call = call_of(self.chain.fallback_contract, "reveal", task_id, site, pack(rewards), salt)
        return await self._queue.submit(f"reveal:0x{task_id.hex()}:{site}", call, done)

    async def settle_by_medians(self, task_id: bytes, settled: Sequence[int], medians: Sequence[int]) -> Receipt:
        """End a task by the medians of what was revealed; nothing happens if it has ended.

        Args:
            task_id: 32 bytes.
            settled: cumulative rewards of the newest result, in the order of places; zeros if there is none.
            medians: as `covey_chain.fallback.medians` finds them.
        """
        over = self._status_is(task_id, TaskStatus.FINISHED)
        call = call_of(self.chain.fallback_contract, "settle", task_id, list(settled), list(medians))
        return await self._queue.submit(f"medians:0x{task_id.hex()}", call, over)

    # --- results and money ---------------------------------------------------------------------------------------

    async def post_result(self, result: RoundResult, penalties: bytes, signatures: Mapping[str, bytes]) -> Receipt:
        """Put a result on chain; nothing happens if that of this or a later round is there.

        Args:
            result: the round's result.
            penalties: the ledger behind `result.penalties`; empty if nobody was ever penalised.
            signatures: signer address -> 65-byte signature; sorted here.
        """

        async def done() -> bool:
            return (await self.chain.settlement(result.task_id)).round >= result.round

        ordered = b"".join(signatures[signer] for signer in sorted(signatures, key=str.lower))
        call = call_of(self.chain.settlement_contract, "postResult", astuple(result), penalties, ordered)
        return await self._queue.submit(f"result:0x{result.task_id.hex()}:{result.round}", call, done)

    async def answer_roll_call(self, call: RollCall, signature: bytes, evidence: bytes) -> Receipt:
        """Carry a participant's answer; nothing happens if it has answered, or the call is over.

        Args:
            call: what the participant has signed.
            signature: 65 bytes by its session key.
            evidence: the bytes behind `call.evidence_hash`.
        """

        async def done() -> bool:
            over = await self.chain.epoch(call.task_id) >= call.epoch
            return over or await self.chain.has_answered(call.task_id, call.epoch, call.site)

        values = (call.task_id, call.epoch, call.site, evidence, signature)
        sent = call_of(self.chain.settlement_contract, "answerRollCall", *values)
        return await self._queue.submit(f"answer:0x{call.task_id.hex()}:{call.epoch}:{call.site}", sent, done)

    async def close_roll_call(self, task_id: bytes, epoch: int) -> Receipt:
        """End the roll call of `epoch` after its window; nothing happens if it is over."""

        async def done() -> bool:
            return await self.chain.epoch(task_id) >= epoch

        call = call_of(self.chain.settlement_contract, "closeRollCall", task_id, epoch)
        return await self._queue.submit(f"close:0x{task_id.hex()}:{epoch}", call, done)

    async def prove_fault(
        self, first: tuple[Provable, bytes], second: tuple[Provable, bytes], reporter: str
    ) -> Receipt:
        """Have a site slashed and expelled that signed two things for one slot; nothing happens if it is expelled.

        Args:
            first: what the site signed, and its signature.
            second: another message of the same kind for the same slot, and its signature.
            reporter: address that gets the reporter's share of the slash.

        Raises:
            ValueError: the two are not of one kind.
        """
        kind, task_id, site = type(first[0]), first[0].task_id, first[0].site
        if type(second[0]) is not kind:
            raise ValueError(f"{kind.__name__} and {type(second[0]).__name__} prove no fault together")
        participation = self.chain.market_contract.functions.participantOf(task_id, site)

        async def done() -> bool:
            return bool((await self.chain.call(participation))[4])

        shown = [value for said in (first, second) for value in (astuple(said[0]), said[1])]
        call = call_of(self.chain.settlement_contract, _PROOFS[kind], *shown, to_checksum_address(reporter))
        return await self._queue.submit(f"fault:0x{task_id.hex()}:{site}", call, done)

    async def claim(self, task_id: bytes, member: str, cumulative: int, proof: Sequence[bytes]) -> Receipt:
        """Have a member's reward paid to the member."""
        address = to_checksum_address(member)

        async def done() -> bool:
            return await self.chain.claimed(task_id, address) >= cumulative

        call = call_of(self.chain.settlement_contract, "claim", task_id, address, cumulative, list(proof))
        return await self._queue.submit(f"claim:0x{task_id.hex()}:{address}:{cumulative}", call, done)

    async def fund(self, address: str, at_least_wei: int) -> Receipt:
        """Bring the native coin of `address` up to `at_least_wei`."""
        target = to_checksum_address(address)
        missing = at_least_wei - await self.chain.native_balance(target)

        async def done() -> bool:
            return await self.chain.native_balance(target) >= at_least_wei

        call = Call(f"the funding of {target}", target, value=max(0, missing))
        return await self._queue.submit(f"fund:{target}:{at_least_wei}", call, done)
