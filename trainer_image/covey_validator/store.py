"""What a validator must not forget, in one directory.

    task.json                   the task as the chain had it
    lost.json                   up to where an earlier state was lost (`watermark`)
    start.json                  what the driver said about the data, and the first model's digest
    models/                     the base of this round and of the one before (`models`)
    residual.safetensors        error feedback between rounds, with what its last round sent
    residual.json               whether that counted, so that it leaves the error feedback
    residual.spare              a file of the same size to write the next one into
    rounds/<n>/messages.log     signed messages of the round, ours on disk before they are sent, and before them the
                                proposals and votes of others that may have led to them
    rounds/<n>/update.bin       our encoded update
    rounds/<n>/staged.safetensors, absorbed.safetensors
                                error feedback with this round's delta, sent or too late to send
    rounds/<n>/scores.bin       our scores, once committed to
    certified/<n>.json          results with their signatures
    updates/<digest>.update     updates that counted, with their signed headers (`archive`)

A step is complete once its last file is there: the signed header makes an update count, the certified result ends a
round. Everything before can be done again. Error feedback follows its update: who crashes in between goes on with that
of the round before, and has lost what one delta left unsent.
"""

from __future__ import annotations

import json
import logging
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path

from covey_chain.types import (
    Proposal,
    RollCall,
    RoundResult,
    ScoreCommit,
    ScoreReveal,
    Signable,
    UpdateHeader,
    Vote,
    round_of,
)
from covey_exchange.codec import Residual
from covey_exchange.codec.residual import NEW
from covey_exchange.envelope import Message, Roster
from covey_exchange.errors import MessageRefused
from covey_exchange.manifest import Array, Manifest, model_digest
from covey_exchange.messages import from_wire, to_wire
from covey_exchange.proto.wire_pb2 import Signed
from google.protobuf.message import DecodeError
from pydantic import BaseModel

from covey_validator import durable
from covey_validator.models import Models
from covey_validator.records import CertifiedRound
from covey_validator.steps import Step

_log = logging.getLogger(__name__)


class DoubleSignature(RuntimeError):
    """This site was about to sign two different messages for one slot; that would be proof of fraud."""


class Start(BaseModel):
    """What a restart needs to know of the driver's first words."""

    base: str
    train_examples: int
    holdout_examples: int


class Settled(BaseModel):
    """What became of the update that is staged in the error feedback between rounds."""

    accepted: bool


def slot(body: Signable) -> tuple[object, ...]:
    """What a site may sign only once."""
    match body:
        case UpdateHeader():
            return ("update", body.round, body.attempt)
        case Proposal():
            return ("proposal", body.round, body.step, body.view)
        case Vote():
            return ("vote", body.round, body.step, body.view, body.kind)
        case ScoreCommit():
            return ("commit", body.round)
        case ScoreReveal():
            return ("reveal", body.round)
        case RoundResult():
            return ("result", body.round, body.epoch)
        case RollCall():
            return ("roll call", body.epoch)


