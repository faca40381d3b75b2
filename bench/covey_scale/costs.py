"""What the simulation charges for: bytes of real messages, and CPU seconds as `covey_scale.measure` finds them."""

from __future__ import annotations

from dataclasses import dataclass

from covey_exchange import segments
from covey_exchange.frames import LENGTH_BYTES
from covey_exchange.messages import Envelope, to_wire
from covey_exchange.proto.wire_pb2 import Answer, Frame, Leaves, Offer, Segment, Sent


@dataclass(frozen=True)
class Costs:
    """CPU seconds of one core.

    Attributes:
        copy: to send one copy of a signed message to one peer, or to receive one (each takes as long).
        verify, sign: of one signature.
        bulk: to send or to receive a byte of an update, TLS and BLAKE3 included.
        encode, decode: of one update, for each parameter.
        add: to merge one update, for each parameter; sparse updates are scattered.
        step: of a merge beyond the updates (the model is copied), for each parameter.
        digest: BLAKE3 of a model, for each parameter.
        write: to hand a model to the workers in a file, for each parameter.
        evaluate: loss of a model on the holdout, for each parameter.
    """

    copy: float = 0.0
    verify: float = 0.0
    sign: float = 0.0
    bulk: float = 0.0
    encode: float = 0.0
    decode: float = 0.0
    add: float = 0.0
    step: float = 0.0
    digest: float = 0.0
    write: float = 0.0
    evaluate: float = 0.0


@dataclass(frozen=True)
class Load:
    """One round's work.

    Attributes:
        parameters: of the model.
        update_bytes: length of one site's update.
        left_out: how many of the models without one site each validator evaluates; None for all.
    """

    parameters: int
    update_bytes: int
    left_out: int | None = None

    def merge_seconds(self, costs: Costs, updates: int) -> float:
        """CPU seconds from decoded updates to the digest of the candidate."""
        return self.parameters * (updates * costs.add + costs.step + costs.digest)

    def evaluate_seconds(self, costs: Costs, updates: int) -> float:
        """CPU seconds for the losses of base, candidate, and the candidate without each site."""
        left_out = updates if self.left_out is None else min(updates, self.left_out)
        model = costs.write + costs.evaluate
        return self.parameters * (2 * model + left_out * (model + (updates - 1) * costs.add + costs.step))


def message_bytes(envelope: Envelope) -> int:
    """Of a signed message on a control connection."""
    return _frame(Frame(signed=to_wire(envelope)))


def offer_bytes(header: Envelope, update_bytes: int) -> int:
    """Of the offer that goes ahead of an update."""
    leaves = Leaves(length=update_bytes, leaf=[bytes(32)] * segments.count(update_bytes))
    return _frame(Frame(offer=Offer(header=to_wire(header), leaves=leaves)))


def segment_bytes(update_bytes: int) -> list[int]:
    """Of the frames that carry an update; the last with the one that says that this is all."""
    sizes = [segments.size(update_bytes, index) for index in range(segments.count(update_bytes))]
    frames = [_frame(Frame(segment=Segment(index=index))) + size for index, size in enumerate(sizes)]
    frames[-1] += _frame(Frame(sent=Sent()))
    return frames


def want_bytes(update_bytes: int) -> int:
    """Of the answer that names the segments that are missing."""
    missing = bytes((segments.count(update_bytes) + 7) // 8)
    return _frame(Frame(answer=Answer(kind=Answer.KIND_WANT, missing=missing)))


HAVE_BYTES = LENGTH_BYTES + Frame(answer=Answer(kind=Answer.KIND_HAVE)).ByteSize()


def _frame(frame: Frame) -> int:
    return LENGTH_BYTES + frame.ByteSize()
