"""Whose answers count: a validator that is still asked, and one that has ended."""

from __future__ import annotations

from aiohttp import ClientSession, web
from covey_operator.plan.report import Progress
from covey_operator.progress import ProgressPoller

TASK, SUBNET = ("FederatedTask", "oncology", "wdbc"), ("Subnet", "oncology", "eu")


async def test_what_an_ended_task_said_of_its_peers_is_history_and_its_subnet_hears_of_it():
    async def status(_: web.Request) -> web.Response:
        return web.json_response({"round": 4, "peers": 1, "peersConnected": 1})

    app = web.Application()
    app.add_routes([web.get("/status", status)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    woken: list[object] = []
    poller = ProgressPoller(0.1, woken.append, port=runner.addresses[0][1])
    poller.watch(TASK, "127.0.0.1", SUBNET)
    async with ClientSession() as session:
        await poller._ask(session, TASK, "127.0.0.1")
    assert woken == [TASK, SUBNET]
    assert poller.live(TASK) == poller.answer(TASK) == Progress(round=4, peers=1, peers_connected=1)
    for _ in range(2):
        poller.watch(TASK, None, SUBNET)
    assert woken == [TASK, SUBNET, SUBNET]
    assert poller.live(TASK) is None
    assert poller.answer(TASK) is not None, "the end is still to be recorded"
    await runner.cleanup()
