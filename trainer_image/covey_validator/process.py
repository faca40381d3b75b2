"""One validator process from start to last word."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from covey_api.status import Reason
from covey_chain import signing
from covey_chain.errors import BadWalletKey, ChainError
from covey_exchange.agreement_types import Epoch
from covey_exchange.codec import kernels, max_bytes
from covey_exchange.exchange import Exchange
from covey_exchange.manifest import Manifest
from covey_exchange.tls import TlsFiles
from eth_utils import to_checksum_address

from covey_validator import allocator, chainlink, fallback, output, service, status, task
from covey_validator.archive import Archive
from covey_validator.attendance import Attendance
from covey_validator.chainlink import ChainLink
from covey_validator.clerk import Clerk
from covey_validator.driver import DriverSession
from covey_validator.errors import TaskFailed
from covey_validator.history import History
from covey_validator.loop import RoundLoop
from covey_validator.node import Base, Node
from covey_validator.progress import Progress
from covey_validator.rollbook import RollBook
from covey_validator.settings import ValidatorSettings
from covey_validator.settlement import Settler
from covey_validator.store import Start, Store
from covey_validator.task import Task
from covey_validator.tensors import SharedDirectory
from covey_validator.watermark import WaterMark

DRIVER_GOODBYE_SECONDS = 5.0
LINGER_SECONDS_MAX = 120
FAREWELL_SECONDS = 2.0
FAREWELL_SECONDS_MAX = 60.0
T = TypeVar("T")
_log = logging.getLogger(__name__)


class Validator:
    """Builds the parts from the settings and runs the task with them."""

    def __init__(self, settings: ValidatorSettings) -> None:
        self._settings = settings
        self._site = to_checksum_address(settings.site)
        self.progress = Progress(settings.task_name)
        self._exchange: Exchange | None = None

    async def run(self) -> dict[str, Any]:
        """Run the task.

        Returns:
            The termination message of a task that is done.

        Raises:
            TaskFailed: it cannot go on here; the driver has been told.
        """
        settings = self._settings
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(status.serve(self.progress, settings.status_listen, self._refresh))
            key = _session_key(settings.session_key_file)
            store = Store(settings.state_dir, self._site)
            kernels.cache_in(settings.state_dir / "kernels")
            self._count_on(store)
            link = ChainLink(settings.chain, key, settings.state_dir / "journal.json")
            stack.push_async_callback(link.close)
            known = await self._task(store, link)
            self._check_key(known, key)
            self.progress.rounds, self.progress.peers = known.terms.rounds.count, len(known.sites) - 1
            digest = store.base()
            parameters = store.model(digest) if digest else None
            session = DriverSession(
                known.terms.canonical().decode(),
                known.seed,
                SharedDirectory(settings.shared_dir),
                Manifest.from_arrays(parameters) if parameters else None,
            )
            await stack.enter_async_context(service.serve(session, settings.socket))
            try:
                node, base = await _or_failure(self._join(known, key, store, session, link), session)
                stack.push_async_callback(node.exchange.close)
                return await self._train(node, base, link)
            except TaskFailed as failure:
                self.progress.say("Failed", failure.message)
                await session.finish(failure.reason, failure.message, DRIVER_GOODBYE_SECONDS)
                if failure.concerns_all:
                    await self._let_hear()
                raise

    # --- start ------------------------------------------------------------------------------------------------------

    async def _task(self, store: Store, link: ChainLink) -> Task:
        """The task as stored, or from the chain."""
        data = store.get("task")
        if data is not None:
            return Task.model_validate_json(data)

        async def read() -> Task:
            chain, _ = await link.connect()
            return await task.read_task(chain, bytes.fromhex(self._settings.task_id[2:]), self._site)

        self.progress.say("Starting", "reading the task from the chain")
        try:
            found = await task.patiently(read, lambda problem: self.progress.say("Starting", problem))
        except ChainError as error:
            raise TaskFailed(Reason.INVALID_SPEC, str(error), user_error=True) from error
        store.put("task", found)
        return found

    async def _join(
        self, known: Task, key: bytes, store: Store, session: DriverSession, link: ChainLink
    ) -> tuple[Node, Base]:
        """Wait for the driver's first model (unless we have it from before), and reach out to the peers."""
        settings = self._settings
        start = store.start
        if start is None:
            self.progress.say("Starting", "waiting for the driver to load the program")
            said = await session.start()
            digest = await asyncio.to_thread(store.put_model, said.parameters)
            start = Start(base=digest.hex(), train_examples=said.train_examples, holdout_examples=said.holdout_examples)
            store.put("start", start)
        newest = store.newest()
        digest = newest.model_digest if newest else bytes.fromhex(start.base)
        parameters = await asyncio.to_thread(store.model, digest)
        manifest = Manifest.from_arrays(parameters)
        self._exchange = Exchange(
            domain=known.domain,
            task_id=known.task_id,
            site=self._site,
            peers=[site.peer for site in known.sites],
            tls=TlsFiles(settings.tls_key_file, settings.tls_cert_file),
            listen=settings.exchange.listen,
            max_update_bytes=max_bytes(known.codec, manifest),
            egress=settings.exchange.egress,
        )
        for number in store.open_rounds():
            store.load_messages(number, self._exchange.roster)
            record = store.certified(number)
            if record is not None and newest is not None and number <= newest.round:
                store.finish_round(record)
        archive = Archive(store.updates, self._exchange.roster, max_bytes(known.codec, manifest))
        archive.serve(self._exchange)
        clerk = Clerk(link.connect, known, settings.chain.confirmations)
        watermark = WaterMark(settings.output_dir, known.task_id, self._site)
        everybody = Epoch(0, known.stakes)
        roll = RollBook(store, self._site, known.task_id, everybody, self._exchange.roster, watermark.mark)
        node = Node(
            task=known,
            site=self._site,
            session_key=key,
            store=store,
            exchange=self._exchange,
            session=session,
            shared=SharedDirectory(settings.shared_dir),
            manifest=manifest,
            holdout_examples=start.holdout_examples,
            progress=self.progress,
            archive=archive,
            history=History(known, manifest, clerk.until),
            clerk=clerk,
            roll=roll,
            watermark=watermark,
        )
        await self._exchange.start()
        if newest is not None:
            self.progress.say("Starting", f"taking in the updates of {newest.round} rounds")
        await node.history.follow(store.history(newest), partial(archive.obtain, self._exchange))
        return node, Base(parameters, digest)

    # --- task -------------------------------------------------------------------------------------------------------

    async def _train(self, node: Node, base: Base, link: ChainLink) -> dict[str, Any]:
        for warning in node.task.terms.incentives.warnings(node.task.terms.rounds.count):
            _log.warning("%s", warning)
        allocator.leave_what_is_here()
        settler = Settler(link.connect, node)
        loop = RoundLoop(node, base, settler.certified)
        attendance = Attendance(link.connect, node, loop, self._settings.chain.confirmations)
        last_resort = fallback.run(link.connect, node)
        companions = (loop.listen(), settler.run(), attendance.run(), chainlink.watch(link, node), last_resort)
        return await _or_failure(_among(self._finish(node, loop, settler), *companions), node.session)

    async def _finish(self, node: Node, loop: RoundLoop, settler: Settler) -> dict[str, Any]:
        """All rounds, then what follows the last one."""
        record = await loop.run()
        self._refresh()
        folder = self._settings.output_dir / self._settings.task_name
        model = await asyncio.to_thread(output.write_output, folder, loop.base.parameters, record, self.progress)
        self.progress.say("Settling", "all rounds are done; waiting for the last result on chain")
        await node.session.finish(Reason.ROUNDS_DONE, "all rounds are done", DRIVER_GOODBYE_SECONDS)
        await settler.until_settled()
        self.progress.say("Done", f"settled on chain; the model is at {model}")
        await self._linger(node, loop)
        node.watermark.forget()
        self._refresh()
        return output.success(record, node.site, str(model), self.progress)

    async def _linger(self, node: Node, loop: RoundLoop) -> None:
        """Stay a while for those who do not have the last result yet."""
        try:
            async with asyncio.timeout(min(node.task.deadline_seconds, LINGER_SECONDS_MAX)):
                await loop.until_last_signed()
        except TimeoutError:
            _log.info("not every participant has signed the last result; leaving all the same")

    async def _let_hear(self) -> None:
        """Give every peer the time to hear what we said last, so that it need not wait for us."""
        assert self._exchange is not None
        try:
            async with asyncio.timeout(FAREWELL_SECONDS_MAX):
                await self._exchange.until_connected(self.progress.peers)
                await asyncio.sleep(FAREWELL_SECONDS)
        except TimeoutError:
            _log.warning("not every participant could be told")

    # --- words ------------------------------------------------------------------------------------------------------

    def _check_key(self, known: Task, key: bytes) -> None:
        registered = next(site.session_key for site in known.sites if site.address == self._site)
        if signing.address_of(key) != registered:
            raise TaskFailed(
                Reason.BAD_WALLET_KEY,
                f"the session key file holds the key of {signing.address_of(key)}, the chain knows {registered}",
            )

    def _count_on(self, store: Store) -> None:
        counters = store.counters()
        self.progress.bytes_before = counters.get("bytesSent", 0)
        self.progress.raw_bytes = counters.get("rawBytes", 0)
        self.progress.payload_bytes = counters.get("payloadBytes", 0)

    def _refresh(self) -> None:
        self.progress.egress_bits_per_second = self._settings.exchange.egress().bits_per_second
        if self._exchange is not None:
            self.progress.look_at(self._exchange)


async def _or_failure(work: Coroutine[Any, Any, T], session: DriverSession) -> T:
    """Do something unless the driver reports a failure first."""

    async def failure() -> None:
        raise await session.failed()

    return await _among(work, failure())


async def _among(work: Coroutine[Any, Any, T], *companions: Coroutine[Any, Any, None]) -> T:
    """Run `work` with companions that end with it; what one of them raises ends all."""
    task_of_work = asyncio.create_task(work)
    tasks: set[asyncio.Task[Any]] = {task_of_work, *(asyncio.create_task(c) for c in companions)}
    try:
        pending = tasks
        while not task_of_work.done():
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for finished in done:
                finished.result()
        return task_of_work.result()
    finally:
        for running in tasks:
            running.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _session_key(path: Path) -> bytes:
    try:
        return signing.private_key(path.read_text())
    except OSError as error:
        raise TaskFailed(Reason.BAD_WALLET_KEY, f"session key {path}: {error.strerror}") from error
    except BadWalletKey as error:
        raise TaskFailed(Reason.BAD_WALLET_KEY, f"session key {path}: {error}") from error