class Store:
    """The state directory of one task at one site."""

    def __init__(self, path: Path, site: str) -> None:
        self._path = path
        self._site = site
        self._signed: dict[tuple[object, ...], Message] = {}
        self._others: dict[bytes, Message] = {}
        self._residual: Residual | None = None  # what residual.safetensors holds, if we have it
        self._staged: tuple[int, Residual] | None = None  # round, and what its staged.safetensors holds
        self._models = Models(path / "models")
        for folder in ("rounds", "certified"):
            (path / folder).mkdir(parents=True, exist_ok=True)

    # --- small facts ------------------------------------------------------------------------------------------------

    def put(self, name: str, value: BaseModel) -> None:
        """Store a small model as <name>.json."""
        durable.write(self._path / f"{name}.json", value.model_dump_json(by_alias=True).encode())

    def get(self, name: str) -> bytes | None:
        """JSON of a small model, or None."""
        path = self._path / f"{name}.json"
        return path.read_bytes() if path.exists() else None

    @property
    def start(self) -> Start | None:
        """What the driver said first."""
        data = self.get("start")
        return Start.model_validate_json(data) if data else None

    def open_round(self, number: int) -> None:
        """A round begins; known on disk when this returns."""
        if not self._round(number).exists():
            self._round(number).mkdir()
            durable.sync(self._path / "rounds")

    def knows_round(self, number: int) -> bool:
        """Whether all that we may have signed in a round is here."""
        return number == 0 or self._round(number).exists() or self._certified(number).exists()

    # --- messages of a round ----------------------------------------------------------------------------------------

    def load_messages(self, round_number: int, roster: Roster) -> list[Message]:
        """Stored messages of a round, verified again; remembers what we have signed. Cuts off a half-written end."""
        path = self._round(round_number) / "messages.log"
        found: list[Message] = []
        if not path.exists():
            return found
        data = path.read_bytes()
        whole = 0
        for end, wire in _frames(data):
            try:
                message = roster.verify(from_wire(Signed.FromString(wire)))
            except (DecodeError, MessageRefused) as error:
                _log.warning("a stored message of round %d is not used: %s", round_number, error)
            else:
                found.append(message)
                if message.site == self._site:
                    self._signed[slot(message.body)] = message
                else:
                    self._others[message.identity] = message
            whole = end
        if whole < len(data):
            durable.write(path, data[:whole])
        return found

    def signed(self, body: Signable) -> Message | None:
        """What we have signed for the slot of `body`.

        Raises:
            DoubleSignature: it differs from `body`.
        """
        message = self._signed.get(slot(body))
        if message is not None and message.body != body:
            raise DoubleSignature(f"{self._site} has signed {message.body}, and must not sign {body}")
        return message

    def own(self, round_number: int) -> list[Message]:
        """What we have signed in a round, in the order in which it was signed."""
        return [message for message in self._signed.values() if round_of(message.body) == round_number]

    def others(self, round_number: int) -> list[Message]:
        """What we have kept of others in a round, in the order in which it came."""
        return [message for message in self._others.values() if round_of(message.body) == round_number]

    def add_message(self, message: Message) -> None:
        """Keep a message; on disk when this returns. One of another site is kept once.

        Raises:
            DoubleSignature: it is ours, and another one is stored for its slot.
            ValueError: a roll call.
        """
        if message.site == self._site and self.signed(message.body) is None:
            self._signed[slot(message.body)] = message
        if message.site != self._site:
            if message.identity in self._others:
                return
            self._others[message.identity] = message
        wire = to_wire(message.envelope).SerializeToString(deterministic=True)
        about = round_of(message.body)
        if about is None:
            raise ValueError("a roll call is about no round")
        folder = self._round(about)
        folder.mkdir(exist_ok=True)
        durable.append(folder / "messages.log", struct.pack(">I", len(wire)) + wire)

    # --- our part of a round ----------------------------------------------------------------------------------------

    def put_update(self, round_number: int, payload: bytes) -> None:
        """Keep an encoded update; it counts once its header is stored."""
        durable.write(self._round(round_number) / "update.bin", payload)

    def put_staged(self, round_number: int, residual: Residual) -> None:
        """Keep the error feedback that an update leaves, as large as the model: the update is on its way meanwhile."""
        staged = self._round(round_number) / "staged.safetensors"
        if self._spare.exists() and self._spare.stat().st_nlink == 1:  # else a crash left it the error feedback itself
            self._spare.replace(staged.with_name(staged.name + NEW))  # pages and blocks that need not be found anew
        residual.save(staged)
        self._staged = round_number, residual

    def update(self, round_number: int) -> bytes:
        """Our encoded update of a round."""
        return (self._round(round_number) / "update.bin").read_bytes()

    def put_absorbed(self, round_number: int, residual: Residual) -> None:
        """Keep error feedback that took in a delta which came too late."""
        self._round(round_number).mkdir(exist_ok=True)
        residual.save(self._round(round_number) / "absorbed.safetensors")

    def is_absorbed(self, round_number: int) -> bool:
        """Whether this round's delta came too late and is kept."""
        return (self._round(round_number) / "absorbed.safetensors").exists()

    def put_scores(self, round_number: int, scores: bytes) -> None:
        """Keep scores before they are committed to."""
        durable.write(self._round(round_number) / "scores.bin", scores)

    def scores(self, round_number: int) -> bytes | None:
        """Scores that we may have committed to."""
        path = self._round(round_number) / "scores.bin"
        return path.read_bytes() if path.exists() else None

    # --- between rounds ---------------------------------------------------------------------------------------------

    def residual(self, manifest: Manifest) -> Residual:
        """Error feedback between rounds, empty at first; the caller may change it, and puts it back."""
        path = self._path / "residual.safetensors"
        residual, self._residual = self._residual, None
        if residual is None:
            residual = Residual.load(path, manifest) if path.exists() else Residual(manifest)
        if residual.staged is not None:
            residual.settle(Settled.model_validate_json(self.get("residual") or b"").accepted)
        return residual

    def put_residual(self, residual: Residual) -> None:
        """Keep error feedback that took in the delta of a round that is over."""
        self._residual = None
        residual.save(self._path / "residual.safetensors")

    def put_model(self, parameters: dict[str, Array], digest: bytes | None = None, step: Step | None = None) -> bytes:
        """Keep a model; returns its digest, which is computed if the caller does not know it.

        Args:
            parameters: the model.
            digest: of it.
            step: what makes it of a model that may be here; then there is less to write.
        """
        digest = digest or model_digest(parameters)
        self._models.put(digest, parameters, step)
        return digest

    def model_bytes(self, digest: bytes) -> bytes | None:
        """The safetensors file of a model, or None."""
        return self._models.file(digest)

    def model(self, digest: bytes) -> dict[str, Array]:
        """A model that was kept.

        Raises:
            FileNotFoundError: it is not here.
            TensorsInvalid: the disk has other bits than were written.
        """
        return self._models.get(digest)

    def certify(self, record: CertifiedRound) -> None:
        """Keep a result; with this the round is over."""
        durable.write(self._certified(record.round), record.to_json())

    def finish_round(self, record: CertifiedRound) -> None:
        """Settle the error feedback of a certified round and forget its messages; may be repeated after a crash.

        Nothing is written anew: what was staged becomes the error feedback, with a note for who reads it next. A
        discarded round leaves it as it was before: the next one starts from the same model and finds the same delta
        again. Kept as well, it would grow with every discarded round.
        """
        folder = self._round(record.round)
        if record.accepted and (folder / "absorbed.safetensors").exists():
            self._renew_residual(folder / "absorbed.safetensors", None)
        ours = self._signed.get(("update", record.round, 0))
        if record.accepted and ours is not None and (folder / "staged.safetensors").exists():
            # The note first: until the file is in place, a restart comes through here again before it reads either.
            self.put("residual", Settled(accepted=record.selected.get(self._site) == ours.digest))
            known = self._staged[1] if self._staged is not None and self._staged[0] == record.round else None
            self._renew_residual(folder / "staged.safetensors", known)
        self._staged = None
        if folder.exists():
            shutil.rmtree(folder)
        self._signed = {key: message for key, message in self._signed.items() if key[1] != record.round}
        self._others = {key: message for key, message in self._others.items() if round_of(message.body) != record.round}

    def _renew_residual(self, file: Path, held: Residual | None) -> None:
        current = self._path / "residual.safetensors"
        self._residual = None
        if current.exists():
            self._spare.unlink(missing_ok=True)
            self._spare.hardlink_to(current)
        file.replace(current)
        durable.sync(self._path)
        self._residual = held

    def certified(self, round_number: int) -> CertifiedRound | None:
        """The result of a round, or None."""
        path = self._certified(round_number)
        return CertifiedRound.parse(path.read_bytes()) if path.exists() else None

    def history(self, newest: CertifiedRound | None) -> Iterator[CertifiedRound]:
        """All results from the first round up to `newest`."""
        for number in range(1, newest.round + 1 if newest else 1):
            record = self.certified(number)
            assert record is not None, "rounds are certified, or caught up with, one after the other"
            yield record

    @property
    def updates(self) -> Path:
        """Directory of the updates that counted (`archive`)."""
        return self._path / "updates"

    def open_rounds(self) -> list[int]:
        """Rounds of which messages or updates are still here."""
        return sorted(int(path.name) for path in (self._path / "rounds").iterdir())

    def newest(self) -> CertifiedRound | None:
        """The newest result whose model is here, or None."""
        numbers = [int(path.stem) for path in (self._path / "certified").glob("*.json")]
        for number in sorted(numbers, reverse=True):
            record = self.certified(number)
            if record is not None and record.model_digest in self._models:
                return record
        return None

    def newest_result(self) -> CertifiedRound | None:
        """The newest result, whether its model is here or not; None before the first."""
        numbers = [int(path.stem) for path in (self._path / "certified").glob("*.json")]
        return self.certified(max(numbers)) if numbers else None

    def base(self) -> bytes | None:
        """Digest of the model that the next round starts from; None before the driver's first word."""
        newest, start = self.newest(), self.start
        if newest is not None:
            return newest.model_digest
        return bytes.fromhex(start.base) if start else None

    def keep_models(self, digests: set[bytes]) -> None:
        """Remove all models but these."""
        self._models.keep(digests)

    def counters(self) -> dict[str, int]:
        """Numbers that go on counting over restarts."""
        data = self.get("counters")
        return dict(json.loads(data)) if data else {}

    def put_counters(self, counters: dict[str, int]) -> None:
        """Store the counters."""
        durable.write(self._path / "counters.json", json.dumps(counters).encode())

    @property
    def _spare(self) -> Path:
        return self._path / "residual.spare"

    def _round(self, number: int) -> Path:
        return self._path / "rounds" / str(number)

    def _certified(self, number: int) -> Path:
        return self._path / "certified" / f"{number:08d}.json"


def _frames(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(end offset, bytes) of each whole frame."""
    start = 0
    while start + 4 <= len(data):
        (length,) = struct.unpack_from(">I", data, start)
        end = start + 4 + length
        if end > len(data):
            return
        yield end, data[start + 4 : end]
        start = end
