"""A task's plan while it is being made: conditions, shown figures, children and the next appointment."""

from __future__ import annotations

from covey_api.quantity import token_words
from covey_api.status import Reason
from covey_api.task import ModelStatus, Phase, TaskStatus, TransactionStatus

from covey_operator.kinds import Object, deleting, held
from covey_operator.plan import names
from covey_operator.plan.cluster import remains
from covey_operator.plan.model import Action, Own, Problem, Task, TaskOnChain, TaskPlan, TaskSeen
from covey_operator.plan.report import Progress, Record, Standing
from covey_operator.plan.status import (
    ACCEPTED,
    CLUSTER_READY,
    FAILED,
    GOOD_STANDING,
    PUBLISHED,
    SETTLED,
    SUCCEEDED,
    TASK_TYPES,
    TRAINING,
    Conditions,
    duration_words,
    number_words,
    phase,
)

MAX_TRANSACTIONS = 32
MAX_METRICS = 32


class TaskDraft:
    """Collects what one pass decides; `plan` closes it."""

    def __init__(self, task: Task, seen: TaskSeen) -> None:
        self.task = task
        self.seen = seen
        self.conditions = Conditions(TASK_TYPES, task.generation, task.conditions, seen.now)
        self.conditions.false(CLUSTER_READY, Reason.NOT_STARTED, "The task has not started here.")
        self.conditions.false(TRAINING, Reason.NOT_STARTED, "The task has not started here.")
        self.conditions.unknown(GOOD_STANDING, Reason.NOT_STARTED, "No epoch has been judged here.")
        self.conditions.false(SETTLED, Reason.NOT_STARTED, "Nothing to settle yet.")
        self.conditions.unknown(SUCCEEDED, Reason.PENDING, "The task has not ended.")
        self.conditions.false(FAILED, Reason.AS_EXPECTED, "Nothing has failed for good.")
        self.message: str | None = None
        self.watch_head: str | None = None
        self.sponsoring = False  # our task, in which we do not train
        self._status: dict[str, object] = {}
        self._apply: list[Object] = []
        self._delete: list[Object] = []
        self._wake_seconds: float | None = None

    @property
    def task_id_hex(self) -> str | None:
        """The task id as people read it."""
        return "0x" + self.seen.task_id.hex() if self.seen.task_id is not None else None

    def apply(self, *objects: Object) -> None:
        """Children that should be as given."""
        self._apply.extend(objects)

    def delete(self, *objects: Object) -> None:
        """Children that should go; those that are going already are left, unless it is us who keep them."""
        self._delete.extend(obj for obj in objects if not deleting(obj) or held(obj, names.HOLD))

    def wake_in(self, seconds: float) -> None:
        """Look again after this time at the latest."""
        self._wake_seconds = min(seconds, self._wake_seconds) if self._wake_seconds is not None else seconds

    def set(self, **fields: object) -> None:
        """Fields of the status; None leaves a field out."""
        self._status.update({name: value for name, value in fields.items() if value is not None})

    def members(self, text: str) -> None:
        """Members, for people."""
        self.set(members=text)

    def stop(self, reason: Reason, message: str) -> None:
        """The task cannot be published now, and here is why."""
        self.conditions.false(PUBLISHED, reason, message)
        self.conditions.unknown(ACCEPTED, Reason.PENDING, "The task is not published.")
        self.message = message

    def published(self) -> None:
        """The task is on chain; who reads its terms should know what they mean for members and Planner."""
        spec = self.task.spec
        warnings = spec.incentives.warnings(spec.rounds.count) if spec is not None else []
        reason = Reason.SHORT_TASK if warnings else Reason.AS_EXPECTED
        self.conditions.true(PUBLISHED, reason, " ".join([f"The task is on chain as {self.task_id_hex}.", *warnings]))

    def show_chain(self, on_chain: TaskOnChain, own: Own) -> None:
        """What the chain says about the task: id, Planner, reward so far, our transactions."""
        published = on_chain.published
        mine = [
            TransactionStatus(purpose=purpose, hash=tx_hash)
            for purpose, member, tx_hash in on_chain.transactions
            if member.lower() == own.address.lower()
        ]
        claimed = on_chain.claimed.get(own.address, 0)
        settled_round = on_chain.settlement.round if on_chain.settlement is not None else 0
        self.set(
            planner=published.planner,
            transactions=mine[-MAX_TRANSACTIONS:],
            claimed=token_words(claimed, on_chain.decimals) if claimed else None,
            round=settled_round or None,
            rounds=f"{settled_round}/{published.rounds}" if settled_round else None,
        )

    def show_progress(self, progress: Progress, decimals: int | None = None) -> None:
        """What the validator says about the rounds; `decimals` of the bounty's token where they are known.

        It says 0 rounds until it has read the task.
        """
        ratio = None
        if progress.raw_bytes and progress.payload_bytes:
            ratio = f"{progress.raw_bytes / progress.payload_bytes:.0f}x"
        rounds = None
        if progress.round is not None and progress.rounds:
            rounds = f"{progress.round}/{progress.rounds}"
        members = None
        if progress.rounds and progress.peers is not None and progress.peers_connected is not None:
            members = f"{progress.peers_connected + 1}/{progress.peers + 1}"
        self.set(
            round=progress.round,
            rounds=rounds,
            members=members,
            loss=number_words(progress.loss) if progress.loss is not None else None,
            metric=self._chosen_metric(progress),
            metrics={name: number_words(value) for name, value in sorted(progress.metrics.items())[:MAX_METRICS]},
            bytes_sent=progress.bytes_sent,
            compression_ratio=ratio,
            reward=token_words(int(progress.reward), decimals) if progress.reward and decimals is not None else None,
            eta=duration_words(progress.eta_seconds) if progress.eta_seconds is not None else None,
        )
        if progress.standing is not None:
            self._show_standing(progress.standing)
        known = self._status.get("transactions", [])
        assert isinstance(known, list)
        hashes = {transaction.hash for transaction in known}
        sent = [
            TransactionStatus(purpose=sent.purpose, hash=sent.hash)
            for sent in progress.transactions
            if sent.hash not in hashes
        ]
        self.set(transactions=[*known, *sent][-MAX_TRANSACTIONS:])

    def _show_standing(self, standing: Standing) -> None:
        self.set(
            held=standing.held_share if int(standing.held) else None,
            slashed=standing.slashed_share if int(standing.slashed) else None,
        )
        words = f"{standing.words[:1].upper()}{standing.words[1:]}."
        if standing.removed:
            self.conditions.false(GOOD_STANDING, Reason.REMOVED_FOR_QUALITY, words)
        elif int(standing.held):
            self.conditions.false(GOOD_STANDING, Reason.STAKE_HELD, words)
        elif int(standing.slashed):
            self.conditions.false(GOOD_STANDING, Reason.STAKE_SLASHED, words)
        else:
            self.conditions.true(GOOD_STANDING, Reason.HELPS_AS_OTHERS_DO, words)

    def _chosen_metric(self, progress: Progress) -> str | None:
        """The metric that the task names, for people; the loss is shown anyway."""
        name = self.task.spec.validation.metric if self.task.spec is not None else None
        return f"{name}={number_words(progress.metrics[name])}"[:253] if name in progress.metrics else None

    def show_model(self, digest: str, location: str) -> None:
        """The finished model."""
        self.set(model=ModelStatus(digest=digest, location=location))

    def record(self, record: Record) -> None:
        """Keep how the task ended, in a ConfigMap."""
        self.apply(record.config_map(self.task.name, self.task.namespace))

    def fail(self, reason: Reason, message: str, record: Record | None = None) -> TaskPlan:
        """The task has ended badly, for good."""
        self.delete(*remains(self.seen.children, keep_completed=True), *self.seen.children.services.values())
        self.conditions.true(FAILED, reason, message)
        self.conditions.false(SUCCEEDED, reason, message)
        self.conditions.false(CLUSTER_READY, reason, "The task has ended.")
        self.conditions.false(TRAINING, reason, "The task has ended.")
        self.message = message
        if record is not None or self.seen.record is None:
            self.record(record or Record(outcome="Failed", reason=reason, message=message))
        return self.plan(wake_seconds=self.seen.around.resync_seconds)

    def plan(
        self, action: Action | None = None, wake_seconds: float | None = None, problem: Problem | None = None
    ) -> TaskPlan:
        """Close the draft."""
        if wake_seconds is not None:
            self.wake_in(wake_seconds)
        suspended = self.task.spec is not None and self.task.spec.suspend
        word: Phase = phase(self.conditions, suspended, self.sponsoring)
        if word in (Phase.SUCCEEDED, Phase.FAILED):
            self._status.pop("eta", None)
        status = TaskStatus.model_validate(
            {
                "observed_generation": self.task.generation,
                "phase": word,
                "conditions": self.conditions.build(),
                "task_id": self.task_id_hex,
                "message": self.message[:4096] if self.message else None,
                **self._status,
            }
        )
        return TaskPlan(
            status=status,
            action=action,
            apply=tuple(self._apply),
            delete=tuple(self._delete),
            wake_seconds=self._wake_seconds if self._wake_seconds is not None else self.seen.around.resync_seconds,
            watch_head=self.watch_head,
            problem=problem,
        )
