"""What every model of the API shares: camelCase on the wire, unknown fields refused, and rules that hold everywhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Self, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from covey_api.quantity import duration_seconds, ratio

V = TypeVar("V")

VALIDATIONS = "x-kubernetes-validations"


@dataclass(frozen=True)
class Rule:
    """A rule beyond types, stated twice: in CEL for the API server, in Python for terms that come from the chain.

    It stands in `ApiModel.rules` for an object, or in an `Annotated[...]` for one value.

    Attributes:
        cel: expression over `self` (and `oldSelf`) for `x-kubernetes-validations`.
        message: what a person reads when the rule is broken.
        holds: the same rule over the parsed value; None for a transition, which has meaning only at the API server.
    """

    cel: str
    message: str
    holds: Callable[[Any], bool] | None = None

    @property
    def validation(self) -> dict[str, str]:
        """The entry of `x-kubernetes-validations`."""
        return {"rule": self.cel, "message": self.message}

    def check(self, value: V) -> V:
        """Return the value.

        Raises:
            ValueError: the rule does not hold.
        """
        if self.holds is not None and not self.holds(value):
            raise ValueError(self.message)
        return value

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Check the rule after the value has been parsed."""
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Add the rule to the schema of the value."""
        return {**handler(schema), VALIDATIONS: [self.validation]}


class ApiModel(BaseModel):
    """A structural object of the API; Python names are snake_case, wire names camelCase."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)

    rules: ClassVar[tuple[Rule, ...]] = ()

    def wire(self) -> dict[str, Any]:
        """The JSON form with wire names; fields that are None are left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    @model_validator(mode="after")
    def _check_rules(self) -> Self:
        for rule in self.rules:
            rule.check(self)
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Add the rules of the object to its schema."""
        result = handler(schema)
        if cls.rules:
            handler.resolve_ref_schema(result)[VALIDATIONS] = [rule.validation for rule in cls.rules]
        return result


