"""The task as the chain has it: terms, participants with snapshotted stake, bounty."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import cached_property
from typing import TypeVar

from covey_api.base import ApiModel
from covey_api.incentives import EnclaveSpec
from covey_api.quantity import duration_seconds, ratio
from covey_api.status import Reason
from covey_api.task import CodecName, CompressionSpec, DgcSpec, Precision
from covey_api.terms import TaskTerms, TermsError
from covey_chain.client import Chain
from covey_chain.errors import RpcUnavailable
from covey_chain.signing import Domain
from covey_chain.types import Participant, PublishedTask, Role, TaskStatus
from covey_exchange.codec import DENSE, DGC, SPARSELOCO, CodecSpec
from covey_exchange.envelope import Peer
from covey_exchange.seed import task_seed
from eth_utils import keccak, to_checksum_address

from covey_validator.errors import TaskFailed
from covey_validator.incentives.attestation import AttestationInvalid, attested
from covey_validator.incentives.book import Book
from covey_validator.incentives.holdout import Commitment
from covey_validator.incentives.sources import Auditor, AuditSets, Source
from covey_validator.incentives.terms import NO_APPEALS, NO_DEADLINE, Rule
from covey_validator.records import Bytes, Bytes32, Signers, Units
from covey_validator.round_types import Setting
from covey_validator.verdict import Ledger

T = TypeVar("T")
DENSE_BITS = {Precision.FP32: 32, Precision.FP16: 16, Precision.INT8: 8}
_log = logging.getLogger(__name__)


class Site(ApiModel):
    """One participant, as stored."""

    place: int
    address: str
    roles: int
    session_key: str
    endpoint: str
    stake: Units
    tls_key_hash: Bytes32
    certificate: Bytes

    @classmethod
    def of(cls, participant: Participant) -> Site:
        """From the chain's record."""
        p = participant
        return cls(
            place=p.place,
            address=p.address,
            roles=int(p.roles),
            session_key=p.session_key,
            endpoint=p.endpoint,
            stake=p.stake,
            tls_key_hash=p.tls_key_hash,
            certificate=p.certificate,
        )

    @property
    def peer(self) -> Peer:
        """As the exchange knows it."""
        return Peer(self.address, self.session_key, self.endpoint, self.tls_key_hash, self.certificate)


class Task(ApiModel):
    """A started task. Stored, so that a restart needs no chain."""

    task_id: Bytes32
    chain_id: int
    contract: str
    spec: Bytes
    token: str
    bounty: Units
    sites: list[Site]

    @classmethod
    def of(cls, published: PublishedTask, participants: list[Participant], domain: Domain) -> Task:
        """From what the chain says; checks the terms.

        Raises:
            TaskFailed: the terms are not those of the hash, or nothing that this version understands.
        """
        if keccak(published.spec) != published.spec_hash:
            raise TaskFailed(Reason.INVALID_SPEC, "the terms on chain do not have the published hash", user_error=True)
        task = cls(
            task_id=published.task_id,
            chain_id=domain.chain_id,
            contract=domain.contract,
            spec=published.spec,
            token=published.token,
            bounty=published.bounty,
            sites=[Site.of(participant) for participant in participants],
        )
        try:
            _ = task.terms
        except TermsError as error:
            raise TaskFailed(Reason.INVALID_SPEC, str(error), user_error=True) from error
        incentives = task.terms.incentives
        auditor = to_checksum_address(incentives.auditor) if incentives.auditor else None
        if (published.auditor, published.appeal_window) != (auditor, incentives.appeal_window_seconds):
            text = "auditor and appeal window on chain are not those of the terms; do not take part in this task"
            raise TaskFailed(Reason.INVALID_SPEC, text, user_error=True)
        if incentives.enclave is not None:
            _require_attested(incentives.enclave, auditor)
        if not task.trainers or not task.validators:
            raise TaskFailed(
                Reason.NOT_ENOUGH_MEMBERS,
                "a task needs at least one participant with the Trainer role and one with the Validator role",
                user_error=True,
            )
        return task

    @cached_property
    def terms(self) -> TaskTerms:
        """The parsed terms."""
        return TaskTerms.parse(self.spec)

    @property
    def domain(self) -> Domain:
        """EIP-712 domain of the contracts."""
        return Domain(self.chain_id, self.contract)

    @property
    def stakes(self) -> dict[str, int]:
        """Participant -> snapshotted stake."""
        return {site.address: site.stake for site in self.sites}

    @property
    def trainers(self) -> frozenset[str]:
        """Participants with the Trainer role."""
        return frozenset(site.address for site in self.sites if site.roles & Role.TRAINER)

    @property
    def validators(self) -> frozenset[str]:
        """Participants with the Validator role."""
        return frozenset(site.address for site in self.sites if site.roles & Role.VALIDATOR)

    @property
    def signers(self) -> Signers:
        """Who may sign results."""
        sites = {site.session_key: site.address for site in self.sites}
        return Signers(self.domain, self.task_id, sites, self.stakes)

    @property
    def codec(self) -> CodecSpec:
        """Codec of the updates."""
        return codec_of(self.terms.compression)

    @property
    def deadline_seconds(self) -> int:
        """How long a round waits for all, for updates and for scores each."""
        return duration_seconds(self.terms.rounds.deadline)

    @property
    def answer_window_seconds(self) -> int:
        """How long a roll call is open, and how long a site waits for others before it calls the roll."""
        return duration_seconds(self.terms.rounds.answer_window)

    @property
    def seed(self) -> int:
        """Seed of the program's initialisation and of the holdout split, the same at every site."""
        return task_seed(self.task_id)

    @property
    def rule(self) -> Rule:
        """Parameters of the incentive rule."""
        terms = self.terms.incentives
        usual = Rule(epoch_rounds=terms.epoch_rounds, shadow_epochs=terms.shadow_epochs)
        if not self.has_evidence:
            return replace(usual, appeal_rounds=NO_APPEALS)
        # An auditor is a person: rounds pass meanwhile, and the contract's window bounds what is left after the last.
        return replace(usual, appeal_rounds=NO_DEADLINE, answer_rounds=NO_DEADLINE) if terms.auditor else usual

    @property
    def has_evidence(self) -> bool:
        """Whether anybody's word on a member's records counts."""
        return self.evidence is not None

    @property
    def evidence(self) -> Source | None:
        """Whose word on members' records counts."""
        if self.audit_sets:
            return AuditSets(self.audit_sets)
        return Auditor() if self.terms.incentives.auditor else None

    @property
    def audit_sets(self) -> tuple[Commitment, ...]:
        """Records that the Planner has committed to with the task."""
        sets = self.terms.incentives.audit_sets or []
        return tuple(Commitment(bytes.fromhex(each.root[2:]), each.records) for each in sets)

    def book(self) -> Book:
        """Everybody's account before the first round."""
        places = {site.address: site.place for site in self.sites}
        rounds = self.terms.rounds
        return Book.open(self.rule, self.stakes, places, self.bounty, rounds.count, self.evidence, rounds.patience)

    def setting(
        self,
        round_number: int,
        site: str,
        base: bytes,
        book: Book,
        session_key: bytes,
    ) -> Setting:
        """What is fixed before a round."""
        rounds = self.terms.rounds
        # The salt is secret without the key and the same after a restart.
        salt = hmac.digest(session_key, self.task_id + round_number.to_bytes(8, "big"), hashlib.sha256)
        margin = ratio(self.terms.validation.margin)
        trainers = self.trainers & book.active
        return Setting(
            task_id=self.task_id,
            round=round_number,
            site=site,
            ledger=Ledger(self.stakes, margin, book),
            trainers=trainers,
            validators=self.validators & book.active,
            # Who was removed must not keep the others from going on.
            min_updates=max(1, min(rounds.min_updates, len(trainers))),
            base=base,
            codec=self.codec.digest,
            salt=salt,
        )


