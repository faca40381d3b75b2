"""The end of the story: whether all have the same model and every token is accounted for, and the table."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

from covey_api.terms import TaskTerms
from covey_chain.account import Account
from covey_dev.errors import DevError
from covey_dev.progress import step
from covey_exchange.manifest import model_digest
from covey_exchange.seed import task_seed
from safetensors.numpy import load_file

from covey_demo import ledger, progress, records
from covey_demo.cluster import Cluster
from covey_demo.ledger import Books
from covey_demo.manifests import DATA_CLAIM, OUTPUT_CLAIM, Object
from covey_demo.members import EXAMPLE, PLANNER
from covey_demo.story import Stage
from covey_demo.table import Entry, Row, look_around, table


class PromiseBrokenError(DevError):
    """Something that must hold at the end of a task does not."""


def report(stage: Stage, tasks: Mapping[str, Object]) -> str:
    """Check the end of a task, and tell it as a page for people.

    Raises:
        PromiseBrokenError: models differ, a reward is not claimed, or tokens were made or lost.
    """
    task_id = bytes.fromhex(progress.status(tasks[PLANNER.name])["taskId"][2:])
    books = asyncio.run(ledger.books(stage.state, task_id))
    digest = check(stage, tasks, books)
    with step("AUC alone, together and pooled"):
        rows = _rows(stage, tasks, books)
    kubeconfigs = {name: str(cluster.kubeconfig) for name, cluster in stage.clusters.items()}
    return "\n".join(
        (
            "",
            table(rows),
            "",
            table([_entry(name, account) for name, account in books.accounts.items()]),
            "",
            f"✓ the same model at all members and on chain: {digest}",
            f"✓ rewards claimed: {books.settled.total_reward / ledger.TOKEN:,.2f} DEV",
            f"✓ {books.supply / ledger.TOKEN:,.0f} DEV were made, and as many are with members and contracts",
            "",
            look_around(kubeconfigs, tasks[PLANNER.name]["metadata"]["name"]),
        )
    )


def check(stage: Stage, tasks: Mapping[str, Object], books: Books) -> str:
    """Hold the end of a task to its promises; returns the model's digest (0x-hex).

    Raises:
        PromiseBrokenError: names the member and both values.
    """
    settled = "0x" + books.settled.model_digest.hex()
    for name, task in tasks.items():
        stored = "0x" + model_digest(load_file(model_file(stage.clusters[name], task))).hex()
        shown = (progress.status(task).get("model") or {}).get("digest")
        if not stored == shown == settled:
            raise PromiseBrokenError(
                f"{name}: the model on its volume has digest {stored}, its status says {shown}, the chain {settled}",
                "Compare the certified results in the state volumes of the members.",
            )
    if not books.all_claimed:
        claimed = {name: account.earned for name, account in books.accounts.items()}
        raise PromiseBrokenError(
            f"of {books.settled.total_reward} base units of reward these were claimed: {claimed}",
            "See the operators' logs.",
        )
    if not books.conserved:
        raise PromiseBrokenError(
            f"{books.supply} base units were made, {books.held} are with members and contracts",
            "Look for the missing transfer in the events of the token.",
        )
    return settled


def model_file(cluster: Cluster, task: Object) -> Path:
    """The finished model on a member's output volume."""
    return cluster.volume(OUTPUT_CLAIM) / str(task["metadata"]["name"]) / "model.safetensors"


def _rows(stage: Stage, tasks: Mapping[str, Object], books: Books) -> list[Row]:
    # The program lies beside the task; torch takes seconds to import, which the other commands need not wait for.
    sys.path.insert(0, str(EXAMPLE))
    from covey_trainer import baseline

    alone, together, pooled = baseline.compare(
        TaskTerms.parse(books.task.spec),
        task_seed(books.task.task_id),
        {name: cluster.volume(DATA_CLAIM) for name, cluster in stage.clusters.items()},
        load_file(model_file(stage.planner, tasks[PLANNER.name])),
        records.test_set(),
    )
    rows = []
    for name, task in tasks.items():
        found = progress.status(task)
        rows.append(
            Row(
                member=name,
                auc_alone=alone[name].metrics["auc"],
                auc_together=together.metrics["auc"],
                auc_pooled=pooled.metrics["auc"],
                bytes_sent=int(found.get("bytesSent") or 0),
                ratio=str(found.get("compressionRatio") or "-"),
                transactions=len(found.get("transactions") or []),
            )
        )
    return rows


def _entry(name: str, a: Account) -> Entry:
    return Entry(name, *map(_tokens, (a.stake, a.held, a.refunded, a.slashed, a.earned, a.net)))


def _tokens(amount: int) -> Decimal:
    return Decimal(amount) / ledger.TOKEN