def list_map(*keys: str) -> dict[str, Any]:
    """JSON-schema extra of a list whose items are told apart by some fields: merged item by item, no duplicates."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


LIST_SET: dict[str, Any] = {"x-kubernetes-list-type": "set"}
# Integers beyond this are changed by JSON readers that know only float64.
MAX_COUNT = 2**53 - 1

# DNS-1035 label, short enough that the suffixes of child names still fit into 63 characters.
Name = Annotated[str, StringConstraints(pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$", min_length=1, max_length=47)]
# DNS-1123 subdomain: the name of an object of the cluster.
ObjectName = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", min_length=1, max_length=253)
]
Address = Annotated[str, StringConstraints(pattern=r"^0x[0-9a-fA-F]{40}$", max_length=42)]
Hash = Annotated[str, StringConstraints(pattern=r"^0x[0-9a-f]{64}$", max_length=66)]
# Token amounts are decimal strings in whole tokens: JSON numbers lose digits beyond 2**53.
Amount = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,30}(\.[0-9]{1,18})?$", max_length=49)]
Count = Annotated[int, Field(ge=0, le=MAX_COUNT)]
Text = Annotated[str, StringConstraints(max_length=253)]
Message = Annotated[str, StringConstraints(max_length=4096)]

_RATIO = r"^([0-9]{1,11}/[1-9][0-9]{0,10}|[01](\.[0-9]{1,20})?)$"
_RATIO_IN_CEL = "self.contains('/') ? double(self.split('/')[0]) / double(self.split('/')[1]) : double(self)"
# A quotient such as "1/64" or a decimal such as "0.05".
Ratio = Annotated[str, StringConstraints(pattern=_RATIO, max_length=24)]
PositiveShare = Annotated[
    Ratio,
    Rule(
        f"[{_RATIO_IN_CEL}].all(x, x > 0.0 && x <= 1.0)",
        "must be greater than 0 and at most 1",
        lambda text: 0 < ratio(text) <= 1,
    ),
]
OpenShare = Annotated[
    Ratio,
    Rule(
        f"[{_RATIO_IN_CEL}].all(x, x > 0.0 && x < 1.0)",
        "must be greater than 0 and less than 1",
        lambda text: 0 < ratio(text) < 1,
    ),
]
Share = Annotated[
    Ratio,
    Rule(
        f"[{_RATIO_IN_CEL}].all(x, x <= 1.0)",
        "must be at least 0 and at most 1",
        lambda text: 0 <= ratio(text) <= 1,
    ),
]
BelowOne = Annotated[
    Ratio,
    Rule(
        f"[{_RATIO_IN_CEL}].all(x, x < 1.0)",
        "must be at least 0 and less than 1",
        lambda text: 0 <= ratio(text) < 1,
    ),
]
PositiveDecimal = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9]{1,9}(\.[0-9]{1,9})?$", max_length=19),
    Rule("double(self) > 0.0", "must be greater than 0", lambda text: ratio(text) > 0),
]
LearningRate = Annotated[
    Ratio,
    Rule(
        f"[{_RATIO_IN_CEL}].all(x, x > 0.0 && x <= 10.0)",
        "must be greater than 0 and at most 10",
        lambda text: 0 < ratio(text) <= 10,
    ),
]

# The subset of Go's duration syntax that people write: 90s, 10m, 1h30m.
Duration = Annotated[
    str,
    StringConstraints(pattern=r"^([0-9]{1,4}h)?([0-9]{1,6}m)?([0-9]{1,8}s)?$", min_length=2, max_length=16),
    Rule(
        "duration(self) >= duration('1s') && duration(self) <= duration('8760h')",
        "must be a duration between 1s and 8760h, such as 90s, 10m or 1h30m",
        lambda text: 1 <= duration_seconds(text) <= 8760 * 3600,
    ),
]

# The contract counts a day at most (TaskMarket.MAX_ANSWER_WINDOW).
AnswerWindow = Annotated[
    Duration,
    Rule(
        "duration(self) <= duration('24h')",
        "must be at most 24h",
        lambda text: duration_seconds(text) <= 24 * 3600,
    ),
]

# The contract counts 30 days at most (TaskMarket.MAX_APPEAL_WINDOW, MAX_FALLBACK_WINDOW).
AppealWindow = Annotated[
    Duration,
    Rule(
        "duration(self) <= duration('720h')",
        "must be at most 720h",
        lambda text: duration_seconds(text) <= 720 * 3600,
    ),
]
FallbackWindow = AppealWindow

_QUANTITY = r"^[0-9]+(\.[0-9]+)?([numkMGTPE]|[KMGTPE]i)?$"
# resource.Quantity: people write `cpu: 2` as well as `cpu: "2"`, and the API server keeps what they wrote.
Quantity = Annotated[
    str,
    BeforeValidator(lambda value: str(value) if type(value) is int else value),
    StringConstraints(pattern=_QUANTITY, max_length=24),
    WithJsonSchema(
        {
            "x-kubernetes-int-or-string": True,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "pattern": _QUANTITY,
            "maxLength": 24,
        }
    ),
]


SecretKey = Annotated[str, StringConstraints(min_length=1, max_length=253)]


class LocalSecretRef(ApiModel):
    """A key of a Secret in the same namespace."""

    name: Annotated[str, Field(min_length=1, max_length=253, description="Name of the Secret.")]
    key: Annotated[SecretKey, Field(description="Key inside the Secret.")] = "privateKey"


class TolerationOperator(StrEnum):
    """How a toleration compares (core/v1)."""

    EXISTS = "Exists"
    EQUAL = "Equal"


class TaintEffect(StrEnum):
    """What a taint does to pods that do not tolerate it (core/v1)."""

    NO_SCHEDULE = "NoSchedule"
    PREFER_NO_SCHEDULE = "PreferNoSchedule"
    NO_EXECUTE = "NoExecute"


class Toleration(ApiModel):
    """A pod toleration (core/v1 Toleration)."""

    # What the API server would refuse in a pod is refused here, where a person sees it.
    rules = (
        Rule(
            "(has(self.key) && self.key != '') || (has(self.operator) && self.operator == 'Exists')",
            "a toleration without key needs operator Exists",
            lambda it: bool(it.key) or it.operator is TolerationOperator.EXISTS,
        ),
        Rule(
            "!has(self.value) || self.value == '' || !has(self.operator) || self.operator != 'Exists'",
            "a toleration with operator Exists has no value",
            lambda it: not it.value or it.operator is not TolerationOperator.EXISTS,
        ),
        Rule(
            "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
            "tolerationSeconds needs effect NoExecute",
            lambda it: it.toleration_seconds is None or it.effect is TaintEffect.NO_EXECUTE,
        ),
    )

    key: Annotated[Text | None, Field(description="Taint key.")] = None
    operator: Annotated[TolerationOperator | None, Field(description="Exists, or Equal (the default).")] = None
    value: Annotated[Text | None, Field(description="Taint value.")] = None
    effect: Annotated[
        TaintEffect | None, Field(description="NoSchedule, PreferNoSchedule or NoExecute; all of them if unset.")
    ] = None
    toleration_seconds: Annotated[
        int | None, Field(ge=-MAX_COUNT, le=MAX_COUNT, description="Seconds that a NoExecute taint is tolerated.")
    ] = None
