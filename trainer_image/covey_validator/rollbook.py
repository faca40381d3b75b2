"""The epochs of a task that this site has entered, and the roll call that it answered last; on disk."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from covey_api.base import ApiModel
from covey_chain.types import EndedCall, Proposal, RollCall, RoundResult, Signable, Vote, round_of
from covey_exchange.agreement_types import EPOCH_VIEWS, Epoch
from covey_exchange.envelope import Message, Roster

from covey_validator import evidence
from covey_validator.records import Bytes, Units
from covey_validator.store import Store
from covey_validator.watermark import Mark, what_was_lost

FILE = "rollcalls"


class Entered(ApiModel):
    """An epoch as stored, with all that was shown."""

    number: int
    weights: dict[str, Units]
    shown: Bytes
    began_in_round: int


class Answer(ApiModel):
    """Our newest answer."""

    epoch: int
    evidence: Bytes
    evidence_hash: Bytes
    signature: Bytes


class Pages(ApiModel):
    """The file."""

    entered: list[Entered] = []
    answer: Answer | None = None


@dataclass(frozen=True)
class Began:
    """An epoch that has begun.

    Attributes:
        epoch: for the machines.
        shown: all messages that were shown when its roll was called.
        in_round: the round that we were in.
    """

    epoch: Epoch
    shown: tuple[Message, ...]
    in_round: int


class RollBook:
    """What `Pages` says, in the form that the machines take."""

    def __init__(
        self, store: Store, site: str, task_id: bytes, everybody: Epoch, roster: Roster, signed: Mark | None = None
    ) -> None:
        """`signed` is what the other volume knows of our signatures."""
        self._store = store
        self._site = site
        self._task_id = task_id
        self._everybody = everybody
        data = store.get(FILE)
        self._pages = Pages.model_validate_json(data) if data else Pages()
        answered = self._pages.answer.epoch if self._pages.answer else 0
        self.lost = what_was_lost(store, signed or Mark(), answered)
        self.began: list[Began] = []
        for entered in self._pages.entered:
            self._add(entered, evidence.decode({site: entered.shown}, roster))

    @property
    def epochs(self) -> tuple[Epoch, ...]:
        """All after the first one."""
        return tuple(began.epoch for began in self.began)

    @property
    def epoch(self) -> Epoch:
        """The newest one."""
        return self.began[-1].epoch if self.began else self._everybody

    @property
    def left(self) -> int:
        """Epoch of the newest roll call that we have answered, whether we still know what or not."""
        return max(self._pages.answer.epoch if self._pages.answer else 0, self.lost.roll_call)

    def is_lost(self, round_number: int) -> bool:
        """Whether we may have signed in a round and do not know what."""
        return round_number <= self.lost.round

    def votes_from(self, round_number: int) -> int:
        """The first epoch in which we may vote in a round: we have left those before, or may have voted in them."""
        return max(self.left, self.lost.roll_call + 1) if self.is_lost(round_number) else self.left

    def is_silent(self, round_number: int) -> bool:
        """Whether we must not vote in a round before we have answered one more roll call."""
        return self.left < self.votes_from(round_number)

    @property
    def answer(self) -> tuple[RollCall, bytes, bytes] | None:
        """Our newest answer: what we signed, the signature, the evidence; None if there is none or it was lost."""
        a = self._pages.answer
        if a is None or a.epoch < self.left:
            return None
        return RollCall(self._task_id, a.epoch, self._site, a.evidence_hash), a.signature, a.evidence

    @property
    def newest_result(self) -> int:
        """The newest round that was shown to be decided: we must not vote in it, or before it, in a later epoch."""
        return max((evidence.newest_result(began.shown, self.epoch_of) for began in self.began), default=0)

    def epoch_of(self, number: int) -> Epoch | None:
        """An epoch by number."""
        known = (self._everybody, *self.epochs)
        return known[number] if number < len(known) else None

    def enter(self, ended: EndedCall, roster: Roster, round_number: int) -> Began:
        """Enter an epoch; on disk when this returns."""
        shown = evidence.decode(ended.answers, roster)
        entered = Entered(
            number=ended.epoch,
            weights=dict(ended.active),
            shown=evidence.encode(message.envelope for message in shown),
            began_in_round=round_number,
        )
        self._pages.entered.append(entered)
        self._store.put(FILE, self._pages)
        return self._add(entered, shown)

    def leave(self, call: RollCall, signature: bytes, shown: bytes) -> None:
        """Our answer to a roll call; on disk when this returns."""
        answer = Answer(epoch=call.epoch, evidence=shown, evidence_hash=call.evidence_hash, signature=signature)
        self._pages = self._pages.model_copy(update={"answer": answer})
        self._store.put(FILE, self._pages)

    def forbids(self, body: Signable) -> bool:
        """Whether signing this could break our word.

        It belongs to an epoch that we have left by answering a roll call; or to a round of which the state was lost,
        and not to an epoch that began after that.
        """
        about = round_of(body)
        assert about is not None, "a roll call is signed by who answers it"
        match body:
            case Vote() | Proposal():
                return body.view < self.votes_from(about) * EPOCH_VIEWS
            case RoundResult():
                return body.epoch < self.votes_from(about)
            case _:
                return self.is_lost(about)

    def _add(self, entered: Entered, shown: Iterable[Message]) -> Began:
        messages = tuple(shown)
        epoch = Epoch(entered.number, entered.weights, evidence.votes(messages))
        self.began.append(Began(epoch, messages, entered.began_in_round))
        return self.began[-1]
