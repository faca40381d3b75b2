"""The driver: asks the validator what to do, has an executor do it, and reports back. It decides nothing.

The validator is the server and the side with memory. After every (re)connection the driver says Hello and is told
again what to do. The same question gets the same answer: a repeated `Train` is answered from the last outcome, because
the inner optimiser has moved on and a second try would give another update for the same round.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import grpc
from covey_api.terms import TaskTerms, TermsError
from covey_exchange.manifest import Manifest
from covey_exchange.proto import driver_pb2 as wire
from covey_exchange.proto.driver_pb2_grpc import ValidatorServiceStub

from covey_trainer.errors import HandoverError, TrainerError, ValidatorLost
from covey_trainer.executor import Executor, Initialised, Parameters
from covey_trainer.models import Models
from covey_trainer.settings import DriverSettings
from covey_trainer.tensors import Handover

log = logging.getLogger(__name__)

# A poll ends well before this with Wait; a validator that takes longer hangs.
POLL_TIMEOUT_SECONDS = 180.0
RECONNECT_SECONDS = 0.2
TERMINATION_MESSAGE_BYTES = 4096  # Kubernetes cuts off the rest
_LOST = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED)
_MIB = 1024 * 1024


class Driver:
    """One site's round loop, seen from the training side."""

    def __init__(
        self, executor: Executor, settings: DriverSettings, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._executor = executor
        self._settings = settings
        self._clock = clock
        self._handover = Handover(settings.shared)
        self._models: Models | None = None
        self._initialised: tuple[bytes, wire.Report] | None = None
        self._trained: tuple[tuple[int, bytes], wire.Report] | None = None

    def run(self) -> wire.Finish:
        """Work until the validator says Finish.

        Raises:
            TrainerError: the task cannot go on here; the validator has been told if it could be reached.
        """
        try:
            return self._loop()
        finally:
            self._handover.close()

    def _loop(self) -> wire.Finish:
        last_contact = self._clock()
        while True:
            with _channel(self._settings.socket) as channel:
                next_work = ValidatorServiceStub(channel).Next
                report = self._hello()
                try:
                    while True:
                        work = next_work(report, timeout=POLL_TIMEOUT_SECONDS)
                        last_contact = self._clock()
                        if work.HasField("finish"):
                            return work.finish
                        try:
                            report = self._do(work)
                        except TrainerError as error:
                            next_work(_failure(error), timeout=POLL_TIMEOUT_SECONDS)
                            raise
                        last_contact = self._clock()
                except grpc.RpcError as error:
                    if error.code() not in _LOST:
                        raise ValidatorLost(
                            f"The validator refused a report ({error.code().name}): {error.details()}.",
                            "See the log of container validator.",
                        ) from error
                    away = self._clock() - last_contact
                    if away > self._settings.validator_timeout_seconds:
                        raise ValidatorLost(
                            f"No validator at {self._settings.socket} for {away:.0f} s.",
                            "See the log of container validator.",
                        ) from error
            time.sleep(RECONNECT_SECONDS)

    def _hello(self) -> wire.Report:
        return wire.Report(hello=wire.Hello(ray_version=self._executor.ray_version, workers=self._executor.workers))

    def _do(self, work: wire.Work) -> wire.Report:
        match work.WhichOneof("work"):
            case "initialise":
                return self._initialise(work.initialise)
            case "train":
                return self._train(work.train)
            case "evaluate":
                return self._evaluate(work.evaluate)
            case "wait":
                return wire.Report(idle=wire.Idle())
            case kind:
                raise HandoverError(
                    f"The validator asks for work of unknown kind {kind}.", "Use images of one version."
                )

    def _initialise(self, work: wire.Initialise) -> wire.Report:
        question = work.SerializeToString(deterministic=True)
        if self._initialised is None:
            try:
                terms = TaskTerms.parse(work.terms_json.encode())
            except TermsError as error:
                raise HandoverError(
                    f"The validator sent unusable terms: {error}.", "Use images of one version."
                ) from error
            log.info("initialising task %s with program %s", terms.name, terms.program.entrypoint)
            outcome: Initialised = self._executor.initialise(terms, work.seed)
            manifest = Manifest.from_arrays(outcome.parameters)
            self._models = Models(self._handover, manifest)
            log.info(
                "model of %d parameters; %d records to train on, %d held out",
                manifest.parameters,
                outcome.train_examples,
                outcome.holdout_examples,
            )
            report = wire.Report(
                initialised=wire.Initialised(
                    parameters=self._handover.write("initial", 0, outcome.parameters),
                    train_examples=outcome.train_examples,
                    holdout_examples=outcome.holdout_examples,
                )
            )
            self._initialised = (question, report)
        known, report = self._initialised
        if known != question:
            raise HandoverError("The validator changed the task's terms or seed.", "Delete the pod: it starts afresh.")
        return report

    def _train(self, work: wire.Train) -> wire.Report:
        question = (work.round, work.digest)  # not the files: after a restart there may be others of the same model
        if self._trained is not None and self._trained[0] == question:
            return self._trained[1]
        base = self._known_models().read(work.base, work.patches)
        outcome = self._executor.train(base, work.round)
        log.info("round %d: mean training loss %.5f over %d samples", work.round, outcome.loss, outcome.samples)
        trained = wire.Trained(
            round=work.round,
            delta=self._handover.write("delta", work.round, outcome.delta),
            samples=outcome.samples,
            loss=outcome.loss,
        )
        self._trained = (question, wire.Report(trained=trained))
        return self._trained[1]

    def _evaluate(self, work: wire.Evaluate) -> wire.Report:
        models: dict[str, Parameters] = {}
        for candidate in work.candidates:
            models[candidate.label] = self._candidate(candidate, models)
        outcomes = self._executor.evaluate(list(models.values()), work.metrics)
        evaluations = [
            wire.Evaluation(label=candidate.label, loss_sum=o.loss_sum, examples=o.examples, metrics=o.metrics)
            for candidate, o in zip(work.candidates, outcomes, strict=True)
        ]
        return wire.Report(evaluated=wire.Evaluated(round=work.round, evaluations=evaluations))

    def _candidate(self, candidate: wire.Candidate, earlier: Mapping[str, Parameters]) -> Parameters:
        models = self._known_models()
        if not candidate.differs_from:
            return models.read(candidate.parameters, candidate.patches)
        if candidate.differs_from not in earlier:
            raise HandoverError(
                f"{candidate.label} differs from {candidate.differs_from}, which is not there.",
                "Use images of one version.",
            )
        return models.patched(earlier[candidate.differs_from], candidate.parameters)

    def _known_models(self) -> Models:
        if self._models is None:
            raise HandoverError("The validator asks for work before Initialise.", "Use images of one version.")
        return self._models


def write_termination_message(path: Path | None, error: TrainerError) -> None:
    """Leave the reason where the kubelet picks it up (container `terminationMessagePath`)."""
    if path is None:
        return
    message = str(error)
    while True:
        document = {
            "outcome": "Failed",
            "reason": error.reason.value,
            "message": message,
            "userError": error.user_error,
        }
        encoded = json.dumps(document, ensure_ascii=False).encode()
        if len(encoded) <= TERMINATION_MESSAGE_BYTES:
            path.write_bytes(encoded)
            return
        # A character takes at most six bytes as JSON, so this never cuts too much.
        message = message[: -max(1, (len(encoded) - TERMINATION_MESSAGE_BYTES) // 6)]


def _failure(error: TrainerError) -> wire.Report:
    return wire.Report(failure=wire.Failure(reason=error.reason.value, message=str(error), user_error=error.user_error))


def _channel(socket: Path) -> grpc.Channel:
    # Terms (24 KiB) and labels are the largest things in a message. No proxy between two containers of a pod.
    options = [("grpc.max_receive_message_length", 4 * _MIB), ("grpc.enable_http_proxy", 0)]
    return grpc.insecure_channel(f"unix:{socket.absolute()}", options=options)
