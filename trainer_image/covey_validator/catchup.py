"""How a site that was away comes back: certified results by round, and the newest model by digest, from any peer."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass

from covey_exchange.errors import ExchangeError
from covey_exchange.exchange import Exchange
from covey_exchange.manifest import Array, Manifest, model_digest

from covey_validator import tensors
from covey_validator.records import CertifiedRound, RecordInvalid, Signers
from covey_validator.store import Store
from covey_validator.tensors import TensorsInvalid

RESULTS_KIND = "covey/results"
MODEL_KIND = "covey/model"
RESULTS_BYTES_MAX = 2**26
RESULTS_MOST = 64  # of one answer
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CaughtUp:
    """Certified rounds without a gap, from the one that was asked for, and the model after the last of them."""

    records: tuple[CertifiedRound, ...]
    parameters: dict[str, Array]


def serve(exchange: Exchange, store: Store) -> None:
    """Answer peers that were away."""

    async def results(_site: str, body: bytes) -> bytes | None:
        first = int.from_bytes(body[:8], "big")
        found: list[bytes] = []
        while len(found) < RESULTS_MOST and (record := store.certified(first + len(found))) is not None:
            found.append(record.to_json())
        return b"[" + b",".join(found) + b"]" if found else None

    async def model(_site: str, digest: bytes) -> bytes | None:
        return await asyncio.to_thread(store.model_bytes, digest)

    exchange.serve(RESULTS_KIND, results)
    exchange.serve(MODEL_KIND, model)


async def ask(
    exchange: Exchange,
    signers: Signers,
    manifest: Manifest,
    own_site: str,
    first: int,
    held: Mapping[bytes, dict[str, Array]],
) -> CaughtUp | None:
    """Ask each connected peer in turn for what was certified from round `first` on.

    Args:
        exchange: way to the peers.
        signers: whose signatures count.
        manifest: names and shapes of the model.
        own_site: not asked.
        first: the round that we are in.
        held: models that need not be fetched, by digest.

    Returns:
        What the first peer with a provable answer has; None if nobody has anything.
    """
    for site in sorted(exchange.connected - {own_site}):
        try:
            records = await _results(exchange, signers, site, first)
            if not records:
                continue
            digest = records[-1].model_digest
            parameters = held[digest] if digest in held else await _model(exchange, manifest, site, digest)
        except (ExchangeError, RecordInvalid, TensorsInvalid) as error:
            _log.info("no help from %s: %s", site, error)
            continue
        return CaughtUp(tuple(records), parameters)
    return None


async def _results(exchange: Exchange, signers: Signers, site: str, first: int) -> list[CertifiedRound]:
    found: list[CertifiedRound] = []
    while True:
        start = first + len(found)
        try:
            data = await exchange.request(site, RESULTS_KIND, start.to_bytes(8, "big"), limit_bytes=RESULTS_BYTES_MAX)
        except ExchangeError:
            if found:
                return found  # it has no more
            raise
        batch = _parse(data)
        for number, record in enumerate(batch, start):
            if record.round != number:
                raise RecordInvalid(f"round {record.round} where {number} was asked for")
            signers.verify(record)
        found += batch
        if len(batch) < RESULTS_MOST:
            return found


def _parse(data: bytes) -> list[CertifiedRound]:
    try:
        listed = json.loads(data)
    except ValueError as error:
        raise RecordInvalid(f"no JSON: {error}") from error
    if not isinstance(listed, list):
        raise RecordInvalid("no list of certified rounds")
    return [CertifiedRound.parse(json.dumps(entry).encode()) for entry in listed]


async def _model(exchange: Exchange, manifest: Manifest, site: str, digest: bytes) -> dict[str, Array]:
    data = await exchange.request(site, MODEL_KIND, digest, limit_bytes=tensors.bytes_limit(manifest))
    parameters = tensors.parse(data, manifest, f"model of {site}")
    if model_digest(parameters) != digest:
        raise TensorsInvalid(f"model of {site}: not the one with digest 0x{digest.hex()}")
    return parameters
