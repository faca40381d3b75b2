"""What a task has cost and brought its members, from the chain alone: anybody can make it out again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from covey_chain.client import Chain
from covey_chain.events import Event, EventKind
from covey_chain.types import PublishedTask


@dataclass(frozen=True)
class Account:
    """One member in one task; amounts in base units, stake and penalties of the stake token, rewards of the bounty's.

    Attributes:
        stake: snapshot at the start.
        held: penalties that may still come back.
        refunded: what was held and came back.
        slashed: gone for good.
        earned: rewards that were paid out.
        removed: whether its updates count no more.
    """

    stake: int
    held: int = 0
    refunded: int = 0
    slashed: int = 0
    earned: int = 0
    removed: bool = False

    @property
    def net(self) -> int:
        """Earned less slashed, where one token is both."""
        return self.earned - self.slashed

    def after(self, held: int, slashed: int, removed: bool) -> Account:
        """Take in a change of the penalties on chain, which are cumulative."""
        back = max(0, self.held + self.slashed - held - slashed)
        return replace(self, held=held, slashed=slashed, removed=removed, refunded=self.refunded + back)


def tally(stakes: Mapping[str, int], earned: Mapping[str, int], events: Iterable[Event]) -> dict[str, Account]:
    """Member -> its account.

    Args:
        stakes: member -> snapshot.
        earned: member -> rewards paid.
        events: of the task, in order; those that say nothing of penalties are passed over.
    """
    found = {member: Account(stake, earned=earned.get(member, 0)) for member, stake in stakes.items()}
    for event in events:
        if event.kind is EventKind.PENALTY_CHANGED:
            said = event.arguments
            found[said["member"]] = found[said["member"]].after(said["held"], said["slashed"], said["removed"])
    return found


async def accounts(chain: Chain, task: PublishedTask) -> dict[str, Account]:
    """Member -> its account in a task that has started."""
    stakes = {participant.address: participant.stake for participant in await chain.participants(task.task_id)}
    earned = {member: await chain.claimed(task.task_id, member) for member in stakes}
    return tally(stakes, earned, await chain.events(task.block, await chain.block_number(), task.task_id))
