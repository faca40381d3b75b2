"""What goes into the machine of a round, what comes out of it, and what it remembers."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace
from enum import Enum, StrEnum

from covey_chain.types import Provable, Signable, Step
from covey_exchange import agreement_state as agreement
from covey_exchange.agreement_types import Epoch, Instance, Stage
from covey_exchange.envelope import Message

from covey_validator.incentives.docket import Docket
from covey_validator.incentives.geometry import Gram
from covey_validator.scoring import Scores
from covey_validator.verdict import Ledger, Verdict


class Phase(StrEnum):
    """Where a site stands in a round, for people."""

    COLLECTING = "Collecting"
    AGREEING_UPDATES = "AgreeingUpdates"
    MERGING = "Merging"
    EVALUATING = "Evaluating"
    SCORING = "Scoring"
    AGREEING_SCORES = "AgreeingScores"
    CERTIFYING = "Certifying"
    CERTIFIED = "Certified"


class Deadline(Enum):
    """The three times at which a round stops waiting for all and goes on with those that are there."""

    UPDATES = "updates"
    COMMITS = "commits"
    REVEALS = "reveals"


@dataclass(frozen=True)
class Setting:
    """What is fixed before a round begins.

    Attributes:
        task_id: 32 bytes.
        round: from 1.
        site: our own address.
        ledger: stakes, margin, and everybody's account.
        trainers: sites that may send an update; who was removed may not.
        validators: sites that may score.
        min_updates: a round closes with no fewer.
        base: digest of the model that all start from.
        codec: digest of the codec's parameters.
        salt: 32 secret bytes for the score commitment, the same after a restart.
        epochs: those that have begun, after the first one in which everybody is active (ADR 0008).
        left: epoch of the newest roll call that we have answered.
    """

    task_id: bytes
    round: int
    site: str
    ledger: Ledger
    trainers: frozenset[str]
    validators: frozenset[str]
    min_updates: int
    base: bytes
    codec: bytes
    salt: bytes
    epochs: tuple[Epoch, ...] = ()
    left: int = 0

    def instance(self, step: Step) -> Instance:
        """The agreement of one step."""
        return Instance(self.task_id, self.round, step, self.site, Epoch(0, self.ledger.stakes))


# --- events ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Begin:
    """The round starts here; everything before only replays what was stored."""


@dataclass(frozen=True)
class Trained:
    """The driver has finished the inner steps on `samples` examples."""

    samples: int


@dataclass(frozen=True)
class Heard:
    """A verified message; our own ones come back this way, too, once they are stored."""

    message: Message


@dataclass(frozen=True)
class UpdateArrived:
    """A whole, decodable update (our own included), by its header's message."""

    header: Message


@dataclass(frozen=True)
class Merged:
    """The certified updates are merged.

    Attributes:
        candidate: digest of the model.
        copies: sites whose update repeats what others had made public.
    """

    candidate: bytes
    copies: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Evaluated:
    """Our scores; None when the holdout is too small to judge."""

    scores: Scores | None


@dataclass(frozen=True)
class Weighed:
    """Inner products of what the sites have made of the model, this round included; appeals and verdicts that count."""

    gram: Gram
    docket: Docket


@dataclass(frozen=True)
class ViewTimer:
    """Timer of an agreement's view."""

    step: Step
    stage: Stage
    view: int


@dataclass(frozen=True)
class Elapsed:
    """A timer asked for by `SetTimer` has run out."""

    timer: Deadline | ViewTimer


@dataclass(frozen=True)
class Left:
    """We have answered a roll call: nothing is signed in an epoch before that one."""

    epoch: int


@dataclass(frozen=True)
class EpochBegan:
    """A roll call is over; what was shown in it has been heard before."""

    epoch: Epoch


Event = Begin | Trained | Heard | UpdateArrived | Merged | Evaluated | Weighed | Elapsed | Left | EpochBegan


# --- actions --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Train:
    """Have the driver train from the base; answer `Trained`."""


@dataclass(frozen=True)
class Encode:
    """Encode the trained delta, store it, sign its header, put it on the ring; answer `UpdateArrived`."""

    samples: int


@dataclass(frozen=True)
class Absorb:
    """The delta is too late for this round: keep it in the error feedback."""


@dataclass(frozen=True)
class Send:
    """Sign, store, send to all; answer `Heard`."""

    body: Signable
    attachment: bytes = b""


@dataclass(frozen=True)
class SetTimer:
    """Answer `Elapsed` after the timer's time."""

    timer: Deadline | ViewTimer


@dataclass(frozen=True)
class Fetch:
    """Get an update by digest from whoever has it; answer `UpdateArrived`."""

    digest: bytes


@dataclass(frozen=True)
class Merge:
    """Merge these updates (site -> digest, ascending by address); answer `Merged`."""

    selected: Mapping[str, bytes]


