"""Who must hear of what has happened on chain, and how soon."""

from __future__ import annotations

from dataclasses import dataclass

from covey_chain.types import TaskStatus

from covey_operator.plan.model import TaskOnChain

LOOK_AGAIN_SECONDS = 5.0  # figures of a Subnet, such as its balance, may lag by so much


@dataclass(frozen=True)
class Interest:
    """What a subscriber wants to hear of: a consortium as `address` sees it, or one task of it."""

    consortium: str
    address: str
    task_id: bytes | None = None


@dataclass(frozen=True)
class News:
    """What the events of some blocks were about: whether members changed, which tasks, who has published."""

    members: bool
    tasks: frozenset[bytes]
    planners: frozenset[str]


def wait_seconds(interest: Interest, news: News, task: TaskOnChain | None) -> float | None:
    """How soon a subscriber must hear of news; None if they are none to it.

    A Subnet acts on members and on what others publish; of all else it shows sums, which may wait. A task acts on what
    is about itself, and on members while it looks for them. Were everything news to all, each transaction of one task
    would cost a pass over a thousand others.

    Args:
        interest: of the subscriber.
        news: of its consortium.
        task: the task that the interest is about, if it is on chain.
    """
    if interest.task_id is None:
        return 0.0 if news.members or news.planners - {interest.address} else LOOK_AGAIN_SECONDS
    looks_for_members = task is None or task.published.status is TaskStatus.OPEN
    return 0.0 if interest.task_id in news.tasks or (news.members and looks_for_members) else None
