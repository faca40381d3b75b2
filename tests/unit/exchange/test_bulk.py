"""Segments between sites: over several connections, into files, and what happens when one of them breaks."""

from __future__ import annotations

import asyncio
import os
import threading
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from covey_exchange import segments
from covey_exchange.bulk import Line
from covey_exchange.egress import steady
from covey_exchange.errors import Refusal
from covey_exchange.proto.wire_pb2 import Answer, Frame, Ping, Segment, Sent
from covey_exchange.segments import SEGMENT_BYTES
from raw import Raw, listening, raw
from town import QUICK, Inbox, Town, counted

Towns = Callable[[int], Town]


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> dict[Line, list[int]]:
    """Segments that each line has sent, of all exchanges of the process."""
    sent: dict[Line, list[int]] = {}
    send = Line.send

    def noted(line: Line, frame: Frame, data: memoryview | None = None) -> None:
        send(line, frame, data)
        if frame.WhichOneof("body") == "segment":
            sent.setdefault(line, []).append(frame.segment.index)

    monkeypatch.setattr(Line, "send", noted)
    return sent


def bring(connection: Raw, payload: bytes, *indices: int) -> None:
    """Send segments, without saying that this was all."""
    for index in indices:
        start = index * SEGMENT_BYTES
        connection.send(Frame(segment=Segment(index=index)), payload[start : start + SEGMENT_BYTES])


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what no event tells: bytes that have arrived, memory that is free, a thread that has ended."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 (there is no event)
            await asyncio.sleep(0.01)


def transferring(site: str) -> bool:
    """Whether a thread sends to a site or receives from it."""
    return any(thread.name == f"bulk {site}" for thread in threading.enumerate())


