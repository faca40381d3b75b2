"""What a stranger, a stale key or a participant that breaks the rules gets: a reason, a count, and nothing else."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from covey_chain.types import Vote
from covey_exchange.errors import PeerRefused, Refusal
from covey_exchange.messages import to_wire
from covey_exchange.payload import to_leaves
from covey_exchange.proto.wire_pb2 import Answer, Frame, Hello, Offer, Ping, Segment
from covey_exchange.segments import SEGMENT_BYTES
from covey_exchange.tls import key_hash
from covey_exchange.traffic import STRANGER
from covey_exchange.transport import PROTOCOL
from covey_operator.keys import CERTIFICATE_DAYS
from eth_utils.address import to_canonical_address
from raw import raw
from town import QUICK, TASK, Inbox, Town, counted, free_port, make_certificate, with_endpoint

Towns = Callable[[int], Town]


async def test_a_certificate_of_no_participant_is_refused(town: Towns, tmp_path: Path) -> None:
    two = town(2)
    exchange = await two.run(two.sites[0])
    files, _ = make_certificate(tmp_path, "stranger")
    async with raw(exchange, files) as connection:
        await connection.ended()
    await counted(exchange, STRANGER, Refusal.UNKNOWN_CERTIFICATE)


async def test_no_certificate_is_refused(town: Towns) -> None:
    two = town(2)
    exchange = await two.run(two.sites[0])
    async with raw(exchange, None) as connection:
        await connection.ended()
    await counted(exchange, STRANGER, Refusal.NO_CERTIFICATE)


async def test_an_expired_certificate_is_refused(town: Towns, tmp_path: Path) -> None:
    two = town(2)
    made = datetime.now(UTC) - timedelta(days=CERTIFICATE_DAYS + 1)
    files, certificate = make_certificate(tmp_path, "expired", made)
    old = replace(two.sites[1].peer, certificate=certificate, tls_key_hash=key_hash(certificate))
    exchange = await two.run(two.sites[0], [two.sites[0].peer, old])
    async with raw(exchange, files) as connection:
        await connection.ended()
    await counted(exchange, STRANGER, Refusal.INVALID_CERTIFICATE)


async def test_a_key_that_was_rotated_away_is_refused(town: Towns, tmp_path: Path) -> None:
    two = town(2)
    first, second = await two.run_all()
    _, certificate = make_certificate(tmp_path, "new")
    rotated = replace(two.sites[1].peer, certificate=certificate, tls_key_hash=key_hash(certificate))
    first.set_peers([two.sites[0].peer, rotated])
    await counted(first, STRANGER, Refusal.UNKNOWN_CERTIFICATE)
    await counted(first, two.sites[1].address, Refusal.UNKNOWN_CERTIFICATE)
    assert second.traffic.of(two.sites[0].address).bytes_sent > 0


async def test_a_certificate_that_contradicts_its_hash_on_chain_is_no_anchor(town: Towns) -> None:
    two = town(2)
    forged = replace(two.sites[1].peer, tls_key_hash=bytes(32))
    exchange = await two.run(two.sites[0], [two.sites[0].peer, forged])
    async with raw(exchange, two.sites[1].files) as connection:
        await connection.ended()
    await counted(exchange, STRANGER, Refusal.UNKNOWN_CERTIFICATE)


async def test_another_participant_at_the_endpoint_is_refused(town: Towns) -> None:
    """The endpoint of the third leads to the second: its certificate is trusted, but it is not the third."""
    three = town(3)
    a, b, c = three.sites
    await three.run(b)
    exchange = await three.run(a, [a.peer, b.peer, with_endpoint(c.peer, b.peer.endpoint)])
    await counted(exchange, c.address, Refusal.WRONG_KEY)
    with pytest.raises(PeerRefused, match="key of another participant"):
        await exchange.request(c.address, "any", b"", limit_bytes=1)


@pytest.mark.parametrize("what", ["task", "site", "protocol"])
async def test_a_hello_for_another_is_refused_with_its_reason(town: Towns, what: str) -> None:
    two = town(2)
    exchange = await two.run(two.sites[0])
    hello = Hello(protocol=PROTOCOL, task_id=TASK, site=to_canonical_address(two.sites[1].address))
    refusal = {"task": Refusal.WRONG_TASK, "site": Refusal.WRONG_SITE, "protocol": Refusal.WRONG_PROTOCOL}[what]
    if what == "task":
        hello.task_id = bytes(32)
    elif what == "site":
        hello.site = to_canonical_address(two.sites[0].address)
    else:
        hello.protocol = PROTOCOL + 1
    async with raw(exchange, two.sites[1].files) as connection:
        connection.send(Frame(hello=hello))
        assert (await connection.receive()).refused.reason == refusal
        await connection.ended()
    await counted(exchange, two.sites[1].address, refusal)


@pytest.mark.parametrize("greeted", [False, True])
async def test_an_oversize_frame_is_refused_before_it_is_read(town: Towns, greeted: bool) -> None:
    two = town(2)
    exchange = await two.run(two.sites[0])
    async with raw(exchange, two.sites[1].files) as connection:
        if greeted:
            await connection.greet(two.sites[1])
        limit = QUICK.frame_bytes if greeted else QUICK.hello_bytes
        connection.writer.write((limit + 1).to_bytes(4, "big"))
        assert (await connection.receive()).refused.reason == Refusal.OVERSIZE_FRAME
        await connection.ended()
    await counted(exchange, two.sites[1].address, Refusal.OVERSIZE_FRAME)


async def test_noise_and_frames_out_of_order_end_the_connection(town: Towns) -> None:
    two = town(2)
    exchange = await two.run(two.sites[0])
    for data, refusal in ((b"\0\0\0\2\xff\xff", Refusal.MALFORMED_FRAME), (None, Refusal.OUT_OF_ORDER)):
        async with raw(exchange, two.sites[1].files) as connection:
            await connection.greet(two.sites[1])
            if data is None:
                connection.send(Frame(segment=Segment(index=0)))
            else:
                connection.writer.write(data)
            assert (await connection.receive()).refused.reason == refusal
            await connection.ended()


async def test_silence_instead_of_a_handshake_is_bounded(town: Towns) -> None:
    two = town(2)
    exchange = await two.run(two.sites[0], limits=replace(QUICK, handshake_seconds=0.2, handshakes=2))
    silent = [await asyncio.open_connection("127.0.0.1", exchange.port) for _ in range(3)]
    await counted(exchange, STRANGER, Refusal.TOO_MANY_HANDSHAKES)
    await counted(exchange, STRANGER, Refusal.HANDSHAKE_TIMEOUT)
    for _, writer in silent:
        writer.close()
    async with raw(exchange, two.sites[1].files) as connection:
        assert (await connection.greet(two.sites[1])).WhichOneof("body") == "hello"


async def test_silence_after_the_handshake_is_bounded(town: Towns) -> None:
    two = town(2)
    exchange = await two.run(two.sites[0], limits=replace(QUICK, handshake_seconds=0.2, idle_seconds=0.2))
    async with raw(exchange, two.sites[1].files) as connection:
        await connection.ended()
    async with raw(exchange, two.sites[1].files) as connection:
        await connection.greet(two.sites[1])
        await connection.ended()


async def test_connections_of_one_site_are_bounded(town: Towns) -> None:
    two = town(2)
    exchange = await two.run(two.sites[0], limits=replace(QUICK, connections_per_peer=2))
    async with (
        raw(exchange, two.sites[1].files) as first,
        raw(exchange, two.sites[1].files) as second,
        raw(exchange, two.sites[1].files) as third,
    ):
        for connection in (first, second):
            await connection.greet(two.sites[1])
            connection.send(Frame(ping=Ping()))
            assert (await connection.receive()).WhichOneof("body") == "pong"
        assert (await third.greet(two.sites[1])).refused.reason == Refusal.TOO_MANY_CONNECTIONS


async def test_a_tampered_segment_is_refused_and_the_true_update_still_comes(town: Towns) -> None:
    three = town(3)
    a, b, c = three.sites
    origin, receiver = await three.run(a, [a.peer, b.peer]), await three.run(b)
    payload = os.urandom(2 * SEGMENT_BYTES)
    header = a.header(payload)
    tampered = bytearray(payload)
    tampered[SEGMENT_BYTES + 3] ^= 1
    async with raw(receiver, c.files) as forwarder:
        await forwarder.greet(c)
        forwarder.send(Frame(offer=Offer(header=to_wire(header), leaves=to_leaves(payload))))
        assert (await forwarder.receive()).answer.kind == Answer.KIND_WANT
        forwarder.send(Frame(segment=Segment(index=0)), tampered[:SEGMENT_BYTES])
        forwarder.send(Frame(segment=Segment(index=1)), tampered[SEGMENT_BYTES:])
        assert (await forwarder.receive()).refused.reason == Refusal.CORRUPT_SEGMENT
    assert receiver.traffic.of(c.address).refused[Refusal.CORRUPT_SEGMENT] == 1
    origin.offer(header, payload)
    assert await Inbox(receiver).updates(1) == {a.address: payload}


async def test_offers_that_contradict_their_header_are_refused(town: Towns) -> None:
    three = town(3)
    a, b, c = three.sites
    exchange = await three.run(b)
    payload = os.urandom(1000)
    wrong_signer = c.seal(a.header(payload).body)
    offers = {
        Refusal.CORRUPT_SEGMENT: Offer(header=to_wire(a.header(payload)), leaves=to_leaves(os.urandom(1000))),
        Refusal.INVALID_OFFER: Offer(header=to_wire(a.header(payload)), leaves=to_leaves(payload + b"x")),
        Refusal.WRONG_SIGNER: Offer(header=to_wire(wrong_signer), leaves=to_leaves(payload)),
    }
    async with raw(exchange, c.files) as connection:
        await connection.greet(c)
        for refusal, offer in offers.items():
            connection.send(Frame(offer=offer))
            answer = (await connection.receive()).answer
            assert answer.kind == Answer.KIND_REFUSED
            assert refusal in answer.reason
            assert exchange.traffic.of(c.address).refused[refusal] == 1


async def test_a_forged_vote_is_dropped_and_too_many_end_the_connection(town: Towns) -> None:
    three = town(3)
    a, b, c = three.sites
    exchange = await three.run(b, limits=replace(QUICK, invalid_per_connection=2))
    async with raw(exchange, c.files) as connection:
        await connection.greet(c)
        for view in range(3):
            forged = c.seal(Vote(TASK, 1, 0, view, 1, bytes(32), a.address))
            connection.send(Frame(signed=to_wire(forged)))
        assert (await connection.receive()).refused.reason == Refusal.FLOOD
    assert exchange.traffic.of(c.address).refused[Refusal.WRONG_SIGNER] == 3


async def test_a_flood_of_valid_messages_is_bounded(town: Towns) -> None:
    two = town(2)
    a, b = two.sites
    exchange = await two.run(a, limits=replace(QUICK, messages_per_site=3, invalid_per_connection=2))
    async with raw(exchange, b.files) as connection:
        await connection.greet(b)
        for view in range(6):
            connection.send(Frame(signed=to_wire(b.seal(Vote(TASK, 1, 0, view, 1, bytes(32), b.address)))))
        assert (await connection.receive()).refused.reason == Refusal.FLOOD


async def test_an_unreachable_peer_is_no_reason_to_hang(town: Towns) -> None:
    two = town(2)
    dead = with_endpoint(two.sites[1].peer, f"127.0.0.1:{free_port()}")
    exchange = await two.run(two.sites[0], [two.sites[0].peer, dead])
    payload = os.urandom(10)
    exchange.offer(two.sites[0].header(payload), payload)
    async with asyncio.timeout(10):
        await exchange.close()
