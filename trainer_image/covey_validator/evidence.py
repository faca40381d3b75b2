"""What a site shows when the roll is called, and what those who read it on chain make of it (ADR 0008)."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

from covey_chain.types import Proposal, RoundResult, Vote
from covey_exchange.agreement_state import State
from covey_exchange.agreement_types import Epoch, Received
from covey_exchange.envelope import Message, Roster
from covey_exchange.errors import MessageRefused
from covey_exchange.messages import Envelope, from_wire, to_wire
from covey_exchange.proto.wire_pb2 import Evidence
from google.protobuf.message import DecodeError

from covey_validator.records import CertifiedRound

_log = logging.getLogger(__name__)


def encode(envelopes: Iterable[Envelope]) -> bytes:
    """The bytes that go on chain."""
    return Evidence(messages=[to_wire(envelope) for envelope in envelopes]).SerializeToString(deterministic=True)


def decode(answers: Mapping[str, bytes], roster: Roster) -> tuple[Message, ...]:
    """All genuine votes, proposals and results that were shown, each once, in the order of the chain.

    Everybody can put anything there: what is not such a message is left out, and logged.
    """
    found: dict[bytes, Message] = {}
    for site, data in answers.items():
        try:
            wires = Evidence.FromString(data).messages
        except DecodeError as error:
            _log.warning("the evidence of %s cannot be read: %s", site, error)
            continue
        for wire in wires:
            try:
                message = roster.verify(from_wire(wire))
            except MessageRefused as error:
                _log.warning("the evidence of %s is not genuine: %s", site, error)
                continue
            if isinstance(message.body, Vote | Proposal | RoundResult):
                found.setdefault(message.identity, message)
    return tuple(found.values())


def votes(messages: Iterable[Message]) -> tuple[Received, ...]:
    """The votes among them, for the agreement machine."""
    return tuple(Received(m.body, m.envelope.signature) for m in messages if isinstance(m.body, Vote))


def of_agreement(state: State, values: Mapping[bytes, bytes]) -> list[Envelope]:
    """The latest quorum of prevotes that an agreement knows, and a proposal that carries the bytes of its value.

    Args:
        state: of the agreement.
        values: the bytes behind values.
    """
    shown = [Envelope(received.message, received.signature) for received in state.evidence]
    if not shown:
        return []
    value = state.valid_value
    held = (r for ballots in state.messages.values() for rs in ballots.by_site.values() for r in rs)
    proposals = [r for r in held if isinstance(r.message, Proposal) and r.message.value == value and r.signature]
    newest = max(proposals, key=lambda received: received.message.view, default=None)
    if newest is not None and value in values:
        shown.append(Envelope(newest.message, newest.signature, values[value]))
    return shown


def of_result(record: CertifiedRound) -> list[Envelope]:
    """The signatures under a result: nobody may decide its round anew."""
    return [Envelope(record.result, signature) for signature in record.signatures]


def newest_result(messages: Iterable[Message], epoch_of: Callable[[int], Epoch | None]) -> int:
    """The newest round whose result is proven by the signatures that were shown; 0 if none is."""
    signers: defaultdict[bytes, dict[str, RoundResult]] = defaultdict(dict)
    for message in messages:
        if isinstance(message.body, RoundResult):
            signers[message.digest][message.site] = message.body
    newest = 0
    for by_site in signers.values():
        result = next(iter(by_site.values()))
        epoch = epoch_of(result.epoch)
        if epoch is not None and epoch.is_quorum(sum(epoch.weights.get(site, 0) for site in by_site)):
            newest = max(newest, result.round)
    return newest
