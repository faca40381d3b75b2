"""A certified round as it is stored, served to peers that were away, and shown to auditors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from covey_api.base import ApiModel
from covey_chain import penalties
from covey_chain.merkle import RewardTree
from covey_chain.signing import Domain, SignatureInvalid, digest, recover
from covey_chain.types import RoundResult, ScoreReveal
from eth_utils import keccak, to_checksum_address
from pydantic import BeforeValidator, Field, PlainSerializer, ValidationError

from covey_validator import scoring, selection
from covey_validator.incentives.helping import RoundFacts
from covey_validator.scoring import Scores, ScoresError

Bytes = Annotated[
    bytes,
    BeforeValidator(lambda value: bytes.fromhex(value.removeprefix("0x")) if isinstance(value, str) else value),
    PlainSerializer(lambda value: "0x" + value.hex(), when_used="json"),
]
Bytes32 = Annotated[Bytes, Field(min_length=32, max_length=32)]
# JSON numbers lose digits beyond 2**53, so amounts are decimal strings.
Units = Annotated[int, Field(ge=0), PlainSerializer(str, when_used="json")]


class RecordInvalid(ValueError):
    """A record that its own signatures and hashes do not prove."""


class Reveal(ApiModel):
    """One validator's opened scores."""

    site: str
    salt: Bytes32
    scores: Bytes


class CertifiedRound(ApiModel):
    """Result, signatures, and the bytes behind its hashes.

    Attributes:
        task_id to last: fields of the signed RoundResult.
        signatures: 65 bytes each, ascending by signing address.
        updates: bytes behind `updates_root` (`selection`).
        scores: bytes behind `scores_root` (`selection`).
        reveals: the scores that counted.
        ledger: bytes behind `penalties` (`covey_chain.penalties`).
        rewards: participant -> cumulative reward in base units, the leaves of `reward_root`.
        loss_nano: median holdout loss, for people; not signed.
    """

    task_id: Bytes32
    round: int
    epoch: int
    model_digest: Bytes32
    updates_root: Bytes32
    scores_root: Bytes32
    reward_root: Bytes32
    penalties: Bytes32
    total_reward: Units
    accepted: bool
    last: bool
    signatures: list[Bytes]
    updates: Bytes
    scores: Bytes
    reveals: list[Reveal]
    rewards: dict[str, Units]
    ledger: Bytes = b""
    loss_nano: int | None = None

    @property
    def result(self) -> RoundResult:
        """What was signed."""
        return RoundResult(
            self.task_id,
            self.round,
            self.epoch,
            self.model_digest,
            self.updates_root,
            self.scores_root,
            self.reward_root,
            self.penalties,
            self.total_reward,
            self.accepted,
            self.last,
        )

    @property
    def selected(self) -> dict[str, bytes]:
        """Site -> digest of the updates that counted."""
        return selection.decode(self.updates)

    def facts(self, copies: frozenset[str]) -> RoundFacts:
        """What the incentive rule takes in; which updates are copies, only the updates tell.

        Raises:
            ScoresError: a reveal holds no scores of this round.
        """
        sites = self.selected
        judged = [reveal for reveal in self.reveals if reveal.scores != scoring.ABSTENTION]
        scores = {reveal.site: Scores.decode(reveal.scores, sites) for reveal in judged}
        return RoundFacts(frozenset(sites), scores, copies)

    def to_json(self) -> bytes:
        """JSON in camelCase, hashes and bytes as 0x-hex."""
        return self.model_dump_json(by_alias=True, exclude_none=True).encode()

    @classmethod
    def parse(cls, data: bytes) -> CertifiedRound:
        """Read what `to_json` wrote, without trusting it.

        Raises:
            RecordInvalid: not such a record.
        """
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            raise RecordInvalid(f"no certified round: {error}") from error


@dataclass(frozen=True)
class Signers:
    """Who may sign results of a task.

    Attributes:
        domain: EIP-712 domain.
        task_id: 32 bytes.
        sites: session key address -> site.
        stakes: site -> snapshotted stake.
        epochs: whose stake counts, by epoch, after the first one in which everybody's does.
    """

    domain: Domain
    task_id: bytes
    sites: Mapping[str, str]
    stakes: Mapping[str, int]
    epochs: tuple[Mapping[str, int], ...] = ()

    def verify(self, record: CertifiedRound) -> None:
        """Hold a record to its signatures and hashes.

        Raises:
            RecordInvalid: another task, an epoch that has not begun, no more than 2/3 of its stake signed, or bytes
                behind a hash are not those.
        """
        if record.task_id != self.task_id:
            raise RecordInvalid("certified round of another task")
        signers = {self.sites.get(self._signer(record, signature)) for signature in record.signatures} - {None}
        if record.epoch > len(self.epochs):
            raise RecordInvalid(f"round {record.round} is signed in epoch {record.epoch}, which has not begun here")
        stakes = (self.stakes, *self.epochs)[record.epoch]
        weight = sum(stakes.get(site, 0) for site in signers if site is not None)
        if 3 * weight <= 2 * sum(stakes.values()):
            raise RecordInvalid(f"round {record.round} is signed by no more than 2/3 of the stake")
        self._same(selection.value(record.updates), record.updates_root, "updates")
        self._same(selection.value(record.scores), record.scores_root, "scores")
        if any(reveal.site not in self.stakes for reveal in record.reveals):
            raise RecordInvalid(f"round {record.round} holds the scores of a stranger")
        revealed = {r.site: self._digest(record, r) for r in record.reveals}
        self._same(selection.encode(revealed), record.scores, "reveals")
        try:
            record.facts(frozenset())
        except (ScoresError, KeyError) as error:
            raise RecordInvalid(f"the scores of round {record.round} cannot be read: {error}") from error
        if record.rewards.keys() != self.stakes.keys() or sum(record.rewards.values()) != record.total_reward:
            raise RecordInvalid(f"the rewards of round {record.round} are not those of all participants")
        self._same(RewardTree(record.rewards, self.task_id).root, record.reward_root, "rewards")
        self._same(penalties.digest(record.ledger), record.penalties, "penalties")

    def _digest(self, record: CertifiedRound, reveal: Reveal) -> bytes:
        body = ScoreReveal(record.task_id, record.round, reveal.site, reveal.salt, keccak(reveal.scores))
        return digest(self.domain, body)

    def _signer(self, record: CertifiedRound, signature: bytes) -> str:
        try:
            return recover(self.domain, record.result, signature)
        except SignatureInvalid as error:
            raise RecordInvalid(f"round {record.round}: {error}") from error

    @staticmethod
    def _same(found: bytes, signed: bytes, what: str) -> None:
        if found != signed:
            raise RecordInvalid(f"the {what} are not those that were signed")

    def ascending(self, signatures: Mapping[str, bytes]) -> list[bytes]:
        """Signatures (by site) in the order of the signing addresses, as the contract wants them."""
        keys = {site: key for key, site in self.sites.items()}
        return [signatures[site] for site in sorted(signatures, key=lambda site: keys[site].lower())]

    def by_signer(self, record: CertifiedRound) -> dict[str, bytes]:
        """Signing address -> signature."""
        return {to_checksum_address(self._signer(record, s)): s for s in record.signatures}
