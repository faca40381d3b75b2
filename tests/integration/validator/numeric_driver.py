"""A driver without torch: pulls the model half way to its site's own target each round, over the real socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from pathlib import Path

import grpc
import numpy as np
from blake3 import blake3
from covey_exchange import patch
from covey_exchange.manifest import Array
from covey_exchange.proto import driver_pb2 as wire
from covey_exchange.proto.driver_pb2_grpc import ValidatorServiceStub
from safetensors.numpy import load, save

HOLDOUT = 100
SHAPE = (64, 80)  # larger than one chunk of the codec


def target(index: int) -> Array:
    """What this site's data would teach."""
    return np.random.default_rng(index).normal(1.0, 0.3, SHAPE).astype(np.float32)


class NumericDriver:
    """One site's driver.

    Attributes:
        trained: rounds that it trained, in order.
        finish: what the validator said at the end.
    """

    def __init__(
        self,
        shared: Path,
        index: int,
        *,
        initial: float = 0.0,
        holdout: int = HOLDOUT,
        seconds: Callable[[int], float] = lambda _round: 0.0,
        failure: wire.Failure | None = None,
        nonsense_at: int | None = None,
        noise: bool = False,
        spoilt: float | None = None,
        lies_for: str | None = None,
        towards: Array | None = None,
    ) -> None:
        """What the site's data teach is `towards`, or its own target; `noise` is sent instead of what was learnt;
        `spoilt` instead of its first element; `lies_for` is the site that alone helps, whatever is true.
        """
        self._shared = shared
        self._target = target(index) if towards is None else towards
        self._initial = initial
        self._holdout = holdout
        self._seconds = seconds
        self._failure = failure
        self._nonsense_at = nonsense_at
        self._noise = np.random.default_rng(1000 + index) if noise else None
        self._spoilt = spoilt
        self._lies_for = lies_for
        self.trained: list[int] = []
        self.seed: int | None = None
        self.finish: wire.Finish | None = None

    async def run(self) -> None:
        """Work until the validator says Finish; say Hello again after every lost connection."""
        while self.finish is None:
            async with grpc.aio.insecure_channel(f"unix:{self._shared / 'validator.sock'}") as channel:
                ask = ValidatorServiceStub(channel).Next
                report = wire.Report(hello=wire.Hello(workers=1))
                try:
                    while self.finish is None:
                        report = await self._answer(await ask(report))
                except grpc.aio.AioRpcError:
                    await asyncio.sleep(0.05)

    async def _answer(self, work: wire.Work) -> wire.Report:
        match work.WhichOneof("work"):
            case "initialise":
                if self._failure is not None:
                    return wire.Report(failure=self._failure)
                self.seed = work.initialise.seed
                assert json.loads(work.initialise.terms_json)["name"] == "numbers"
                start = self._put("driver-initial", np.full(SHAPE, self._initial, dtype=np.float32))
                return wire.Report(
                    initialised=wire.Initialised(parameters=start, train_examples=400, holdout_examples=self._holdout)
                )
            case "train":
                number = work.train.round
                await asyncio.sleep(self._seconds(number))
                if number not in self.trained:
                    self.trained.append(number)
                pull = -1.0 if number == self._nonsense_at else 0.5
                base = self._patched(self._get(work.train.base), work.train.patches)
                delta = (pull * (base - self._target)).astype(np.float32)
                if self._noise is not None:
                    delta = self._noise.normal(0, np.std(delta), SHAPE).astype(np.float32)
                if self._spoilt is not None:
                    delta[0, 0] = self._spoilt
                files = self._put(f"driver-delta-{number}", delta * (40 if number == self._nonsense_at else 1))
                return wire.Report(trained=wire.Trained(round=number, delta=files, samples=400, loss=1.0))
            case "evaluate":
                models: dict[str, Array] = {}
                for candidate in work.evaluate.candidates:
                    models[candidate.label] = self._model(candidate, models)
                found = [self._evaluate(label, model) for label, model in models.items()]
                return wire.Report(evaluated=wire.Evaluated(round=work.evaluate.round, evaluations=found))
            case "finish":
                self.finish = work.finish
        return wire.Report(idle=wire.Idle())

    def _model(self, candidate: wire.Candidate, earlier: dict[str, Array]) -> Array:
        if not candidate.differs_from:
            return self._patched(self._get(candidate.parameters), candidate.patches)
        return self._patched(earlier[candidate.differs_from], [candidate.parameters])

    def _patched(self, model: Array, patches: Iterable[wire.Tensors]) -> Array:
        for tensors in patches:
            model = patch.apply({"weight": model}, self._load(tensors))["weight"]
        return model

    def _evaluate(self, label: str, model: Array) -> wire.Evaluation:
        loss = float(np.mean((model - self._target) ** 2))
        if self._lies_for is not None and label.startswith("without:"):
            loss = 2 * loss if label.endswith(self._lies_for) else loss / 2
        return wire.Evaluation(
            label=label,
            loss_sum=loss * self._holdout,
            examples=self._holdout,
            metrics={"rmse": loss**0.5},
        )

    def _get(self, tensors: wire.Tensors) -> Array:
        return self._load(tensors)["weight"]

    def _load(self, tensors: wire.Tensors) -> dict[str, Array]:
        data = (self._shared / tensors.file).read_bytes()
        assert blake3(data).digest() == tensors.digest
        found: dict[str, Array] = load(data)
        return found

    def _put(self, name: str, weight: Array) -> wire.Tensors:
        data = save({"weight": weight})
        (self._shared / name).write_bytes(data)
        return wire.Tensors(file=name, digest=blake3(data).digest())
