"""Whether this member takes part in a task: the data owner's rules first, then a person, then the default."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase

from covey_api.status import Reason
from covey_api.subnet import Approval, Dataset, Role, SubnetSpec
from covey_api.task import Decision, TaskSpec

WORKING_ROLES = (Role.TRAINER, Role.VALIDATOR)


class Answer(Enum):
    """What this member says to a task."""

    ACCEPT = "Accept"
    DECLINE = "Decline"
    WAIT = "Wait"


@dataclass(frozen=True)
class Decided:
    """An answer with its reason in words, and the data set that will be used."""

    answer: Answer
    reason: Reason
    message: str
    dataset: Dataset | None = None


def decide(spec: TaskSpec, subnet: SubnetSpec, subnet_name: str, planner: str, own: str) -> Decided:
    """Answer a task.

    A broken rule of the data owner declines for good, also when a person said Join: who wants to join changes the
    rule. A Planner's own site joins without being asked.

    Args:
        spec: the task's terms and the local `participation`.
        subnet: the member's own rules and data sets.
        subnet_name: for messages.
        planner: owner address of the Planner.
        own: this member's owner address.
    """
    where = f'Subnet "{subnet_name}"'
    asked = spec.participation
    if asked.decision is Decision.DECLINE:
        return Decided(Answer.DECLINE, Reason.DECLINED_BY_PERSON, "spec.participation.decision is Decline.")
    if not any(role in subnet.roles for role in WORKING_ROLES):
        return Decided(
            Answer.DECLINE, Reason.NOT_A_TRAINER, f"{where} has neither the role Trainer nor the role Validator."
        )
    broken = _broken_rule(spec, subnet, where, planner, own)
    if broken is not None:
        return broken
    dataset = _dataset(spec, subnet, where)
    if isinstance(dataset, Decided):
        return dataset
    if asked.decision is Decision.JOIN:
        return Decided(Answer.ACCEPT, Reason.ACCEPTED_BY_PERSON, "spec.participation.decision is Join.", dataset)
    if planner.lower() == own.lower():
        return Decided(Answer.ACCEPT, Reason.ACCEPTED_BY_POLICY, "The task is this member's own.", dataset)
    if subnet.policy.approval is Approval.AUTOMATIC:
        return Decided(Answer.ACCEPT, Reason.ACCEPTED_BY_POLICY, f"The task fits the policy of {where}.", dataset)
    return Decided(
        Answer.WAIT,
        Reason.AWAITING_APPROVAL,
        f"The task fits the policy of {where}; a person decides: set spec.participation.decision to Join or Decline.",
        dataset,
    )


def _broken_rule(spec: TaskSpec, subnet: SubnetSpec, where: str, planner: str, own: str) -> Decided | None:
    policy, image = subnet.policy, spec.program.image
    if policy.require_digest and "@sha256:" not in image:
        return _decline(
            Reason.IMAGE_NOT_PINNED,
            f'Image "{image}" is not pinned by digest. Ask the Planner for name@sha256:…, or set '
            f"spec.policy.requireDigest of {where} to false.",
        )
    if policy.images and not any(fnmatchcase(image, pattern) for pattern in policy.images):
        return _decline(
            Reason.IMAGE_NOT_ALLOWED,
            f'Image "{image}" matches none of spec.policy.images of {where}: {", ".join(policy.images)}. '
            "Review the image and add it there to allow it.",
        )
    sponsors = {sponsor.lower() for sponsor in policy.sponsors} | {own.lower()}
    if policy.sponsors and planner.lower() not in sponsors:
        return _decline(
            Reason.SPONSOR_NOT_ALLOWED, f"Planner {planner} is not in spec.policy.sponsors of {where}; add it to allow."
        )
    if policy.max_rounds is not None and spec.rounds.count > policy.max_rounds:
        return _decline(
            Reason.TOO_MANY_ROUNDS,
            f"The task asks for {spec.rounds.count} rounds; spec.policy.maxRounds of {where} is {policy.max_rounds}.",
        )
    workers = spec.local_workers
    if policy.max_workers is not None and workers > policy.max_workers:
        return _decline(
            Reason.TOO_MANY_WORKERS,
            f"The task asks for {workers} workers; spec.policy.maxWorkers of {where} is {policy.max_workers}. "
            "spec.participation.workers sets another number here.",
        )
    return None


def _decline(reason: Reason, message: str) -> Decided:
    return Decided(Answer.DECLINE, reason, message)


def _dataset(spec: TaskSpec, subnet: SubnetSpec, where: str) -> Dataset | Decided:
    schema, wanted = spec.data.schema_name, spec.participation.dataset
    matching = [dataset for dataset in subnet.datasets if dataset.schema_name == schema]
    if not matching:
        known = ", ".join(sorted({dataset.schema_name for dataset in subnet.datasets})) or "none"
        return _decline(
            Reason.UNKNOWN_DATA_SCHEMA,
            f'No data set of {where} follows schema "{schema}" (known: {known}). Add one to spec.datasets, or correct '
            "spec.data.schema in a new task.",
        )
    if wanted is not None:
        for dataset in matching:
            if dataset.name == wanted:
                return dataset
    elif len(matching) == 1:
        return matching[0]
    names = ", ".join(dataset.name for dataset in matching)
    asked = f'Data set "{wanted}" does not follow' if wanted is not None else "Several data sets follow"
    return Decided(
        Answer.WAIT,
        Reason.DATASET_AMBIGUOUS,
        f'{asked} schema "{schema}"; choose spec.participation.dataset among: {names}.',
    )