@dataclass(frozen=True)
class Evaluate:
    """Score base, candidate and candidate without each site; answer `Evaluated`."""

    sites: tuple[str, ...]


@dataclass(frozen=True)
class KeepScores:
    """Store our scores: once committed, exactly they must be revealed, also after a restart."""

    scores: bytes


@dataclass(frozen=True)
class Weigh:
    """An epoch of the incentive rule ends: take in the round, accepted or not, and answer `Weighed`.

    Attributes:
        accepted: whether the candidate becomes the model.
        height: block as of which the docket is asked for.
    """

    accepted: bool
    height: int


@dataclass(frozen=True)
class Accuse:
    """A site signed two different messages for one slot: each with its signature."""

    first: tuple[Provable, bytes]
    second: tuple[Provable, bytes]


@dataclass(frozen=True)
class Certified:
    """More than 2/3 of the stake signed the result that we computed, too."""

    verdict: Verdict
    signatures: tuple[Message, ...]


@dataclass(frozen=True)
class CatchUp:
    """More than 2/3 of the stake signed a result that is not ours: take it over from a peer."""


@dataclass(frozen=True)
class Fail:
    """The task cannot go on."""

    reason: str
    message: str


Action = (
    Train
    | Encode
    | Absorb
    | Send
    | SetTimer
    | Fetch
    | Merge
    | Evaluate
    | KeepScores
    | Weigh
    | Accuse
    | Certified
    | CatchUp
    | Fail
)


@dataclass
class State:
    """One site's view of one round. `round.step` never changes the state it is given.

    Attributes:
        updates: digest -> site of every whole update with the right base and codec.
        headers: (site, attempt) -> the first header that we have heard of.
        strangers: sites whose update starts from another model.
        proposed: what we would propose; made out anew only when it changes.
        selections: agreed or proposed value -> the bytes behind it.
        unjudged: values that an agreement waits for.
        wanted: updates that were asked for.
        selected: site -> digest of the certified updates.
        copies: sites whose update repeats what others had made public.
        gram: inner products of what the sites have made of the model.
        docket: appeals and verdicts that count; there with `gram`.
        commits: site -> commitments (one, unless it lies).
        reveals: digest -> message.
        opened: digest -> what a reveal that counts says; read again at every event, it would cost N^3 with N sites.
        results: digest -> site -> message.
        epoch: whose stake counts now.
        left: epoch of the newest roll call that we have answered.
        elapsed: deadlines that have passed.
        done: what was asked of the shell once and must not be asked again.
    """

    setting: Setting
    agreements: dict[Step, agreement.State]
    epoch: Epoch
    left: int = 0
    phase: Phase = Phase.COLLECTING
    began: bool = False
    updates: dict[bytes, str] = field(default_factory=dict)
    headers: dict[tuple[str, int], Message] = field(default_factory=dict)
    strangers: dict[str, bytes] = field(default_factory=dict)
    proposed: dict[Step, dict[str, bytes]] = field(default_factory=dict)
    selections: dict[bytes, bytes] = field(default_factory=dict)
    unjudged: set[tuple[Step, bytes]] = field(default_factory=set)
    wanted: set[bytes] = field(default_factory=set)
    selected: dict[str, bytes] | None = None
    candidate: bytes | None = None
    copies: frozenset[str] = frozenset()
    gram: Gram | None = None
    docket: Docket | None = None
    scores: bytes | None = None
    commits: dict[str, frozenset[bytes]] = field(default_factory=dict)
    reveals: dict[bytes, Message] = field(default_factory=dict)
    opened: dict[bytes, Scores | bytes] = field(default_factory=dict)
    results: dict[bytes, dict[str, Message]] = field(default_factory=dict)
    verdict: Verdict | None = None
    elapsed: set[Deadline] = field(default_factory=set)
    done: set[str] = field(default_factory=set)

    @property
    def active(self) -> Set[str]:
        """Sites whose stake counts now."""
        return self.epoch.weights.keys()

    def epoch_of(self, number: int) -> Epoch | None:
        """An epoch; None if it has not begun for us."""
        known = self.agreements[Step.SCORES]
        return (known.instance.everybody, *known.later)[number] if number <= self.epoch.number else None

    def weight(self, sites: Set[str]) -> int:
        """Stake of some sites together, as far as it counts now."""
        return sum(self.epoch.weights.get(site, 0) for site in sites)

    def copy(self) -> State:
        """A copy that can be changed; inner values are replaced, never changed."""
        return replace(
            self,
            agreements=dict(self.agreements),
            updates=dict(self.updates),
            headers=dict(self.headers),
            strangers=dict(self.strangers),
            proposed=dict(self.proposed),
            selections=dict(self.selections),
            unjudged=set(self.unjudged),
            wanted=set(self.wanted),
            commits=dict(self.commits),
            reveals=dict(self.reveals),
            opened=dict(self.opened),
            results=dict(self.results),
            elapsed=set(self.elapsed),
            done=set(self.done),
        )