def _require_attested(enclave: EnclaveSpec, auditor: str | None) -> None:
    try:
        key_of = attested(enclave)
    except AttestationInvalid as error:
        raise TaskFailed(Reason.INVALID_SPEC, f"{error}; do not take part in this task", user_error=True) from error
    if key_of != auditor:
        text = f"the enclave's certificates are of the key of {key_of}, the auditor is {auditor}"
        raise TaskFailed(Reason.INVALID_SPEC, f"{text}; do not take part in this task", user_error=True)


async def read_task(chain: Chain, task_id: bytes, site: str) -> Task:
    """Read a started task.

    Raises:
        TaskFailed: unknown, cancelled, finished, not started, or without us.
        RpcUnavailable: no answer from the node.
    """
    published = await chain.task(task_id)
    if published is None:
        raise TaskFailed(Reason.INVALID_SPEC, f"the contract knows no task 0x{task_id.hex()}", user_error=True)
    if published.status == TaskStatus.CANCELLED:
        raise TaskFailed(Reason.CANCELLED_BY_PLANNER, "the task was cancelled or has expired", user_error=True)
    if published.status not in (TaskStatus.STARTED, TaskStatus.FINISHED):
        raise TaskFailed(Reason.NOT_STARTED, "the task has not started on chain")
    participants = await chain.participants(task_id)
    if site not in {participant.address for participant in participants}:
        raise TaskFailed(Reason.STARTED_WITHOUT_US, f"{site} is no participant of the task", user_error=True)
    return Task.of(published, participants, chain.domain)


async def patiently(call: Callable[[], Awaitable[T]], report: Callable[[str], None], *, most_seconds: float = 30) -> T:
    """Repeat a call until the chain answers; what keeps it is reported each time, pauses double up to a limit."""
    pause = 0.5
    while True:
        try:
            return await call()
        except RpcUnavailable as error:
            _log.warning("%s; trying again in %.1f s", error, pause)
            report(str(error))
        await asyncio.sleep(pause)
        pause = min(2 * pause, most_seconds)


def codec_of(compression: CompressionSpec) -> CodecSpec:
    """The codec that terms ask for."""
    density, bits = ratio(compression.density), compression.value_bits
    match compression.codec:
        case CodecName.NONE:
            return CodecSpec(DENSE, value_bits=DENSE_BITS[compression.precision or Precision.FP32])
        case CodecName.DGC:
            dgc = compression.dgc or DgcSpec()
            return CodecSpec(
                DGC,
                density,
                bits,
                decay=ratio(dgc.decay),
                momentum=ratio(dgc.momentum),
                max_norm=ratio(dgc.max_norm) if dgc.max_norm else None,
                warmup_rounds=dgc.warmup_rounds,
            )
        case CodecName.SPARSE_LOCO:
            return CodecSpec(SPARSELOCO, density, bits)
