"""The driver against a real gRPC server on a Unix socket that plays a validator by script."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from queue import Queue
from threading import Event, Thread

import grpc
import numpy as np
import pytest
from blake3 import blake3
from covey_api.task import TaskSpec
from covey_api.terms import TaskTerms
from covey_exchange.proto import driver_pb2 as wire
from covey_exchange.proto.driver_pb2_grpc import ValidatorServiceServicer, add_ValidatorServiceServicer_to_server
from covey_trainer.driver import Driver, write_termination_message
from covey_trainer.errors import HandoverError, ProgramError, TrainerError, ValidatorLost
from covey_trainer.executor import Evaluation, Initialised, Parameters, Trained
from covey_trainer.settings import DriverSettings
from safetensors.numpy import load_file, save_file

BASE = {"w": np.array([1.0, 2.0], dtype=np.float32)}
FINISH = wire.Work(finish=wire.Finish(reason="RoundsDone", message="all 3 rounds are done"))


class CountingExecutor:
    """Halves parameters and counts how often it was asked."""

    workers = 2
    ray_version = "2.60.0"

    def __init__(self, error: TrainerError | None = None) -> None:
        self.calls: list[str] = []
        self._error = error

    def initialise(self, terms: TaskTerms, seed: int) -> Initialised:
        self.calls.append(f"initialise {terms.name} {seed}")
        if self._error:
            raise self._error
        return Initialised(BASE, 80, 20)

    def train(self, base: Parameters, round_number: int) -> Trained:
        self.calls.append(f"train {round_number}")
        return Trained({name: array / 2 for name, array in base.items()}, 64, 0.5)

    def evaluate(self, candidates: Sequence[Parameters], metrics: bool) -> list[Evaluation]:
        self.calls.append(f"evaluate {len(candidates)}")
        values = {"auc": 0.75} if metrics else {}
        return [Evaluation(float(each["w"].sum()), 20, values) for each in candidates]

    def close(self) -> None:
        self.calls.append("close")


Step = wire.Work | Callable[[wire.Report], wire.Work]


class Script(ValidatorServiceServicer):
    """Answers reports in turn; when the steps are used up it hangs until it is stopped."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self.reports: list[wire.Report] = []
        self.hanging = Event()
        self.stopped = Event()
        self._steps = iter(steps)

    def Next(self, request: wire.Report, context: grpc.ServicerContext) -> wire.Work:
        self.reports.append(request)
        step = next(self._steps, None)
        if step is None:
            self.hanging.set()
            self.stopped.wait(30)
            return wire.Work(wait=wire.Wait())
        return step if isinstance(step, wire.Work) else step(request)

    @property
    def kinds(self) -> list[str | None]:
        return [report.WhichOneof("report") for report in self.reports]


@contextmanager
def validator(socket: Path, *steps: Step) -> Iterator[Script]:
    script = Script(steps)
    server = grpc.server(futures.ThreadPoolExecutor(2))
    add_ValidatorServiceServicer_to_server(script, server)
    server.add_insecure_port(f"unix:{socket}")
    server.start()
    try:
        yield script
    finally:
        stopped = server.stop(None)  # calls in flight are cut off before the script lets go of them
        script.stopped.set()
        stopped.wait()


@pytest.fixture
def settings(tmp_path: Path) -> DriverSettings:
    return DriverSettings(socket=tmp_path / "v.sock", shared=tmp_path, validator_timeout_seconds=10)


@pytest.fixture
def initialise() -> wire.Work:
    spec = TaskSpec.model_validate(
        {
            "subnet": "s",
            "bounty": {"amount": "1"},
            "program": {"image": "i", "entrypoint": "a:B"},
            "data": {"schema": "x"},
            "rounds": {"count": 3},
        }
    )
    return wire.Work(initialise=wire.Initialise(terms_json=TaskTerms.of("t", spec).canonical().decode(), seed=5))


def stored(directory: Path, name: str, parameters: Parameters) -> wire.Tensors:
    save_file(dict(parameters), directory / name)
    return wire.Tensors(file=name, digest=blake3((directory / name).read_bytes()).digest())


def train(directory: Path, round_number: int, parameters: Parameters = BASE) -> wire.Work:
    base = stored(directory, f"base-{round_number}", parameters)
    digest = hashlib.sha256(parameters["w"].tobytes()).digest()
    return wire.Work(train=wire.Train(round=round_number, base=base, digest=digest))


