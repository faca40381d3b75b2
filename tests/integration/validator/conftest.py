"""Real contracts on a real node, and members that have started a task."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from covey_api.quantity import duration_seconds
from covey_api.terms import TaskTerms
from covey_chain.anvil import Node, anvil
from covey_chain.client import Chain
from covey_chain.deploy import deploy_all, mint
from covey_chain.types import Role
from covey_chain.wallet import Wallet
from eth_utils import keccak
from validator_consortium import Consortium, Convene
from validator_member import Site

STAKE = 100 * 10**18
BOUNTY = 1000 * 10**18
CONSORTIUM = "numbers"

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
}


@pytest.fixture
def node() -> Iterator[Node]:
    with anvil(tick_seconds=1) as running:
        yield running


@pytest.fixture
async def convene(node: Node, tmp_path: Path) -> AsyncIterator[Convene]:
    """convene(members=3, rounds={...}, …) gives a started task; everything ends with the test."""
    opened: list[Consortium] = []

    async def make(members: int = 3, **changes: dict[str, object]) -> Consortium:
        merged = {
            key: {**value, **changes.get(key, {})} if isinstance(value, dict) else value for key, value in TERMS.items()
        }
        merged["members"] = {"min": members, "max": members}
        terms = TaskTerms.model_validate(merged)
        deployment = await deploy_all(node.url, node.keys[0])
        chain = await Chain.connect(node.url, node.chain_id, deployment.settlement)
        wallets = [Wallet(chain, node.keys[index + 1]) for index in range(members)]
        sites = [
            Site(f"site-{i}", i, node.keys[i + 1], wallet.address, tmp_path / f"site-{i}")
            for i, wallet in enumerate(wallets)
        ]
        for wallet in wallets:
            await mint(node.url, node.keys[0], deployment.token, wallet.address, STAKE + BOUNTY)
        await wallets[0].create_consortium(CONSORTIUM, deployment.token, 1)
        consortium = keccak(text=CONSORTIUM)
        for site, wallet in zip(sites, wallets, strict=True):
            tls_key_hash, certificate = site.prepare()
            roles = Role.PLANNER | Role.TRAINER | Role.VALIDATOR
            await wallet.join(consortium, roles, tls_key_hash, site.endpoint, bytes(32), certificate)
            await wallet.stake_up_to(consortium, deployment.token, STAKE)
        now = await chain.timestamp()
        spec = terms.canonical()
        task_id, _ = await wallets[0].publish(
            consortium=consortium,
            spec=spec,
            spec_hash=keccak(spec),
            token=deployment.token,
            bounty=BOUNTY,
            min_members=members,
            max_members=members,
            rounds=terms.rounds.count,
            accept_by=now + 3600,
            deadline=now + 7200,
            answer_window=duration_seconds(terms.rounds.answer_window),
            salt=keccak(text=str(tmp_path)),
        )
        for site, wallet in zip(sites, wallets, strict=True):
            session = Wallet(chain, "0x" + site.session_key.hex())
            await wallet.fund(session.address, 10**17)
            await wallet.accept(task_id, Role.TRAINER | Role.VALIDATOR, session.address, site.endpoint)
            site.configure(chain, task_id)
        await wallets[0].start(task_id)
        opened.append(Consortium(node, chain, task_id, sites))
        return opened[-1]

    yield make
    for consortium in opened:
        for site in consortium.sites:
            await site.end()
        await consortium.chain.close()
