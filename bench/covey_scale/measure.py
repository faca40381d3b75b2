"""What the simulation charges for, measured by the production functions on this machine, in CPU seconds of one core."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from covey_chain.signing import address_of, new_key
from covey_chain.types import Vote
from covey_exchange.codec import CodecSpec, Residual, Update, codec_for, encode
from covey_exchange.envelope import Peer, Roster
from covey_exchange.manifest import Array, Manifest, TensorSpec, model_digest
from covey_exchange.merge import Clip, RoundMerge
from covey_validator.tensors import SharedDirectory

from covey_scale import real
from covey_scale.costs import Costs

PARAMETERS = 2**22
UPDATES = 8
HOLDOUT_RECORDS = 1000
VOTES = 200
BULK_BYTES = 2**24
REPEAT = 5
SPEC = CodecSpec()  # the default of a task: SparseLoCo, 1/64


def model(parameters: int) -> Manifest:
    """A square matrix of about so many parameters, a multiple of the codec's chunk."""
    return Manifest((TensorSpec("w", (-(-parameters // SPEC.chunk), SPEC.chunk)),))


def update_bytes(parameters: int) -> int:
    """Length of an update of a model of this size; from `PARAMETERS` on it is proportional, as chunks are."""
    if parameters > PARAMETERS:
        return round(update_bytes(PARAMETERS) * parameters / PARAMETERS)
    manifest = model(parameters)
    return len(encode(_normal(manifest, 0), Residual(manifest), SPEC, manifest))


def costs() -> Costs:
    """All of them; takes some ten seconds."""
    verify, sign = _signatures()
    votes = real.send_votes(3, VOTES)
    # Each vote is checked by its signer and by the two others, and goes over 4 lines: to each other site from both.
    copies = votes.cpu_seconds / (3 * VOTES) - 3 * verify
    updates = real.send_updates(3, BULK_BYTES)
    return Costs(
        copy=max(0.0, copies) / 8,
        verify=verify,
        sign=sign,
        bulk=updates.cpu_seconds / (3 * 2 * BULK_BYTES) / 2,
        **_work(),
    )


def _signatures() -> tuple[float, float]:
    owner, key = address_of(new_key()), new_key()
    roster = Roster(real.DOMAIN, real.TASK, [Peer(owner, address_of(key), "", bytes(32), b"")])
    vote = Vote(real.TASK, 1, 0, 0, 1, bytes(32), owner)
    envelope = roster.seal(vote, key)
    return _seconds(lambda: roster.verify(envelope), 50), _seconds(lambda: roster.seal(vote, key), 50)


def _work() -> dict[str, float]:
    manifest = model(PARAMETERS)
    count = manifest.parameters
    base = _normal(manifest, 99)
    residual = Residual(manifest)
    # As a validator's, each is written over: one for the update below, one to warm up.
    own = [{name: array.copy() for name, array in base.items()} for _ in range(REPEAT + 2)]

    def encode_once() -> bytes:
        payload = encode(own.pop(), residual, SPEC, manifest, owned=True)
        residual.settle(accepted=True)
        return payload

    codec = codec_for(SPEC, manifest)
    payload = encode_once()
    update = codec.decode(payload, "site")

    def merge(updates: int) -> Callable[[], object]:
        named: list[tuple[str, Update]] = [(str(number), update) for number in range(updates)]
        return lambda: RoundMerge(base, named, 0.7, Clip.MEDIAN_NORM).candidate()

    one, many = _seconds(merge(1)), _seconds(merge(UPDATES))
    add = (many - one) / (UPDATES - 1)
    with tempfile.TemporaryDirectory() as folder:
        shared = SharedDirectory(Path(folder))
        write = _seconds(lambda: shared.write(1, "candidate", base))
    return {
        "encode": _seconds(encode_once) / count,
        "decode": _seconds(lambda: codec.decode(payload, "site")) / count,
        "add": max(0.0, add) / count,
        "step": max(0.0, one - add) / count,
        "digest": _seconds(lambda: model_digest(base)) / count,
        "write": write / count,
        "evaluate": 2 * HOLDOUT_RECORDS * _seconds_per_operation(),
    }


def _seconds_per_operation() -> float:
    """Of a float32 matrix product: a forward pass takes two operations for each parameter and record."""
    left = right = np.ones((1024, 1024), dtype=np.float32)
    return _seconds(lambda: left @ right) / (2 * 1024**3)


def _seconds(call: Callable[[], object], times: int = 1) -> float:
    """CPU seconds of a call, the median of some, after one that warms up."""
    call()
    found = []
    for _ in range(REPEAT):
        began = time.process_time()
        for _ in range(times):
            call()
        found.append((time.process_time() - began) / times)
    return statistics.median(found)


def _normal(manifest: Manifest, seed: int) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    return {tensor.name: rng.standard_normal(tensor.shape, dtype=np.float32) for tensor in manifest}