def mapped(folder: Path) -> list[str]:
    """Inodes of the files without a name in a folder at which this process looks."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    return [line.split()[4] for line in lines if f"{folder}/" in line and "(deleted)" in line]


async def test_one_update_goes_over_several_connections(town: Towns, lines: dict[Line, list[int]]) -> None:
    two = town(2)
    slow = 64e6  # so that the others come in before the first connection has sent all
    first = await two.run(two.sites[0], egress=steady(slow))
    second = await two.run(two.sites[1])
    await first.until_connected(1)
    payload = os.urandom(12 * SEGMENT_BYTES)
    first.offer(two.sites[0].header(payload), payload)
    assert await Inbox(second).updates(1) == {two.sites[0].address: payload}
    assert len(lines) == QUICK.lines_per_update
    assert sorted(index for sent in lines.values() for index in sent) == list(range(12))


async def test_a_segment_is_forwarded_before_the_update_is_complete(town: Towns) -> None:
    three = town(3)
    a, b, c = three.sites
    relay = await three.run(b)
    last = await three.run(c)
    await relay.until_connected(1)
    payload = os.urandom(3 * SEGMENT_BYTES)
    async with raw(relay, a.files) as origin:
        await origin.greet(a)
        assert (await origin.offer(a.header(payload), payload)).kind == Answer.KIND_WANT
        bring(origin, payload, 0)
        await until(lambda: last.traffic.of(b.address).bytes_received >= SEGMENT_BYTES)
        bring(origin, payload, 1, 2)
        origin.send(Frame(sent=Sent()))
        assert (await origin.receive()).answer.kind == Answer.KIND_HAVE
    assert await Inbox(last).updates(1) == {a.address: payload}


async def test_a_corrupt_segment_on_one_connection_costs_that_connection_only(town: Towns) -> None:
    two = town(2)
    a, b = two.sites
    receiver = await two.run(b)
    payload = os.urandom(3 * SEGMENT_BYTES)
    header = a.header(payload)
    async with raw(receiver, a.files) as good, raw(receiver, a.files) as bad:
        for connection in (good, bad):
            await connection.greet(a)
            assert (await connection.offer(header, payload)).kind == Answer.KIND_WANT
        bring(good, payload, 0)
        bad.send(Frame(segment=Segment(index=1)), bytes(SEGMENT_BYTES))
        assert (await bad.receive()).refused.reason == Refusal.CORRUPT_SEGMENT
        await bad.ended()
        bring(good, payload, 2)
        good.send(Frame(sent=Sent()))
        answer = (await good.receive()).answer
        assert (answer.kind, answer.missing) == (Answer.KIND_WANT, b"\x02")
        assert (await good.offer(header, payload)).missing == b"\x02"
        bring(good, payload, 1)
        good.send(Frame(sent=Sent()))
        assert (await good.receive()).answer.kind == Answer.KIND_HAVE
    assert await Inbox(receiver).updates(1) == {a.address: payload}


async def test_what_a_connection_leaves_undone_goes_over_another(town: Towns, monkeypatch: pytest.MonkeyPatch) -> None:
    two = town(2)
    first, second = await two.run_all()
    broken: list[Line] = []
    send = Line.send

    def breaking(line: Line, frame: Frame, data: memoryview | None = None) -> None:
        if frame.WhichOneof("body") == "segment" and frame.segment.index == 2 and not broken:
            broken.append(line)
            line._stream.abort()
        send(line, frame, data)

    monkeypatch.setattr(Line, "send", breaking)
    payload = os.urandom(8 * SEGMENT_BYTES)
    first.offer(two.sites[0].header(payload), payload)
    assert await Inbox(second).updates(1) == {two.sites[0].address: payload}
    assert broken


async def test_a_neighbour_that_dies_in_the_middle_leaves_what_it_brought(town: Towns) -> None:
    three = town(3)
    a, b, c = three.sites
    payload = os.urandom(4 * SEGMENT_BYTES)
    header = a.header(payload)
    origin, receiver = await three.run(a, [a.peer, c.peer]), await three.run(c)
    async with raw(receiver, b.files) as dying:
        await dying.greet(b)
        assert (await dying.offer(header, payload)).kind == Answer.KIND_WANT
        bring(dying, payload, 0, 2)
        await until(lambda: receiver.traffic.of(b.address).bytes_received >= 2 * SEGMENT_BYTES)
    origin.offer(header, payload)
    assert await Inbox(receiver).updates(1) == {a.address: payload}
    # What had come already was not sent again, unless the dead one still counted as the one who brings it.
    assert receiver.traffic.of(a.address).bytes_received < len(payload) + SEGMENT_BYTES


async def test_a_successor_that_dies_in_the_middle_is_skipped(town: Towns) -> None:
    three = town(3)
    a, dying, c = three.sites
    first, third = await three.run(a), await three.run(c)
    payload = os.urandom(16 * SEGMENT_BYTES)
    async with listening(three, dying) as accepted, asyncio.timeout(30):
        await first.until_connected(2)
        first.offer(a.header(payload), payload)
        connection = await accepted.get()
        while (await connection.receive()).WhichOneof("body") != "offer":  # the other connection is of gossip
            connection = await accepted.get()
        connection.send(Frame(answer=Answer(kind=Answer.KIND_WANT, missing=b"\xff\xff")))
        await connection.reader.readexactly(SEGMENT_BYTES)
        connection.writer.transport.abort()
        assert await Inbox(third).updates(1) == {a.address: payload}


async def test_a_giver_that_stops_is_replaced_by_another_holder(town: Towns) -> None:
    three = town(3)
    a, b, c = three.sites
    receiver = await three.run(b, limits=replace(QUICK, patience_seconds=0.6))
    payload = os.urandom(3 * SEGMENT_BYTES)
    async with raw(receiver, c.files) as giver:
        await giver.greet(c)
        assert (await giver.offer(a.header(payload), payload)).kind == Answer.KIND_WANT
        bring(giver, payload, 0)
        holder = await three.run(a)
        holder.offer(a.header(payload), payload)
        assert await Inbox(receiver).updates(1) == {a.address: payload}


async def test_an_update_on_its_way_takes_no_memory_of_its_size(town: Towns) -> None:
    """64 MiB go from one site through a second to a third, all in this process, in less than a quarter of that."""
    three = town(3)
    exchanges = await three.run_all()
    payload = os.urandom(SEGMENT_BYTES) * 64
    header, leaves = three.sites[0].header(payload), segments.leaves(payload)
    tracemalloc.start()
    try:
        exchanges[0].offer(header, payload, leaves)
        for exchange in exchanges[1:]:
            assert await Inbox(exchange).updates(1) == {three.sites[0].address: payload}
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < len(payload) // 4


async def test_a_silent_bulk_connection_is_closed_and_its_thread_ends(town: Towns) -> None:
    two = town(2)
    a, b = two.sites
    receiver = await two.run(b, limits=replace(QUICK, stall_seconds=0.3))
    payload = os.urandom(2 * SEGMENT_BYTES)
    async with raw(receiver, a.files) as connection:
        await connection.greet(a)
        assert (await connection.offer(a.header(payload), payload)).kind == Answer.KIND_WANT
        await connection.ended()
    await until(lambda: not transferring(a.address))


async def test_a_segment_that_only_trickles_in_ends_the_connection(town: Towns) -> None:
    two = town(2)
    a, b = two.sites
    receiver = await two.run(b, limits=replace(QUICK, trickle_seconds=0.5))
    payload = os.urandom(2 * SEGMENT_BYTES)
    async with raw(receiver, a.files) as connection:
        await connection.greet(a)
        assert (await connection.offer(a.header(payload), payload)).kind == Answer.KIND_WANT
        connection.send(Frame(segment=Segment(index=0)))

        async def trickle() -> None:
            while True:
                connection.writer.write(b"x")
                await asyncio.sleep(0.05)

        trickling = asyncio.create_task(trickle())
        await connection.ended()
        trickling.cancel()
        await asyncio.gather(trickling, return_exceptions=True)


async def test_pings_keep_a_connection_only_as_long_as_something_is_missing(town: Towns) -> None:
    two = town(2)
    a, b = two.sites
    receiver = await two.run(b, limits=replace(QUICK, stall_seconds=0.5))
    payload = os.urandom(2 * SEGMENT_BYTES)
    async with raw(receiver, a.files) as connection:
        await connection.greet(a)
        assert (await connection.offer(a.header(payload), payload)).kind == Answer.KIND_WANT
        bring(connection, payload, 0)
        for _ in range(10):
            connection.send(Frame(ping=Ping()))
            await asyncio.sleep(0.1)
        bring(connection, payload, 1)
        connection.send(Frame(ping=Ping()))
        await connection.ended()


async def test_connections_for_one_update_are_bounded(town: Towns) -> None:
    two = town(2)
    a, b = two.sites
    receiver = await two.run(b, limits=replace(QUICK, lines_per_update=1))
    payload = os.urandom(2 * SEGMENT_BYTES)
    async with raw(receiver, a.files) as first, raw(receiver, a.files) as second:
        for connection, kind in ((first, Answer.KIND_WANT), (second, Answer.KIND_REFUSED)):
            await connection.greet(a)
            assert (await connection.offer(a.header(payload), payload)).kind == kind


@pytest.mark.parametrize("kind", ["offer", "more than there are"])
async def test_what_is_no_segment_of_the_update_ends_the_connection(town: Towns, kind: str) -> None:
    two = town(2)
    a, b = two.sites
    receiver = await two.run(b)
    payload = os.urandom(2 * SEGMENT_BYTES)
    refusal = Refusal.OUT_OF_ORDER if kind == "offer" else Refusal.CORRUPT_SEGMENT
    async with raw(receiver, a.files) as connection:
        await connection.greet(a)
        await connection.offer(a.header(payload), payload)
        connection.send(Frame(answer=Answer()) if kind == "offer" else Frame(segment=Segment(index=2)))
        assert (await connection.receive()).refused.reason == refusal
    await counted(receiver, a.address, refusal)


async def test_closing_does_not_wait_for_a_transfer(town: Towns, monkeypatch: pytest.MonkeyPatch) -> None:
    two = town(2)
    first = await two.run(two.sites[0], egress=steady(1e6))  # 16 s for the update
    second = await two.run(two.sites[1])
    await first.until_connected(1)
    payload = os.urandom(2 * SEGMENT_BYTES)
    first.offer(two.sites[0].header(payload), payload)
    await until(lambda: second.traffic.of(two.sites[0].address).bytes_received > 2**16)
    async with asyncio.timeout(10):
        await first.close()
    await until(lambda: not transferring(two.sites[1].address))


async def test_updates_lie_in_files_that_are_used_again(town: Towns, tmp_path: Path) -> None:
    two = town(2)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    first, second = await two.run(two.sites[0]), await two.run(two.sites[1], scratch=scratch)
    await first.until_connected(1)
    inbox = Inbox(second)
    files = set()
    for number in range(1, 5):
        payload = os.urandom(2 * SEGMENT_BYTES + number)
        first.offer(two.sites[0].header(payload, round_=number), payload)
        assert await inbox.updates(1) == {two.sites[0].address: payload}
        assert len(mapped(scratch)) == 1
        files.update(mapped(scratch))
        inbox.seen.clear()
        for exchange in (first, second):
            exchange.prune(number + 1)
        await until(lambda: not mapped(scratch))
    assert not list(scratch.iterdir())
    assert len(files) == 1


async def test_what_is_still_looked_at_is_not_overwritten(town: Towns, tmp_path: Path) -> None:
    two = town(2)
    first, second = await two.run(two.sites[0]), await two.run(two.sites[1], scratch=tmp_path)
    await first.until_connected(1)
    inbox = Inbox(second)
    payloads = [os.urandom(2 * SEGMENT_BYTES) for _ in range(2)]
    kept = []
    for number, payload in enumerate(payloads, 1):
        first.offer(two.sites[0].header(payload, round_=number), payload)
        kept += (await inbox.updates(1)).values()
        inbox.seen.clear()
        second.prune(number + 1)
    assert kept == payloads


async def test_a_scratch_folder_that_fails_is_told_and_survived(town: Towns, tmp_path: Path) -> None:
    two = town(2)
    a, b = two.sites
    receiver = await two.run(b, scratch=tmp_path / "none")
    payload = os.urandom(2 * SEGMENT_BYTES)
    async with raw(receiver, a.files) as connection:
        await connection.greet(a)
        answer = await connection.offer(a.header(payload), payload)
        assert (answer.kind, answer.reason) == (Answer.KIND_REFUSED, "no room")
        small = payload[:SEGMENT_BYTES]
        assert (await connection.offer(a.header(small, attempt=1), small)).kind == Answer.KIND_WANT
