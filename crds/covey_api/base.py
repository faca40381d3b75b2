"""What every model of the API shares: camelCase on the wire, unknown fields refused, and CEL rules as annotations."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel


class ApiModel(BaseModel):
    """A structural object of the API; Python names are snake_case, wire names camelCase."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)

    def wire(self) -> dict[str, Any]:
        """The JSON form with wire names; fields that are None are left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def cel(*rules: tuple[str, str]) -> dict[str, Any]:
    """JSON-schema extra that carries CEL validation rules as (rule, message) pairs (`x-kubernetes-validations`)."""
    return {"x-kubernetes-validations": [{"rule": rule, "message": message} for rule, message in rules]}


# DNS-1123 label, short enough that the suffixes of child names still fit into 63 characters.
Name = Annotated[str, StringConstraints(pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$", min_length=1, max_length=47)]
Address = Annotated[str, StringConstraints(pattern=r"^0x[0-9a-fA-F]{40}$", max_length=42)]
Hash = Annotated[str, StringConstraints(pattern=r"^0x[0-9a-f]{64}$", max_length=66)]
# Token amounts are decimal strings in whole tokens: JSON numbers lose digits beyond 2**53.
Amount = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,30}(\.[0-9]{1,18})?$", max_length=49)]
# A quotient such as "1/64" or a decimal such as "0.05".
Ratio = Annotated[str, StringConstraints(pattern=r"^([0-9]+/[1-9][0-9]*|[01](\.[0-9]+)?)$", max_length=24)]
Quantity = Annotated[str, StringConstraints(pattern=r"^[0-9]+(\.[0-9]+)?([numkMGTPE]|[KMGTPE]i)?$", max_length=24)]
# The subset of Go's duration syntax that people write: 90s, 10m, 1h30m.
Duration = Annotated[str, StringConstraints(pattern=r"^([0-9]+h)?([0-9]+m)?([0-9]+s)?$", min_length=2, max_length=16)]
Text = Annotated[str, StringConstraints(max_length=253)]
Message = Annotated[str, StringConstraints(max_length=4096)]


class LocalSecretRef(ApiModel):
    """A key of a Secret in the same namespace."""

    name: Annotated[str, Field(min_length=1, max_length=253, description="Name of the Secret.")]
    key: Annotated[str, Field(min_length=1, max_length=253, description="Key inside the Secret.")] = "privateKey"


class Toleration(ApiModel):
    """A pod toleration (core/v1 Toleration)."""

    key: Annotated[Text | None, Field(description="Taint key.")] = None
    operator: Annotated[Text | None, Field(description="Exists or Equal.")] = None
    value: Annotated[Text | None, Field(description="Taint value.")] = None
    effect: Annotated[Text | None, Field(description="NoSchedule, PreferNoSchedule or NoExecute.")] = None
    toleration_seconds: Annotated[int | None, Field(description="Seconds that a NoExecute taint is tolerated.")] = None