def test_a_round_is_trained_evaluated_and_reported(settings: DriverSettings, initialise: wire.Work) -> None:
    shared = settings.shared
    deltas: list[Parameters] = []

    def trained(report: wire.Report) -> wire.Work:
        deltas.append(load_file(shared / report.trained.delta.file))
        assert blake3((shared / report.trained.delta.file).read_bytes()).digest() == report.trained.delta.digest
        candidates = [
            wire.Candidate(label=label, parameters=stored(shared, label, {"w": np.full(2, value, np.float32)}))
            for label, value in (("base", 1), ("candidate", 3))
        ]
        return wire.Work(evaluate=wire.Evaluate(round=1, candidates=candidates, metrics=True))

    with validator(
        settings.socket, initialise, wire.Work(wait=wire.Wait()), train(shared, 1), trained, FINISH
    ) as script:
        finish = Driver(CountingExecutor(), settings).run()
    assert finish.reason == "RoundsDone"
    assert script.kinds == ["hello", "initialised", "idle", "trained", "evaluated"]
    assert script.reports[0].hello == wire.Hello(ray_version="2.60.0", workers=2)
    assert (script.reports[1].initialised.train_examples, script.reports[1].initialised.holdout_examples) == (80, 20)
    assert np.array_equal(deltas[0]["w"], BASE["w"] / 2)
    evaluated = script.reports[4].evaluated
    assert [(e.label, e.loss_sum, e.examples, dict(e.metrics)) for e in evaluated.evaluations] == [
        ("base", 2.0, 20, {"auc": 0.75}),
        ("candidate", 6.0, 20, {"auc": 0.75}),
    ]
    assert not list(shared.glob("driver-*")), "a driver that ends removes its files"


def test_a_candidate_can_be_a_patch_of_an_earlier_one(settings: DriverSettings, initialise: wire.Work) -> None:
    shared = settings.shared

    def evaluate(differs_from: str) -> wire.Work:
        whole = wire.Candidate(label="candidate", parameters=stored(shared, "whole", {"w": np.full(2, 3, np.float32)}))
        changes = {"indices/w": np.array([1]), "values/w": np.array([5], np.float32)}
        save_file(changes, shared / "changes")
        file = wire.Tensors(file="changes", digest=blake3((shared / "changes").read_bytes()).digest())
        part = wire.Candidate(label="without", parameters=file, differs_from=differs_from)
        return wire.Work(evaluate=wire.Evaluate(round=1, candidates=[whole, part]))

    with validator(settings.socket, initialise, evaluate("candidate"), FINISH) as script:
        Driver(CountingExecutor(), settings).run()
    assert [(e.label, e.loss_sum) for e in script.reports[2].evaluated.evaluations] == [
        ("candidate", 6.0),
        ("without", 8.0),
    ]
    with validator(settings.socket, initialise, evaluate("another"), FINISH), pytest.raises(HandoverError):
        Driver(CountingExecutor(), settings).run()


def changed(directory: Path, name: str, value: float) -> wire.Tensors:
    return stored(directory, name, {"indices/w": np.array([1]), "values/w": np.array([value], np.float32)})


def test_a_model_is_made_of_patches_and_what_is_held_is_not_read_again(
    settings: DriverSettings, initialise: wire.Work
) -> None:
    shared, deltas = settings.shared, []
    whole = stored(shared, "whole", {"w": np.array([1, 1], np.float32)})
    steps = [changed(shared, f"step-{value}", value) for value in (2, 3, 4)]

    def step(number: int, count: int, gone: str = "none") -> Callable[[wire.Report], wire.Work]:
        def make(report: wire.Report) -> wire.Work:
            if report.HasField("trained"):
                deltas.append(load_file(shared / report.trained.delta.file)["w"].tolist())
            (shared / gone).unlink(missing_ok=True)
            digest = bytes([number])
            return wire.Work(train=wire.Train(round=number, base=whole, patches=steps[:count], digest=digest))

        return make

    def evaluate(report: wire.Report) -> wire.Work:
        step(3, 0)(report)
        candidates = [wire.Candidate(label=str(count), parameters=whole, patches=steps[:count]) for count in (2, 3)]
        return wire.Work(evaluate=wire.Evaluate(round=2, candidates=candidates))

    script = (
        step(1, 1),
        step(2, 2, gone="whole"),
        evaluate,
        step(4, 3, gone="step-4"),
        lambda r: step(5, 3)(r) and FINISH,
    )
    with validator(settings.socket, initialise, *script) as seen:
        Driver(CountingExecutor(), settings).run()
    assert deltas == [[0.5, 1.0], [0.5, 1.5], [0.5, 2.0]]
    assert [e.loss_sum for e in seen.reports[4].evaluated.evaluations] == [4.0, 5.0]


def test_the_same_model_from_other_files_is_the_same_question(settings: DriverSettings, initialise: wire.Work) -> None:
    shared, executor = settings.shared, CountingExecutor()
    whole = stored(shared, "whole", {"w": np.array([1, 2], np.float32)})
    base, step = stored(shared, "base", {"w": np.array([1, 1], np.float32)}), changed(shared, "step", 2)
    asked = [
        wire.Work(train=wire.Train(round=1, base=base, patches=[step], digest=b"one")),
        wire.Work(train=wire.Train(round=1, base=whole, digest=b"one")),
        wire.Work(train=wire.Train(round=1, base=base, digest=b"another")),
    ]
    with validator(settings.socket, initialise, *asked, FINISH):
        Driver(executor, settings).run()
    assert [call for call in executor.calls if call.startswith("train")] == ["train 1"] * 2


