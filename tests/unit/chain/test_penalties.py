from dataclasses import replace

import pytest
from covey_chain import penalties
from covey_chain.penalties import PenaltiesInvalid
from covey_chain.types import Penalty
from eth_utils.crypto import keccak
from hypothesis import given
from hypothesis import strategies as st

AMOUNTS = st.integers(0, 2**96 - 1)
LEDGERS = st.lists(
    st.builds(Penalty, st.integers(0, 255), st.booleans(), st.booleans(), AMOUNTS, AMOUNTS),
    unique_by=lambda penalty: penalty.place,
).map(lambda found: sorted(found, key=lambda penalty: penalty.place))


@given(LEDGERS)
def test_a_ledger_is_what_was_packed(ledger: list[Penalty]) -> None:
    packed = penalties.encode(ledger)
    assert len(packed) == 26 * len(ledger)
    assert penalties.decode(packed) == ledger


def test_an_entry_is_laid_out_as_the_contract_reads_it() -> None:
    packed = penalties.encode([Penalty(7, removed=True, appealing=True, held=258, slashed=1)])
    assert packed == bytes.fromhex("0703000000000000000000000102000000000000000000000001")
    assert penalties.encode([Penalty(7, removed=True, appealing=False, held=0, slashed=0)])[1] == 1
    assert penalties.encode([Penalty(7, removed=False, appealing=True, held=0, slashed=0)])[1] == 2


def test_an_empty_ledger_has_the_digest_zero() -> None:
    assert penalties.digest(b"") == bytes(32)
    assert penalties.digest(b"x") == keccak(b"x")


@given(st.binary(max_size=120))
def test_whatever_is_decoded_is_packed_alike(raw: bytes) -> None:
    try:
        ledger = penalties.decode(raw)
    except PenaltiesInvalid:
        return
    assert penalties.encode(ledger) == raw


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (bytes(25), "whole number of entries"),
        (bytes(52), "place 0 comes after place 0"),
        (b"\x01" + bytes(51), "place 0 comes after place 1"),
        (b"\x00\x04" + bytes(24), "unknown flags 4"),
    ],
)
def test_what_is_no_ledger_says_why(raw: bytes, why: str) -> None:
    with pytest.raises(PenaltiesInvalid, match=why):
        penalties.decode(raw)


@pytest.mark.parametrize("change", [{"place": 256}, {"place": -1}, {"held": 2**96}, {"slashed": -1}])
def test_what_does_not_fit_is_not_packed(change: dict[str, int]) -> None:
    with pytest.raises(PenaltiesInvalid, match="does not fit"):
        penalties.encode([replace(Penalty(0, removed=False, appealing=False, held=0, slashed=0), **change)])


def test_a_ledger_that_is_not_sorted_is_not_packed() -> None:
    entries = [Penalty(place, removed=False, appealing=False, held=0, slashed=0) for place in (1, 0)]
    with pytest.raises(PenaltiesInvalid, match="place 0 comes after place 1"):
        penalties.encode(entries)
