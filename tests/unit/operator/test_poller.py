"""Whose answers count: a validator that is still asked, and one that has ended."""

from __future__ import annotations

import asyncio

from aiohttp import web
from covey_operator.plan.report import Progress
from covey_operator.progress import ProgressPoller

TASK, SUBNET = ("FederatedTask", "oncology", "wdbc"), ("Subnet", "oncology", "eu")


def key(name: str) -> tuple[str, str, str]:
    return "FederatedTask", "oncology", name


def test_heads_are_asked_in_turn_and_a_new_one_first():
    poller = ProgressPoller(0.1, lambda key, wait: None)
    for name in ("a", "b", "c"):
        poller.watch(key(name), "10.0.0.1", SUBNET)
    first = [poller._next() for _ in range(3)]
    assert set(first) == {key("a"), key("b"), key("c")}
    poller.watch(first[1], "10.0.0.1", SUBNET)
    assert poller._next() == first[0], "who is asked already keeps its place"
    poller.watch(key("new"), "10.0.0.2", SUBNET)
    poller.watch(first[2], None, SUBNET)
    assert [poller._next() for _ in range(4)] == [key("new"), first[1], first[0], key("new")]
    for gone in (key("new"), first[0], first[1]):
        poller.forget(gone)
    assert poller._next() is None


async def test_who_does_not_answer_keeps_nobody_waiting():
    answered = asyncio.Event()

    async def status(_: web.Request) -> web.Response:
        return web.json_response({"round": 4})

    app = web.Application()
    app.add_routes([web.get("/status", status)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    silent = await asyncio.start_server(lambda reader, writer: None, "127.0.0.2", port)
    poller = ProgressPoller(0.01, lambda key, wait: answered.set(), port=port)
    poller.watch(key("loud"), "127.0.0.1", SUBNET)
    poller.watch(key("silent"), "127.0.0.2", SUBNET)
    running = asyncio.create_task(poller.run())
    await asyncio.wait_for(answered.wait(), 30)
    assert poller.answer(key("loud")) == Progress(round=4)
    assert poller.answer(key("silent")) is None
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await poller.close()
    silent.close()
    await runner.cleanup()


async def test_what_an_ended_task_said_of_its_peers_is_history_and_its_subnet_hears_of_it():
    async def status(_: web.Request) -> web.Response:
        return web.json_response({"round": 4, "peers": 1, "peersConnected": 1})

    app = web.Application()
    app.add_routes([web.get("/status", status)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    woken: list[object] = []
    poller = ProgressPoller(0.1, lambda key, wait: woken.append(key), port=runner.addresses[0][1])
    poller.watch(TASK, "127.0.0.1", SUBNET)
    await poller._ask_and_wake(TASK, "127.0.0.1")
    await poller.close()
    assert woken == [SUBNET, TASK]
    assert poller.live(TASK) == poller.answer(TASK) == Progress(round=4, peers=1, peers_connected=1)
    for _ in range(2):
        poller.watch(TASK, None, SUBNET)
    assert woken == [SUBNET, TASK, SUBNET]
    assert poller.live(TASK) is None
    assert poller.answer(TASK) is not None, "the end is still to be recorded"
    await runner.cleanup()
