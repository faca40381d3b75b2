"""The demo's side of the chain: contracts, a consortium, wallets with money, and the books at the end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from covey_chain import signing
from covey_chain.account import Account, accounts
from covey_chain.anvil import FUNDED_KEYS
from covey_chain.client import Chain
from covey_chain.deploy import deploy_all, mint
from covey_chain.errors import NoContract
from covey_chain.types import Participant, PublishedTask, SettlementState
from covey_chain.wallet import Wallet
from covey_dev.place import Name

from covey_demo.members import CONSORTIUM, Member
from covey_demo.state import DemoState

TOKEN = 10**18
MIN_STAKE = 1_000 * TOKEN
FREE_TOKENS = 500_000 * TOKEN
FREE_WEI = 10 * 10**18


@dataclass(frozen=True)
class Books:
    """The end of a task as the chain has it.

    Attributes:
        task: as published.
        settled: the newest result.
        accounts: name of the member -> its money in this task.
        supply: all tokens that were ever made.
        held: tokens of the members and the contracts together.
    """

    task: PublishedTask
    settled: SettlementState
    accounts: dict[str, Account]
    supply: int
    held: int

    @property
    def conserved(self) -> bool:
        """Whether every token is with a member or a contract."""
        return self.supply == self.held

    @property
    def all_claimed(self) -> bool:
        """Whether the last result is there and its rewards are paid to the last unit."""
        claimed = sum(account.earned for account in self.accounts.values())
        return self.settled.last and claimed == self.settled.total_reward


async def open_consortium(
    place: Name, rpc_url: str, chain_id: int, members: Sequence[Member]
) -> tuple[DemoState, bool]:
    """Deploy the contracts and give every member a wallet with money, unless this chain has them already.

    Returns:
        (state, whether it is new).
    """
    known = DemoState.load()
    wanted = (place, rpc_url, {member.name for member in members})
    if known is not None and (known.place, known.rpc_url, set(known.keys)) == wanted and await _alive(known):
        return known, False
    deployed = await deploy_all(rpc_url, FUNDED_KEYS[0])
    keys = {member.name: "0x" + signing.new_key().hex() for member in members}
    state = DemoState(
        place=place,
        rpc_url=rpc_url,
        chain_id=chain_id,
        settlement=deployed.settlement,
        registry=deployed.registry,
        market=deployed.market,
        token=deployed.token,
        keys=keys,
    )
    async with connected(state) as chain:
        bank = Wallet(chain, FUNDED_KEYS[0])
        await bank.create_consortium(CONSORTIUM, state.token, MIN_STAKE)
        for key in keys.values():
            address = address_of(key)
            await bank.fund(address, FREE_WEI)
            await mint(rpc_url, FUNDED_KEYS[0], state.token, address, FREE_TOKENS)
    # Last, so that an interrupted deployment is not taken for a whole one.
    state.save()
    return state, True


@asynccontextmanager
async def connected(state: DemoState) -> AsyncIterator[Chain]:
    """The contracts, for the length of the block."""
    chain = await Chain.connect(state.rpc_url, state.chain_id, state.settlement)
    try:
        yield chain
    finally:
        await chain.close()


def address_of(key: str) -> str:
    """Checksum address of a 0x-hex key."""
    return signing.address_of(signing.private_key(key))


async def books(state: DemoState, task_id: bytes) -> Books:
    """What the chain says about a task and about everybody's money.

    Raises:
        LookupError: there is no such task.
    """
    async with connected(state) as chain:
        task = await chain.task(task_id)
        if task is None:
            raise LookupError(f"task 0x{task_id.hex()} is not on chain")
        owners = {name: address_of(key) for name, key in state.keys.items()}
        of_owner = await accounts(chain, task)
        found = {name: of_owner[owner] for name, owner in owners.items() if owner in of_owner}
        balances = [await chain.token_balance(state.token, owner) for owner in owners.values()]
        contracts = [
            await chain.token_balance(state.token, contract)
            for contract in (state.registry, state.market, state.settlement)
        ]
        supply = int(await chain.call(chain.token(state.token).functions.totalSupply()))
        return Books(task, await chain.settlement(task_id), found, supply, sum(balances) + sum(contracts))


async def participants(state: DemoState, task_id: bytes) -> list[Participant]:
    """Who takes part in a task, with session keys."""
    async with connected(state) as chain:
        return await chain.participants(task_id)


async def _alive(state: DemoState) -> bool:
    """Whether the chain still has the contracts; a new development chain does not."""
    try:
        async with connected(state) as chain:
            return await chain.consortium(CONSORTIUM) is not None
    except NoContract:
        return False
