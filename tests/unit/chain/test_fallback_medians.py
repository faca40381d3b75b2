"""Medians and windows of the fallback, without a chain."""

from __future__ import annotations

from dataclasses import replace

import pytest
from covey_chain.fallback import FallbackPhase, FallbackState, commitment, medians, pack, unpack
from hypothesis import given
from hypothesis import strategies as st

SITES = [f"0x{index:040x}" for index in range(1, 6)]
STATE = FallbackState(
    deadline=1000,
    window=60,
    open=True,
    stakes=dict.fromkeys(SITES, 10),
    active=frozenset(SITES),
    committed={},
    revealed={},
    settled_block=None,
)
amounts = st.integers(0, 2**128 - 1)


@given(st.lists(st.tuples(st.integers(1, 10**30), amounts), min_size=1, max_size=5))
def test_the_median_has_less_than_half_below_it_and_at_most_half_above(voices: list[tuple[int, int]]):
    heard = SITES[: len(voices)]
    stakes = {site: stake for site, (stake, _) in zip(heard, voices, strict=True)}
    revealed = {site: (amount,) * len(heard) for site, (_, amount) in zip(heard, voices, strict=True)}
    state = replace(STATE, stakes=stakes, active=frozenset(heard), revealed=revealed)
    found = set(medians(state))
    assert len(found) == 1
    median, total = found.pop(), sum(stakes.values())
    assert 2 * sum(stake for stake, amount in voices if amount < median) < total
    assert 2 * sum(stake for stake, amount in voices if amount > median) <= total


def test_each_place_has_its_own_median_and_who_is_not_active_has_no_say():
    revealed = {SITES[0]: (1, 9), SITES[1]: (2, 8), SITES[2]: (3, 7), SITES[3]: (100, 100)}
    state = replace(STATE, stakes=dict.fromkeys(SITES[:2], 10) | dict.fromkeys(SITES[2:4], 10), revealed=revealed)
    state = replace(state, active=frozenset(SITES[:3]))
    padded = {site: (*rewards, 0, 0) for site, rewards in revealed.items()}
    assert medians(replace(state, revealed=padded))[:2] == (2, 8)
    with pytest.raises(ValueError, match="nothing"):
        medians(STATE)


@pytest.mark.parametrize(
    ("now", "committed", "revealed", "phase"),
    [
        (999, 0, 0, FallbackPhase.WAITING),
        (1000, 0, 0, FallbackPhase.COMMITTING),
        (1059, 5, 0, FallbackPhase.COMMITTING),
        (1060, 0, 0, FallbackPhase.CLOSED),
        (1060, 1, 0, FallbackPhase.REVEALING),
        (1119, 5, 5, FallbackPhase.REVEALING),
        (1120, 5, 2, FallbackPhase.CLOSED),
        (1120, 5, 3, FallbackPhase.SETTLING),
        (10**9, 5, 3, FallbackPhase.SETTLING),
    ],
)
def test_what_can_be_done_when(now: int, committed: int, revealed: int, phase: FallbackPhase):
    said = dict.fromkeys(SITES[:committed], b"\x01" * 32)
    opened = dict.fromkeys(SITES[:revealed], (0,) * 5)
    state = replace(STATE, committed=said, revealed=opened)
    assert state.phase(now) is phase
    assert replace(state, open=False).phase(now) is FallbackPhase.CLOSED


def test_who_is_not_active_makes_no_majority():
    said = dict.fromkeys(SITES, b"\x01" * 32)
    opened = dict.fromkeys(SITES[:3], (0,) * 5)
    state = replace(STATE, committed=said, revealed=opened, active=frozenset(SITES[1:]))
    assert state.phase(1120) is FallbackPhase.CLOSED


@given(st.lists(amounts, max_size=20))
def test_what_is_packed_is_unpacked(rewards: list[int]):
    assert unpack(pack(rewards)) == tuple(rewards)


@pytest.mark.parametrize("wrong", [-1, 2**128])
def test_an_amount_that_no_contract_has_is_not_packed(wrong: int):
    with pytest.raises(OverflowError):
        pack([wrong])


def test_a_commitment_is_bound_to_all_that_it_is_about():
    base = (1, SITES[0], bytes(32), SITES[1], (1, 2), bytes(32))
    others = (2, SITES[2], b"\x01" * 32, SITES[3], (1, 3), b"\x01" * 32)
    changed = {commitment(*base[:i], others[i], *base[i + 1 :]) for i in range(6)}  # type: ignore[arg-type]
    assert len(changed | {commitment(*base)}) == 7
