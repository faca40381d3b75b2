"""Hours of outages, restarts and new histories in the queue's own time: every intent is mined, and mined once."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

from covey_chain.errors import ChainError
from covey_chain.journal import Journal
from covey_chain.queue import Call, TransactionQueue
from covey_chain.signers import KeySigner
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_chain import BASE_FEE, TIP, RestartError, SimulatedChain

CONFIRMATIONS = 4
INTENTS = 3
HOUR = 3600.0
SIGNER = KeySigner("0x" + "4c" * 32)

Event = tuple[float, Callable[[SimulatedChain], None]]


def down(at: float, seconds: float) -> Event:
    def happens(chain: SimulatedChain) -> None:
        chain.down_until = max(chain.down_until, chain.now + seconds)

    return at, happens


def stalled(at: float, seconds: float) -> Event:
    def happens(chain: SimulatedChain) -> None:
        chain.stalled_until = max(chain.stalled_until, chain.now + seconds)

    return at, happens


def new_history(at: float, depth: int, to_pool: bool) -> Event:
    return at, lambda chain: chain.go_back(depth, to_pool)


def forgotten(at: float) -> Event:
    """The node's pool is emptied."""
    return at, lambda chain: chain.pool.clear()


def restarted(at: float) -> Event:
    def happens(chain: SimulatedChain) -> None:
        chain.restart = True

    return at, happens


async def live(chain: SimulatedChain, path: Path) -> None:
    """A process that wants its intents one after the other, whatever befalls it; ends when all are there."""
    for i in range(INTENTS):
        mark = f"0x{i + 1:02x}"

        async def done(mark: str = mark) -> bool:
            return any(one.mark == mark for one in chain.mined())

        while chain.now < 100 * HOUR:
            queue = TransactionQueue(chain, SIGNER, CONFIRMATIONS, Journal(path))  # type: ignore[arg-type]
            try:
                await queue.submit(f"intent-{i}", Call("call", "0x" + "11" * 20, mark), done)
                break
            except (ChainError, RestartError):
                chain.advance(chain.now + 30)  # as the operator does: the intent comes again
                chain.restart = False


def run(*events: Event) -> SimulatedChain:
    chain = SimulatedChain(sorted(events, key=lambda event: event[0]), final=CONFIRMATIONS - 1)
    with (
        tempfile.TemporaryDirectory() as folder,
        patch("covey_chain.queue.time", chain),
        patch("covey_chain.queue.asyncio.sleep", chain.sleep),
    ):
        asyncio.run(live(chain, Path(folder) / "journal.json"))
        chain.advance(chain.now + HOUR)
        assert Journal(Path(folder) / "journal.json").all() == {}
    return chain


def marks(chain: SimulatedChain) -> list[str]:
    return sorted(transaction.mark for transaction in chain.mined())


ALL = [f"0x{i + 1:02x}" for i in range(INTENTS)]


def test_a_quiet_chain_takes_a_confirmation_time_for_each() -> None:
    chain = run()
    assert marks(chain) == ALL
    assert chain.now < HOUR + INTENTS * 5 * (CONFIRMATIONS + 2)


def test_the_node_is_away_for_an_hour_and_has_forgotten_its_pool() -> None:
    assert marks(run(stalled(0, 20), down(3, HOUR), forgotten(4))) == ALL


def test_the_process_starts_anew_while_the_node_is_away() -> None:
    assert marks(run(down(2, HOUR), restarted(2.5), restarted(HOUR), restarted(HOUR + 6))) == ALL


def test_a_chain_without_blocks_for_half_a_day_does_not_drive_fees_up_without_end() -> None:
    chain = run(stalled(0, 12 * HOUR))
    assert marks(chain) == ALL
    first = 2 * BASE_FEE + TIP
    assert 10 * first <= chain.mined()[0].fee <= 12 * first


def test_a_restart_in_the_middle_of_a_new_history() -> None:
    for to_pool in (True, False):
        assert marks(run(new_history(11, 3, to_pool), restarted(11.5), forgotten(12))) == ALL


def event() -> st.SearchStrategy[Any]:
    at = st.floats(0, 400)
    return st.one_of(
        st.builds(down, at, st.sampled_from([1.0, 60.0, HOUR])),
        st.builds(stalled, at, st.sampled_from([20.0, 700.0])),
        st.builds(new_history, at, st.integers(1, CONFIRMATIONS - 1), st.booleans()),
        st.builds(forgotten, at),
        st.builds(restarted, at),
    )


@given(st.lists(event(), max_size=12))
@settings(max_examples=150)
def test_whatever_happens_every_intent_is_mined_once(events: list[Event]) -> None:
    assert marks(run(*events)) == ALL
