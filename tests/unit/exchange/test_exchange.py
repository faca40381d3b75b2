"""Three real exchanges on loopback: what the ring, the gossip and the requests promise."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace

import pytest
from covey_chain.types import RollCall, UpdateHeader, Vote
from covey_exchange.egress import steady
from covey_exchange.envelope import Message, Peer, SiteUpdate
from covey_exchange.errors import (
    MessageRefused,
    PeerRefused,
    PeerUnreachable,
    ProtocolViolation,
    Refusal,
    UnknownPeer,
    UpdateUnavailable,
)
from covey_exchange.segments import SEGMENT_BYTES, payload_root
from eth_utils.crypto import keccak
from raw import listening
from town import QUICK, TASK, Inbox, Town, free_port, with_endpoint

Towns = Callable[[int], Town]


def vote(town: Town, index: int, round_: int = 1, view: int = 0) -> Vote:
    return Vote(TASK, round_, 0, view, 1, bytes(32), town.sites[index].address)


async def test_every_update_reaches_every_site(town: Towns) -> None:
    three = town(3)
    exchanges = await three.run_all()
    payloads = {site.address: os.urandom(2 * SEGMENT_BYTES + 17) for site in three.sites}
    for site, exchange in zip(three.sites, exchanges, strict=True):
        exchange.offer(site.header(payloads[site.address]), payloads[site.address])
    for site, exchange in zip(three.sites, exchanges, strict=True):
        arrived = await Inbox(exchange).updates(2)
        assert arrived == {address: data for address, data in payloads.items() if address != site.address}


async def test_a_payload_goes_over_each_line_of_the_ring_once(town: Towns) -> None:
    three = town(3)
    exchanges = await three.run_all()
    payload = os.urandom(3 * SEGMENT_BYTES)
    exchanges[0].offer(three.sites[0].header(payload), payload)
    for exchange in exchanges[1:]:
        await Inbox(exchange).updates(1)
    sent = {
        (i, j): exchanges[i].traffic.of(three.sites[j].address).bytes_sent for i in range(3) for j in range(3) if i != j
    }
    big = {line for line, count in sent.items() if count >= len(payload)}
    assert big == {(0, 1), (1, 2)}
    assert all(sent[line] < 1.01 * len(payload) for line in big)


async def test_a_message_reaches_everybody_and_names_its_site(town: Towns) -> None:
    three = town(3)
    exchanges = await three.run_all()
    body = vote(three, 0)
    exchanges[0].broadcast(three.sites[0].seal(body))
    for exchange in exchanges[1:]:
        assert (await Inbox(exchange).message(body)).site == three.sites[0].address


async def test_a_message_finds_its_way_round_a_broken_line(town: Towns) -> None:
    three = town(3)
    a, b, c = three.sites
    lost = [a.peer, b.peer]  # a and c do not know each other's way; b connects both
    first = await three.run(a, [*lost, with_dead_endpoint(three, 2)])
    await three.run(b)
    third = await three.run(c, [with_dead_endpoint(three, 0), b.peer, c.peer])
    first.broadcast(a.seal(vote(three, 0)))
    assert (await Inbox(third).message(vote(three, 0))).site == a.address


def with_dead_endpoint(town: Town, index: int) -> Peer:
    return with_endpoint(town.sites[index].peer, f"127.0.0.1:{free_port()}")


async def test_each_message_is_delivered_once(town: Towns) -> None:
    three = town(3)
    exchanges = await three.run_all()
    inbox = Inbox(exchanges[2])
    for view in range(20):
        for index in (0, 1):
            exchanges[index].broadcast(three.sites[index].seal(vote(three, index, view=view)))
            exchanges[index].broadcast(three.sites[index].seal(vote(three, index, view=view)))
    seen = await inbox.until(lambda seen: len(seen) >= 40)
    await asyncio.gather(*(inbox.message(vote(three, index, view=19)) for index in (0, 1)))
    assert all(isinstance(item, Message) for item in seen)
    assert len({item.identity for item in seen if isinstance(item, Message)}) == len(seen) == 40


async def test_a_link_that_is_never_idle_stays(town: Towns) -> None:
    two = town(2)
    impatient = replace(QUICK, ping_seconds=0.2)
    first, second = [await two.run(site, limits=impatient) for site in two.sites]
    await first.until_connected(1)
    inbox, silence = Inbox(second), 3 * impatient.ping_seconds
    for view in range(30):  # more often than pings would be due, and for longer than a peer may be silent
        first.broadcast(two.sites[0].seal(vote(two, 0, view=view)))
        await inbox.message(vote(two, 0, view=view))
        await asyncio.sleep(silence / 15)
    assert first.traffic.of(two.sites[1].address).reconnects == 0


async def test_what_a_silent_site_once_said_is_relayed(town: Towns) -> None:
    three = town(3)
    one, two = await three.run(three.sites[0]), await three.run(three.sites[1])
    said = three.sites[2].seal(vote(three, 2))
    relayed = one.relay(said)
    assert relayed.site == three.sites[2].address
    assert await Inbox(two).message(said.body) == relayed
    with pytest.raises(MessageRefused):
        one.relay(replace(said, body=vote(three, 1)))


async def test_a_site_that_restarts_gets_what_it_missed(town: Towns) -> None:
    three = town(3)
    exchanges = await three.run_all()
    own = vote(three, 2)
    exchanges[2].broadcast(three.sites[2].seal(own))
    await Inbox(exchanges[0]).message(own)
    await exchanges[2].close()
    payload = os.urandom(SEGMENT_BYTES + 1)
    exchanges[0].offer(three.sites[0].header(payload), payload)
    exchanges[1].broadcast(three.sites[1].seal(vote(three, 1)))

    inbox = Inbox(await three.run(three.sites[2]))
    assert (await inbox.message(own)).site == three.sites[2].address
    await inbox.message(vote(three, 1))
    assert await inbox.updates(1) == {three.sites[0].address: payload}
    async with asyncio.timeout(30):
        await exchanges[0].until_connected(2)
    assert exchanges[0].traffic.of(three.sites[2].address).reconnects >= 1


async def test_a_dead_successor_is_skipped(town: Towns) -> None:
    four = town(4)
    a, dead, c, d = four.sites
    exchanges = {site.address: await four.run(site) for site in (a, c, d)}
    async with asyncio.timeout(30):
        for exchange in exchanges.values():
            await exchange.until_connected(2)
    payload = os.urandom(2 * SEGMENT_BYTES)
    exchanges[a.address].offer(a.header(payload), payload)
    for site in (c, d):
        assert await Inbox(exchanges[site.address]).updates(1) == {a.address: payload}
    assert dead.address not in exchanges[a.address].connected


async def test_a_slow_line_is_no_reason_to_fetch(town: Towns) -> None:
    """2 MiB at 16 Mbit/s take a second, longer than the time after which a silent ring is repaired."""
    three = town(3)
    exchanges = [await three.run(site, egress=steady(16e6)) for site in three.sites]
    async with asyncio.timeout(30):
        for exchange in exchanges:
            await exchange.until_connected(2)
    payloads = {site.address: os.urandom(2 * SEGMENT_BYTES) for site in three.sites}
    for site, exchange in zip(three.sites, exchanges, strict=True):
        exchange.offer(site.header(payloads[site.address]), payloads[site.address])
    for exchange in exchanges:
        await Inbox(exchange).updates(2)
    for exchange in exchanges:
        sent = sum(peer.bytes_sent for peer in exchange.traffic.peers.values())
        assert sent < 2.1 * 2 * SEGMENT_BYTES


async def test_more_updates_than_lines_all_arrive(town: Towns) -> None:
    five = town(5)
    exchanges = [await five.run(site, limits=replace(QUICK, lines_per_peer=1)) for site in five.sites]
    async with asyncio.timeout(30):
        for exchange in exchanges:
            await exchange.until_connected(4)
    for attempt in range(3):
        for site, exchange in zip(five.sites, exchanges, strict=True):
            payload = os.urandom(SEGMENT_BYTES + attempt)
            exchange.offer(site.header(payload, attempt=attempt), payload)
    for exchange in exchanges:
        inbox = Inbox(exchange)
        await inbox.until(lambda seen: sum(isinstance(item, SiteUpdate) for item in seen) == 12)


async def test_a_successor_that_falls_silent_is_skipped_within_bounded_time(town: Towns) -> None:
    """The second site is stopped like a process: its sockets stay open and say nothing more."""
    three = town(3)
    a, silent, c = three.sites
    limits = replace(QUICK, stall_seconds=0.5, repair_seconds=60)
    first, third = await three.run(a, limits=limits), await three.run(c, limits=limits)
    async with listening(three, silent):
        async with asyncio.timeout(30):
            await first.until_connected(2)
        payload = os.urandom(SEGMENT_BYTES)
        first.offer(a.header(payload), payload)
        assert await Inbox(third).updates(1) == {a.address: payload}


async def test_an_update_is_fetched_by_digest_alone(town: Towns) -> None:
    three = town(3)
    exchanges = await three.run_all()
    payload = os.urandom(SEGMENT_BYTES + 5)
    message = exchanges[0].offer(three.sites[0].header(payload), payload)
    await Inbox(exchanges[1]).updates(1)
    await exchanges[0].close()
    await exchanges[2].close()
    again = await three.run(three.sites[2])
    update = await again.fetch(message.digest)
    assert (update.payload, update.site) == (payload, three.sites[0].address)
    with pytest.raises(UpdateUnavailable) as error:
        await again.fetch(bytes(32))
    assert set(error.value.attempts) == {three.sites[0].address, three.sites[1].address}


async def test_pruned_rounds_are_forgotten_and_not_taken_again(town: Towns) -> None:
    two = town(2)
    exchanges = await two.run_all()
    payload = os.urandom(1000)
    message = exchanges[0].offer(two.sites[0].header(payload, round_=1), payload)
    inbox = Inbox(exchanges[1])
    await inbox.updates(1)
    for exchange in exchanges:
        exchange.prune(2)
    with pytest.raises(UpdateUnavailable):
        await exchanges[1].fetch(message.digest)
    exchanges[0].offer(two.sites[0].header(payload, round_=1, attempt=1), payload)
    exchanges[0].broadcast(two.sites[0].seal(vote(two, 0, round_=2)))
    await inbox.message(vote(two, 0, round_=2))
    assert [item.body.round for item in inbox.seen if isinstance(item, Message)] == [1, 2]
    assert sum(isinstance(item, SiteUpdate) for item in inbox.seen) == 1


async def test_a_roll_call_outlives_the_rounds(town: Towns) -> None:
    two = town(2)
    first = await two.run(two.sites[0])
    body = RollCall(TASK, 1, two.sites[0].address, keccak(b"locked"))
    first.broadcast(two.sites[0].seal(body, b"locked"))
    first.prune(2)
    inbox = Inbox(await two.run(two.sites[1]))
    assert (await inbox.message(body)).envelope.attachment == b"locked"


async def test_a_request_is_answered_in_verified_segments(town: Towns) -> None:
    two = town(2)
    first, second = await two.run_all()
    model = os.urandom(3 * SEGMENT_BYTES + 1)

    async def fetch_model(site: str, body: bytes) -> bytes | None:
        assert site == two.sites[0].address
        return model if body == b"digest" else None

    second.serve("model", fetch_model)
    address = two.sites[1].address
    limit = len(model)
    assert await first.request(address, "model", b"digest", limit_bytes=limit) == model
    assert await first.request(address, "model", b"digest", limit_bytes=limit, root=payload_root(model)) == model
    with pytest.raises(PeerRefused, match="not here"):
        await first.request(address, "model", b"other", limit_bytes=limit)
    with pytest.raises(PeerRefused, match="not served"):
        await first.request(address, "nothing", b"", limit_bytes=limit)
    with pytest.raises(ProtocolViolation):
        await first.request(address, "model", b"digest", limit_bytes=limit - 1)
    with pytest.raises(ProtocolViolation):
        await first.request(address, "model", b"digest", limit_bytes=limit, root=bytes(32))
    assert first.traffic.of(address).refused[Refusal.OVERSIZE_PAYLOAD] == 1
    with pytest.raises(UnknownPeer):
        await first.request("0x" + "00" * 20, "model", b"", limit_bytes=1)
    await second.close()
    with pytest.raises(PeerUnreachable):
        await first.request(address, "model", b"digest", limit_bytes=limit)


async def test_the_egress_cap_holds(town: Towns) -> None:
    """4 MiB at 32 Mbit/s take a second; the bounds are loose because other things run on the machine."""
    two = town(2)
    capped = await two.run(two.sites[0], egress=steady(32e6))
    other = await two.run(two.sites[1])
    async with asyncio.timeout(30):
        await capped.until_connected(1)
    payload = os.urandom(4 * SEGMENT_BYTES)
    clock = asyncio.get_running_loop()
    started = clock.time()
    capped.offer(two.sites[0].header(payload), payload)
    await Inbox(other).updates(1)
    sent = capped.traffic.of(two.sites[1].address).bytes_sent
    assert sent * 8 <= 32e6 * (clock.time() - started + 0.5)


async def test_a_site_speaks_only_for_itself_and_offers_what_it_signed(town: Towns) -> None:
    two = town(2)
    exchange = await two.run(two.sites[0])
    with pytest.raises(MessageRefused):
        exchange.broadcast(two.sites[1].seal(vote(two, 1)))
    with pytest.raises(ValueError, match="another length or root"):
        exchange.offer(two.sites[0].header(b"payload"), b"another")
    with pytest.raises(ValueError, match="no header"):
        exchange.offer(two.sites[0].seal(vote(two, 0)), b"")


async def test_two_headers_of_one_site_for_one_round_both_arrive_as_evidence(town: Towns) -> None:
    two = town(2)
    exchanges = await two.run_all()
    for payload in (b"one", b"two"):
        exchanges[0].offer(two.sites[0].header(payload), payload)
    inbox = Inbox(exchanges[1])
    await inbox.until(
        lambda seen: sum(isinstance(item, Message) and isinstance(item.body, UpdateHeader) for item in seen) == 2
    )
