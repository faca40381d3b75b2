"""The driver's side of the socket, with a real gRPC client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest
from blake3 import blake3
from covey_exchange import patch
from covey_exchange.codec import Sparse
from covey_exchange.manifest import Array
from covey_exchange.proto import driver_pb2 as wire
from covey_exchange.proto.driver_pb2_grpc import ValidatorServiceStub
from covey_validator import driver, service, tensors
from covey_validator.driver import DriverSession, Outcome
from covey_validator.errors import TaskFailed
from covey_validator.steps import Step
from covey_validator.tensors import SharedDirectory
from safetensors.numpy import load, save
from validator_world import MANIFEST, model

HELLO = wire.Report(hello=wire.Hello(ray_version="2.60", workers=2))


class Client:
    """A driver that speaks by hand."""

    def __init__(self, channel: grpc.aio.Channel, shared: Path) -> None:
        self.shared = shared
        self._next = ValidatorServiceStub(channel).Next

    async def say(self, report: wire.Report) -> wire.Work:
        return await asyncio.wait_for(self._next(report), 10)  # type: ignore[no-any-return]

    def put(self, name: str, parameters: dict[str, Array]) -> wire.Tensors:
        data = save(parameters)
        (self.shared / name).write_bytes(data)
        return wire.Tensors(file=name, digest=blake3(data).digest())

    async def join(self) -> None:
        await self.say(HELLO)

    def initialised(self, parameters: dict[str, Array] | None = None) -> wire.Report:
        files = self.put("driver-initial", parameters or model())
        return wire.Report(initialised=wire.Initialised(parameters=files, train_examples=80, holdout_examples=20))


@asynccontextmanager
async def connected(tmp_path: Path, session: DriverSession) -> AsyncIterator[Client]:
    async with (
        service.serve(session, tmp_path / "validator.sock"),
        grpc.aio.insecure_channel(f"unix:{tmp_path / 'validator.sock'}") as channel,
    ):
        yield Client(channel, tmp_path)


def _session(tmp_path: Path) -> DriverSession:
    # Futures belong to a loop, so the tests make the session inside one.
    return DriverSession('{"name":"x"}', 7, SharedDirectory(tmp_path))


def trained(client: Client, round_number: int, delta: dict[str, Array]) -> wire.Report:
    files = client.put(f"driver-delta-{round_number}", delta)
    return wire.Report(trained=wire.Trained(round=round_number, delta=files, samples=80, loss=0.5))


async def trained_with(shared: Path, make: Callable[[Client], wire.Tensors]) -> Outcome:
    """What the session takes from a driver that answers round 1 with these tensors."""
    session = _session(shared)
    async with connected(shared, session) as client:
        base = SharedDirectory(shared).write(1, "base", model())
        training = asyncio.create_task(session.train(1, bytes(32), [base]))
        await client.join()
        await client.say(client.initialised())
        report = wire.Report(trained=wire.Trained(round=1, delta=make(client), samples=1, loss=0))
        polling = asyncio.create_task(client.say(report))
        try:
            return await asyncio.wait_for(training, 10)
        finally:
            polling.cancel()


async def test_a_driver_is_given_program_training_evaluation_and_the_end(tmp_path: Path):
    session = _session(tmp_path)
    async with connected(tmp_path, session) as client:
        work = await client.say(HELLO)
        assert (work.initialise.terms_json, work.initialise.seed) == ('{"name":"x"}', 7)
        assert (session.ray_version, session.workers) == ("2.60", 2)

        base = SharedDirectory(tmp_path).write(1, "base", model())
        training = asyncio.create_task(session.train(1, bytes(32), [base]))
        work = await client.say(client.initialised())
        assert (work.train.round, work.train.base) == (1, base)
        start = await session.start()
        assert (start.train_examples, start.holdout_examples) == (80, 20)
        np.testing.assert_array_equal(load((tmp_path / base.file).read_bytes())["weight"], model()["weight"])

        evaluating = asyncio.create_task(session.evaluate(1, [wire.Candidate(label="base", parameters=base)]))
        await asyncio.sleep(0)
        work = await client.say(trained(client, 1, model(0.25)))
        outcome = await training
        assert (outcome.samples, outcome.loss, float(outcome.delta["weight"][0, 0])) == (80, 0.5, 0.25)
        assert [candidate.label for candidate in work.evaluate.candidates] == ["base"]

        ending = asyncio.create_task(session.finish("RoundsDone", "all done", 10))
        answer = wire.Evaluation(label="base", loss_sum=5, examples=20, metrics={"auc": 0.9})
        work = await client.say(wire.Report(evaluated=wire.Evaluated(round=1, evaluations=[answer])))
        assert (await evaluating)["base"].metrics["auc"] == 0.9
        assert (work.finish.reason, work.finish.message) == ("RoundsDone", "all done")
        await ending


async def test_a_driver_that_comes_back_is_told_again_what_to_do(tmp_path: Path):
    session = _session(tmp_path)
    async with connected(tmp_path, session) as client:
        training = asyncio.create_task(
            session.train(3, bytes(32), [SharedDirectory(tmp_path).write(3, "base", model())])
        )
        await client.join()
        first = await client.say(client.initialised())
        assert (await client.say(HELLO)).HasField("initialise")  # it died and starts anew
        assert await client.say(client.initialised()) == first
        polling = asyncio.create_task(client.say(trained(client, 3, model(1.0))))
        assert (await training).samples == 80
        polling.cancel()


async def test_no_work_is_answered_with_wait_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(driver, "POLL_SECONDS", 0.05)
    session = _session(tmp_path)
    async with connected(tmp_path, session) as client:
        await client.join()
        assert (await client.say(client.initialised())).HasField("wait")
        assert (await client.say(wire.Report(idle=wire.Idle()))).HasField("wait")


async def test_work_whose_round_is_over_is_taken_back(tmp_path: Path):
    session = _session(tmp_path)
    base = SharedDirectory(tmp_path).write(1, "base", model())
    async with connected(tmp_path, session) as client:
        stale = asyncio.create_task(session.evaluate(1, [wire.Candidate(label="base", parameters=base)]))
        await asyncio.sleep(0)
        session.drop_waiting()
        fresh = asyncio.create_task(session.train(2, bytes(32), [base]))
        await client.join()
        work = await client.say(client.initialised())
        assert work.train.round == 2
        await asyncio.gather(stale, return_exceptions=True)
        assert stale.cancelled()
        fresh.cancel()


async def test_a_failure_of_the_program_reaches_the_validator(tmp_path: Path):
    session = _session(tmp_path)
    async with connected(tmp_path, session) as client:
        failure = wire.Failure(reason="EntrypointNotFound", message="no such class", user_error=True)
        polling = asyncio.create_task(client.say(wire.Report(failure=failure)))
        failed = await asyncio.wait_for(session.failed(), 10)
        assert (failed.reason, failed.message, failed.user_error) == ("EntrypointNotFound", "no such class", True)
        polling.cancel()


async def test_a_model_with_nan_is_no_start_and_a_delta_with_nan_is_for_the_error_feedback_to_refuse(tmp_path: Path):
    spoilt = {**model(), "bias": np.array([0, np.nan, 0, 0], dtype=np.float32)}
    session = _session(tmp_path)
    async with connected(tmp_path, session) as client:
        await client.join()
        polling = asyncio.create_task(client.say(client.initialised(spoilt)))
        failed = await asyncio.wait_for(session.failed(), 10)
        assert failed.reason == "ProgramError"
        assert 'tensor "bias" has NaN or infinity' in failed.message
        polling.cancel()

    outcome = await trained_with(tmp_path, lambda client: client.put("driver-nan", spoilt))
    assert np.isnan(outcome.delta["bias"][1])


def bad_sha(client: Client) -> wire.Tensors:
    return wire.Tensors(file=client.put("driver-bad", model()).file, digest=bytes(32))


def outside(client: Client) -> wire.Tensors:
    data = save(model())
    (client.shared.parent / "outside").write_bytes(data)
    return wire.Tensors(file="../outside", digest=blake3(data).digest())


def link(client: Client) -> wire.Tensors:
    files = client.put("driver-real", model())
    (client.shared / "driver-link").symlink_to(client.shared / "driver-real")
    return wire.Tensors(file="driver-link", digest=files.digest)


def other_shape(client: Client) -> wire.Tensors:
    return client.put("driver-shape", {**model(), "bias": np.zeros(5, dtype=np.float32)})


def doubles(client: Client) -> wire.Tensors:
    return client.put("driver-f64", {n: a.astype(np.float64) for n, a in model().items()})  # type: ignore[misc]


def garbage(client: Client) -> wire.Tensors:
    (client.shared / "driver-garbage").write_bytes(b"\x80\x04pickle")
    return wire.Tensors(file="driver-garbage", digest=blake3(b"\x80\x04pickle").digest())


def huge(client: Client) -> wire.Tensors:
    data = b"\0" * (tensors.bytes_limit(MANIFEST) + 1)
    (client.shared / "driver-huge").write_bytes(data)
    return wire.Tensors(file="driver-huge", digest=blake3(data).digest())


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (bad_sha, "BLAKE3"),
        (outside, "plain file name"),
        (link, "cannot be read"),
        (other_shape, 'tensor "bias"'),
        (doubles, "float64"),
        (garbage, "driver-garbage"),
        (huge, "more than"),
        (lambda _client: wire.Tensors(file="driver-none", digest=bytes(32)), "No such file"),
    ],
)
async def test_tensors_are_checked_before_use(tmp_path: Path, make: Callable[[Client], wire.Tensors], word: str):
    shared = tmp_path / "shared"
    shared.mkdir()
    with pytest.raises(TaskFailed, match=word) as failed:
        await trained_with(shared, make)
    assert failed.value.reason == "ProgramError"


def test_the_same_model_gives_the_same_file(tmp_path: Path):
    shared = SharedDirectory(tmp_path)
    assert shared.write(1, "base", model(3.0)) == shared.write(1, "base", dict(reversed(model(3.0).items())))


def test_files_of_rounds_that_are_over_are_removed(tmp_path: Path):
    shared = SharedDirectory(tmp_path)
    for number in (1, 2, 10):
        shared.write(number, "base", model())
    shared.clear(2)
    assert [path.name for path in tmp_path.iterdir()] == ["validator-10-base.safetensors"]


def test_a_model_is_written_once_for_all_rounds_that_need_it(tmp_path: Path):
    shared = SharedDirectory(tmp_path)
    first = shared.write_model(2, b"\x01" * 32, model(1.0))
    assert shared.read(first[0], None)["weight"].flat[0] == 1.0
    assert shared.write_model(1, b"\x01" * 32, model(2.0)) == first, "not even looked at"
    shared.write_model(1, b"\x02" * 32, model(2.0))
    (tmp_path / f"validator-model-{'03' * 32}.safetensors").write_bytes(b"of an earlier life")
    shared.clear(1)
    assert [path.name for path in tmp_path.iterdir()] == [first[0].file]
    shared.clear(2)
    assert not list(tmp_path.iterdir())
    assert shared.write_model(3, b"\x01" * 32, model(1.0)) == first


def test_of_a_model_that_is_there_only_the_step_to_the_next_is_written(tmp_path: Path):
    shared = SharedDirectory(tmp_path)
    digests = [bytes([number]) * 32 for number in range(40)]
    base = {"weight": np.zeros(1000, dtype=np.float32)}
    files = [shared.write_model(1, digests[0], base)]
    for number in range(1, 40):
        changes = {"weight": Sparse(np.arange(10 * number), np.full(10 * number, number, np.float32), (1000,))}
        base = patch.apply(base, patch.of_parts(changes))
        step = Step(digests[number - 1], patch.of_parts(changes))
        files.append(shared.write_model(number + 1, digests[number], base, step))
        shared.clear(number)
        needed = {file.file for file in files[-1]}
        assert {path.name for path in tmp_path.iterdir()} == needed
        made = shared.read(files[-1][0], None)
        for file in files[-1][1:]:
            made = patch.apply(made, load((tmp_path / file.file).read_bytes()))
        assert made["weight"].tobytes() == base["weight"].tobytes()
    lengths = [len(each) for each in files]
    assert max(lengths) > 3
    assert lengths.count(1) > 2, "patches do not outgrow the model"
