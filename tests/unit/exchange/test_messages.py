"""Signed messages keep their meaning on the wire, and are believed only if the right key signed them."""

from __future__ import annotations

from pathlib import Path

import pytest
from covey_chain.types import Proposal, RollCall, RoundResult, ScoreCommit, ScoreReveal, Signable, UpdateHeader, Vote
from covey_exchange.envelope import Roster
from covey_exchange.errors import (
    ExchangeError,
    MalformedMessage,
    UnknownSite,
    WrongAttachment,
    WrongSigner,
    WrongTask,
)
from covey_exchange.messages import Envelope, from_wire, to_wire
from covey_exchange.proto import wire_pb2
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from hypothesis import given
from hypothesis import strategies as st
from town import DOMAIN, TASK, Site

hashes = st.binary(min_size=32, max_size=32)
addresses = st.binary(min_size=20, max_size=20).map(to_checksum_address)
u8, u32, u64 = (st.integers(0, 2**bits - 1) for bits in (8, 32, 64))
i32, u256 = st.integers(-(2**31), 2**31 - 1), st.integers(0, 2**256 - 1)
bodies = st.one_of(
    st.builds(UpdateHeader, hashes, u64, u32, addresses, hashes, hashes, u64, hashes, u64),
    st.builds(Proposal, hashes, u64, u8, u32, i32, hashes, addresses),
    st.builds(Vote, hashes, u64, u8, u32, u8, hashes, addresses),
    st.builds(ScoreCommit, hashes, u64, addresses, hashes),
    st.builds(ScoreReveal, hashes, u64, addresses, hashes, hashes),
    st.builds(RoundResult, hashes, u64, u32, *[hashes] * 5, u256, st.booleans(), st.booleans()),
    st.builds(RollCall, hashes, u32, addresses, hashes),
)


@given(bodies, st.binary(min_size=65, max_size=65), st.binary(max_size=100))
def test_the_wire_changes_nothing(body: Signable, signature: bytes, attachment: bytes) -> None:
    envelope = Envelope(body, signature, attachment)
    received = wire_pb2.Signed.FromString(to_wire(envelope).SerializeToString())
    assert from_wire(received) == envelope


@given(st.binary(max_size=300))
def test_noise_is_refused_with_a_typed_error(noise: bytes) -> None:
    wire = wire_pb2.Signed(signature=bytes(65))
    wire.vote.task_id = noise
    with pytest.raises(MalformedMessage):
        from_wire(wire)


@pytest.fixture
def sites(tmp_path: Path) -> list[Site]:
    return [Site.make(tmp_path, name) for name in "ab"]


@pytest.fixture
def roster(sites: list[Site]) -> Roster:
    return Roster(DOMAIN, TASK, [site.peer for site in sites])


def vote(site: Site, task: bytes = TASK) -> Vote:
    return Vote(task, 1, 0, 0, 1, bytes(32), site.address)


def test_a_message_of_a_participant_is_verified(sites: list[Site], roster: Roster) -> None:
    message = roster.verify(sites[0].seal(vote(sites[0])))
    assert message.site == sites[0].address
    assert message.digest == roster.digest(vote(sites[0]))


def test_a_result_names_no_site_and_its_signer_is_found(sites: list[Site], roster: Roster) -> None:
    result = RoundResult(TASK, 1, 0, *(bytes(32),) * 5, 10**24, True, False)
    first, second = (roster.verify(site.seal(result)) for site in sites)
    assert (first.site, second.site) == (sites[0].address, sites[1].address)
    assert first.digest == second.digest
    assert first.identity != second.identity


def test_who_may_not_say_it_is_refused_by_kind(tmp_path: Path, sites: list[Site], roster: Roster) -> None:
    first, second = sites
    stranger = Site.make(tmp_path, "stranger")
    result = RoundResult(TASK, 1, 0, *(bytes(32),) * 5, 0, True, False)
    good = first.seal(vote(first))
    high_s = Envelope(good.body, good.signature[:32] + b"\xff" * 32 + good.signature[64:])
    cases: list[tuple[Envelope, type[ExchangeError]]] = [
        (stranger.seal(vote(stranger)), UnknownSite),
        (stranger.seal(result), UnknownSite),
        (second.seal(vote(first)), WrongSigner),
        (high_s, WrongSigner),
        (first.seal(vote(first, bytes(32))), WrongTask),
    ]
    for envelope, kind in cases:
        with pytest.raises(kind):
            roster.verify(envelope)


def test_an_attachment_is_what_was_signed(sites: list[Site], roster: Roster) -> None:
    site = sites[0]
    body = Proposal(TASK, 1, 0, 0, -1, keccak(b"value"), site.address)
    reveal = ScoreReveal(TASK, 1, site.address, bytes(32), keccak(b"scores"))
    assert roster.verify(site.seal(body, b"value")).envelope.attachment == b"value"
    call = RollCall(TASK, 1, site.address, keccak(b"votes"))
    assert roster.verify(site.seal(call, b"votes")).envelope.attachment == b"votes"
    assert roster.verify(site.seal(reveal, b"scores")).envelope.attachment == b"scores"
    for envelope in (site.seal(body, b"other"), site.seal(reveal), site.seal(call), site.seal(vote(site), b"more")):
        with pytest.raises(WrongAttachment):
            roster.verify(envelope)
