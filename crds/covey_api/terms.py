"""The terms of a task: the canonical bytes that go on chain and that every member reads back."""

from __future__ import annotations

import json
from typing import Annotated

from pydantic import Field, ValidationError

from covey_api.base import ApiModel, Name
from covey_api.incentives import IncentivesSpec
from covey_api.task import (
    ENOUGH_FOR_A_ROUND,
    PUBLISHED_FIELDS,
    AggregationSpec,
    CompressionSpec,
    DataSpec,
    MembersSpec,
    ProgramSpec,
    RoundsSpec,
    TaskSpec,
    ValidationSpec,
    WorkersSpec,
)

MAX_TERMS_BYTES = 24_576  # calldata costs 16 gas a byte, and nobody should have to page through terms


class TermsError(ValueError):
    """The bytes on chain are not terms that this version understands."""


class TaskTerms(ApiModel):
    """What all participants of a task agree on, member-local fields left out."""

    rules = (ENOUGH_FOR_A_ROUND,)

    name: Annotated[Name, Field(description="Name that the Planner gave the task.")]
    program: ProgramSpec
    data: DataSpec
    members: MembersSpec
    rounds: RoundsSpec
    workers: WorkersSpec
    compression: CompressionSpec
    aggregation: AggregationSpec
    validation: ValidationSpec
    incentives: IncentivesSpec

    @classmethod
    def of(cls, name: str, spec: TaskSpec) -> TaskTerms:
        """The terms of a task that is about to be published."""
        return cls(name=name, **{field: getattr(spec, field) for field in PUBLISHED_FIELDS})

    def canonical(self) -> bytes:
        """The one byte string of these terms: JSON with sorted keys, no spaces, UTF-8 (after RFC 8785)."""
        return json.dumps(self.wire(), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

    @classmethod
    def parse(cls, data: bytes) -> TaskTerms:
        """Read terms from the chain.

        Raises:
            TermsError: not JSON, unknown or missing fields, or not in canonical form.
        """
        if len(data) > MAX_TERMS_BYTES:
            raise TermsError(f"terms are {len(data)} bytes long; at most {MAX_TERMS_BYTES} are allowed")
        try:
            terms = cls.model_validate_json(data)
        except ValidationError as error:
            raise TermsError(f"terms on chain are not valid: {error}") from error
        if terms.canonical() != data:
            raise TermsError("terms on chain are not in canonical form")
        return terms
