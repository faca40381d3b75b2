"""Real contracts on a real node, and members that have started a task."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from covey_api.terms import TaskTerms
from covey_chain.anvil import Node, anvil
from covey_consortium.convene import BeforeStart
from covey_consortium.convene import convene as convene_task
from eth_utils import keccak
from validator_consortium import Consortium, Convene
from validator_member import Site

TERMS: dict[str, dict[str, object] | str] = {
    "name": "numbers",
    "program": {"image": "example/numbers:1", "entrypoint": "numbers:Program", "config": {}},
    "data": {"schema": "numbers-v1"},
    "members": {"min": 3, "max": 4},
    "rounds": {"count": 4, "localSteps": 1, "deadline": "60s", "minUpdates": 2, "settleEvery": 2},
    "workers": {},
    "compression": {"codec": "SparseLoCo", "density": "1/4"},
    "aggregation": {},
    "validation": {"minHoldout": 10},
    "incentives": {},
}


@pytest.fixture
def node() -> Iterator[Node]:
    with anvil(tick_seconds=1) as running:
        yield running


@pytest.fixture
async def convene(node: Node, tmp_path: Path) -> AsyncIterator[Convene]:
    """convene(members=3, rounds={...}, …) gives a started task; everything ends with the test."""
    opened: list[Consortium] = []

    async def make(
        members: int = 3, before_start: BeforeStart | None = None, **changes: dict[str, object]
    ) -> Consortium:
        merged = {
            key: {**value, **changes.get(key, {})} if isinstance(value, dict) else value for key, value in TERMS.items()
        }
        merged["members"] = {"min": members, "max": members}
        terms = TaskTerms.model_validate(merged)
        sites = [Site(f"site-{i}", node.keys[i + 1], tmp_path / f"site-{i}", index=i) for i in range(members)]
        chain, task_id = await convene_task(node, terms, sites, keccak(text=str(tmp_path)), before_start)
        opened.append(Consortium(node, chain, task_id, sites))
        return opened[-1]

    yield make
    for consortium in opened:
        for site in consortium.sites:
            await site.end()
        await consortium.chain.close()
