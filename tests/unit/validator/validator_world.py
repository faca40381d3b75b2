"""A task with real keys, for tests that need signatures but no network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

import numpy as np
from covey_api.terms import TaskTerms
from covey_chain import signing
from covey_chain.signing import Domain
from covey_chain.types import Participant as ChainParticipant
from covey_chain.types import PublishedTask, Role, ScoreReveal, TaskStatus
from covey_exchange.envelope import Message, Roster
from covey_exchange.manifest import Array, Manifest
from covey_validator import selection
from covey_validator.incentives.helping import RoundFacts
from covey_validator.records import CertifiedRound, Reveal
from covey_validator.scoring import Scores
from covey_validator.task import Task
from covey_validator.verdict import Ledger, conclude
from eth_utils import keccak, to_checksum_address

DOMAIN = Domain(31337, to_checksum_address("0x" + "5e" * 20))
TASK_ID = bytes(31) + b"\x21"
OWNERS = [to_checksum_address(f"0x{index:040x}") for index in (1, 2, 3)]
KEYS = {owner: bytes(31) + bytes([index]) for index, owner in enumerate(OWNERS, 1)}
BOUNTY = 1_000_000

TERMS = {
    "name": "numbers",
    "program": {"image": "example/numbers:1", "entrypoint": "numbers:Program", "config": {}},
    "data": {"schema": "numbers-v1"},
    "members": {"min": 3, "max": 3},
    "rounds": {"count": 4, "localSteps": 1, "deadline": "60s", "minUpdates": 2, "settleEvery": 2},
    "workers": {},
    "compression": {"codec": "SparseLoCo", "density": "1/4"},
    "aggregation": {},
    "validation": {"minHoldout": 10},
    "incentives": {},
}


def terms(**changes: Mapping[str, object]) -> bytes:
    merged = {**TERMS, **{key: {**TERMS[key], **value} for key, value in changes.items()}}  # type: ignore[dict-item]
    return TaskTerms.model_validate(merged).canonical()


def published(spec: bytes | None = None, **changes: object) -> PublishedTask:
    spec = spec or terms()
    values: dict[str, object] = {
        "task_id": TASK_ID,
        "consortium": bytes(32),
        "planner": OWNERS[0],
        "spec_hash": keccak(spec),
        "spec": spec,
        "token": OWNERS[0],
        "bounty": BOUNTY,
        "min_members": 3,
        "max_members": 3,
        "rounds": 4,
        "accept_by": 0,
        "deadline": 0,
        "answer_window": 60,
        "status": TaskStatus.STARTED,
        "block": 1,
    }
    return PublishedTask(**{**values, **changes})  # type: ignore[arg-type]


def participants() -> list[ChainParticipant]:
    roles = Role.TRAINER | Role.VALIDATOR
    return [
        ChainParticipant(
            place, owner, roles, signing.address_of(KEYS[owner]), "127.0.0.1:1", 100, bytes(32), b"certificate"
        )
        for place, owner in enumerate(reversed(OWNERS))
    ]


def task(**changes: Mapping[str, object]) -> Task:
    return Task.of(published(terms(**changes)), participants(), DOMAIN)


def roster() -> Roster:
    return Roster(DOMAIN, TASK_ID, [site.peer for site in task().sites])


def said(body: object, attachment: bytes = b"") -> Message:
    """A message signed by the site that its body names."""
    known = roster()
    return known.verify(known.seal(body, KEYS[body.site], attachment))  # type: ignore[attr-defined, arg-type]


def model(value: float = 0.0) -> dict[str, Array]:
    return {"weight": np.full((4, 4), value, dtype=np.float32), "bias": np.zeros(4, dtype=np.float32)}


MANIFEST = Manifest.from_arrays(model())


def record(
    number: int,
    digest: bytes,
    updates: Mapping[str, bytes] | None = None,
    *,
    accepted: bool = True,
    last: bool = False,
    signers: list[str] | None = None,
) -> CertifiedRound:
    """A certified round signed by `signers`, in which all judges saw each site help a little."""
    known = task()
    updates = updates or {owner: bytes(32) for owner in OWNERS}
    judged = Scores(100, 90, dict.fromkeys(updates, 91))
    reveals = [Reveal(site=owner, salt=bytes(32), scores=judged.encode()) for owner in OWNERS]
    scores = {
        r.site: said(ScoreReveal(TASK_ID, number, r.site, r.salt, keccak(r.scores)), r.scores).digest for r in reveals
    }
    roots = (selection.value(selection.encode(updates)), selection.value(selection.encode(scores)))
    ledger = Ledger(known.stakes, Fraction(0), replace(known.book(), rounds=number + 1))
    facts = RoundFacts(frozenset(updates), {})
    result = conclude(TASK_ID, number, ledger, facts, (digest, digest), roots).result
    body = type(result)(**{**result.__dict__, "accepted": accepted, "last": last})
    signatures = {o: signing.sign(DOMAIN, body, KEYS[o]) for o in (OWNERS if signers is None else signers)}
    return CertifiedRound(
        **body.__dict__,
        signatures=known.signers.ascending(signatures),
        updates=selection.encode(updates),
        scores=selection.encode(scores),
        reveals=reveals,
        rewards=dict.fromkeys(OWNERS, 0),
    )
