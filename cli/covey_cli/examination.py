"""`covey appeal examine`: holds opened records to their commitment, and evaluates the models of a task on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from covey_exchange.manifest import Array, Manifest
from covey_trainer.errors import TrainerError
from covey_trainer.opened import Examiner
from covey_validator import audit
from covey_validator.incentives.cases import Case, EvidenceInvalid, drawn_records, on_set, pack
from covey_validator.incentives.evidence import Finding, weigh
from covey_validator.incentives.holdout import OpeningInvalid, check
from covey_validator.scoring import nano_loss
from covey_validator.task import Task

from covey_cli.contracts import Place
from covey_cli.errors import CommandError
from covey_cli.opening import Openings, case_of
from covey_cli.recorded import recorded


@dataclass(frozen=True)
class Examined:
    """What the records say.

    Attributes:
        member: on whom.
        found: an epoch each.
        findings: the same as a verdict carries it.
        words: the same for people.
    """

    member: str
    found: tuple[Finding, ...]
    findings: bytes
    words: str


async def examine(
    place: Place, task_id: bytes, member: str, opening: Path, state: Path, records: Path | None = None
) -> Examined:
    """Recompute the task from a member's state, and every round's models on the opened records.

    Args:
        place: contracts.
        task_id: 32 bytes.
        member: on whom.
        opening: what `covey appeal open` wrote for the member, or `covey appeal seal` for the task.
        state: some member's state directory of the task, or a copy of it.
        records: folder that gets the opened records, a safetensors file each, to be looked at.

    Raises:
        CommandError: other records than those asked for, or the state does not hold what was signed.
    """
    shown = Openings.read(opening)
    if shown.member not in (None, member):
        raise CommandError(f"the opened records are those of {shown.member}, not of {member}")
    async with recorded(place, task_id, state) as task:
        if member not in task.task.stakes:
            raise CommandError(f"{member} takes no part in this task")
        try:
            if shown.member is None:
                case, opened = _of_set(task.task, member, shown)
            else:
                case = await case_of(task.chain, task_id, member, task.records[-1].round)
                opened = drawn_records(task.task.rule, case, shown.openings)
            examiner = Examiner(task.task.terms, task.task.seed, opened)
        except (EvidenceInvalid, OpeningInvalid, TrainerError) as error:
            raise CommandError(str(error)) from error
        if records is not None:
            _write(records, shown, opened)

        def losses(models: Sequence[Mapping[str, Array]]) -> list[int]:
            return [nano_loss(each.loss_sum, each.examples) for each in examiner.evaluate(models)]

        history = task.history(Manifest.from_arrays(examiner.initial))
        found = await audit.examine(task.task, history, task.records, task.obtain, examiner.initial, member, losses)
    if not found:
        raise CommandError("no epoch has ended yet; come again later")
    claim = weigh(task.task.rule, found, history.book.state.accounts[member].epochs)
    return Examined(member, found, pack(case, found), _words(case, found, len(opened), claim.outcome.value))


def _of_set(task: Task, member: str, shown: Openings) -> tuple[Case, list[bytes]]:
    """What is asked on an audit set, and its records; raises `OpeningInvalid` or `CommandError`."""
    for each in task.audit_sets:
        if len(shown.records) == each.records:
            return on_set(task.task_id, member, 0, each), check(shown.openings, range(each.records), each)
    raise CommandError("the terms of the task commit to no set of so many records")


def _write(folder: Path, shown: Openings, opened: Sequence[bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for each, record in zip(shown.openings, opened, strict=True):
        (folder / f"record-{each.index}.safetensors").write_bytes(record)


def _words(case: Case, found: Sequence[Finding], opened: int, outcome: str) -> str:
    lines = [
        f"{opened} of {case.commitment.records} records, as they were committed to; {case.member}:",
        "",
        "epoch   loss on them   saved by the member   by a typical other one",
        *(f"{f.epoch:5}   {f.loss / 1e9:12.4f}   {f.own / 1e9:19.4f}   {f.others / 1e9:22.4f}" for f in found),
        "",
        f"If the records are real, the rule makes of it: {outcome}.",
    ]
    return "\n".join(lines) + "\n"