def test_only_the_newest_delta_is_kept(settings: DriverSettings, initialise: wire.Work) -> None:
    names: list[list[str]] = []

    def look(_: wire.Report) -> wire.Work:
        names.append(sorted(path.name for path in settings.shared.glob("driver-delta-*")))
        return train(settings.shared, 2) if len(names) == 1 else FINISH

    with validator(settings.socket, initialise, train(settings.shared, 1), look, look):
        Driver(CountingExecutor(), settings).run()
    assert names == [["driver-delta-1.safetensors"], ["driver-delta-2.safetensors"]]


def test_the_same_question_gets_the_same_answer_without_training_again(
    settings: DriverSettings, initialise: wire.Work
) -> None:
    work = train(settings.shared, 1)
    executor = CountingExecutor()
    with validator(settings.socket, initialise, work, initialise, work, FINISH) as script:
        Driver(executor, settings).run()
    assert script.reports[2] == script.reports[4]
    assert executor.calls == ["initialise t 5", "train 1"]


def test_a_driver_waits_for_a_validator_that_starts_later(settings: DriverSettings, initialise: wire.Work) -> None:
    outcome: Queue[wire.Finish] = Queue()
    thread = Thread(target=lambda: outcome.put(Driver(CountingExecutor(), settings).run()))
    thread.start()
    with validator(settings.socket, initialise, FINISH):
        assert outcome.get(timeout=10).reason == "RoundsDone"
    thread.join()


def test_a_validator_that_restarts_hears_hello_and_goes_on(settings: DriverSettings, initialise: wire.Work) -> None:
    work = train(settings.shared, 1)
    executor = CountingExecutor()
    outcome: Queue[wire.Finish] = Queue()
    thread = Thread(target=lambda: outcome.put(Driver(executor, settings).run()))
    with validator(settings.socket, initialise, work) as first:
        thread.start()
        assert first.hanging.wait(10), "the update has been reported; the validator dies before it answers"
    with validator(settings.socket, initialise, work, FINISH) as second:
        assert outcome.get(timeout=10).reason == "RoundsDone"
    thread.join()
    assert second.kinds == ["hello", "initialised", "trained"]
    assert executor.calls == ["initialise t 5", "train 1"]


def test_a_validator_that_stays_away_is_given_up(tmp_path: Path) -> None:
    settings = DriverSettings(socket=tmp_path / "none.sock", shared=tmp_path, validator_timeout_seconds=0.3)
    with pytest.raises(ValidatorLost, match=r"none\.sock"):
        Driver(CountingExecutor(), settings).run()


def test_a_failure_is_told_to_the_validator_with_its_remedy(settings: DriverSettings, initialise: wire.Work) -> None:
    error = ProgramError("loss() raised ValueError: no.", "Mend the program.")
    with validator(settings.socket, initialise, FINISH) as script, pytest.raises(ProgramError):
        Driver(CountingExecutor(error), settings).run()
    assert script.reports[1].failure == wire.Failure(
        reason="ProgramError", message="loss() raised ValueError: no. Mend the program.", user_error=True
    )


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda base: base.MergeFrom(wire.Tensors(digest=b"\0" * 32)), "announced content"),
        (lambda base: base.MergeFrom(wire.Tensors(file="missing")), "cannot be read"),
        (lambda base: base.MergeFrom(wire.Tensors(file="../base-1")), "plain file name"),
    ],
)
def test_a_file_that_is_not_what_was_announced_is_refused(
    settings: DriverSettings, initialise: wire.Work, change: Callable[[wire.Tensors], None], complaint: str
) -> None:
    work = train(settings.shared, 1)
    change(work.train.base)
    executor = CountingExecutor()
    with (
        validator(settings.socket, initialise, work, FINISH) as script,
        pytest.raises(HandoverError, match=complaint),
    ):
        Driver(executor, settings).run()
    assert not script.reports[2].failure.user_error
    assert executor.calls == ["initialise t 5"]


def test_a_base_of_another_shape_is_refused_by_tensor(settings: DriverSettings, initialise: wire.Work) -> None:
    work = train(settings.shared, 1, {"w": np.zeros(3, np.float32)})
    with validator(settings.socket, initialise, work, FINISH), pytest.raises(HandoverError, match='"w"'):
        Driver(CountingExecutor(), settings).run()


def test_a_task_that_changes_under_way_is_refused(settings: DriverSettings, initialise: wire.Work) -> None:
    other = wire.Work()
    other.CopyFrom(initialise)
    other.initialise.seed = 6
    with validator(settings.socket, initialise, other, FINISH), pytest.raises(HandoverError, match="seed"):
        Driver(CountingExecutor(), settings).run()


def test_files_of_a_driver_that_was_killed_are_removed(settings: DriverSettings) -> None:
    leftover = settings.shared / "driver-delta-7.safetensors"
    leftover.write_bytes(b"half")
    Driver(CountingExecutor(), settings)
    assert not leftover.exists()


def test_the_termination_message_fits_kubernetes_whatever_the_program_says(tmp_path: Path) -> None:
    path = tmp_path / "termination"
    write_termination_message(path, ProgramError('"ä' * 5000, "Mend it."))
    document = json.loads(path.read_bytes())
    assert path.stat().st_size <= 4096
    assert (document["outcome"], document["reason"], document["userError"]) == ("Failed", "ProgramError", True)
    assert document["message"].startswith('"ä')
