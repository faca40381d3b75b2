"""The quality of the schemas: what an API reviewer would look for in every field."""

import re
from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Any

import pytest
from covey_api.base import ApiModel
from covey_api.crd import definition, template
from covey_api.resources import FEDERATED_TASK, RESOURCES, SUBNET, Resource
from covey_api.schema import UnsupportedSchemaError, structural
from pydantic import Field

Node = dict[str, Any]


def schema_of(resource: Resource) -> Node:
    version: Node = definition(resource)["spec"]["versions"][0]
    return version["schema"]["openAPIV3Schema"]


def nodes(schema: Node, path: str) -> Iterator[tuple[str, Node]]:
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    for key, suffix in (("items", "[]"), ("additionalProperties", "[*]")):
        if isinstance(schema.get(key), dict):
            yield from nodes(schema[key], path + suffix)


ALL = [
    pytest.param(node, id=path)
    for resource in RESOURCES
    for part in ("spec", "status")
    for path, node in nodes(schema_of(resource)["properties"][part], f"{resource.kind}.{part}")
]
FIELDS = [parameter for parameter in ALL if parameter.id and not parameter.id.endswith(("[]", "[*]"))]


@pytest.mark.parametrize("field", FIELDS)
def test_every_field_explains_itself(field: Node):
    assert len(field["description"]) > 3


@pytest.mark.parametrize("node", ALL)
def test_every_value_has_limits(node: Node):
    match node.get("type"):
        case "integer":
            assert {"minimum", "maximum"} <= node.keys()
        case "array":
            assert "maxItems" in node
        case "string":
            assert node.keys() & {"maxLength", "enum"}
        case "object":
            assert "properties" in node or "maxProperties" in node
        case "boolean":
            pass
        case _:
            assert node["x-kubernetes-int-or-string"]
            assert "maxLength" in node


@pytest.mark.parametrize("node", ALL)
def test_patterns_are_such_as_the_api_server_takes(node: Node):
    """RE2 repeats nothing more than 1,000 times, and has no assertions about what is around."""
    pattern = node.get("pattern", "")
    assert all(int(count) <= 1000 for count in re.findall(r"[{,](\d+)(?=[,}])", pattern))
    assert not re.search(r"\(\?[=!<]", pattern)


@pytest.mark.parametrize("node", ALL)
def test_schemas_are_structural(node: Node):
    forbidden = {"$ref", "$defs", "allOf", "oneOf", "not", "const", "title", "nullable"}
    assert not node.keys() & forbidden
    assert node.get("additionalProperties") is not False
    assert "anyOf" not in node or node["x-kubernetes-int-or-string"]


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda resource: resource.kind)
def test_absence_in_a_status_means_not_observed(resource: Resource):
    status = schema_of(resource)["properties"]["status"]
    assert [path for path, node in nodes(status, "status") if "default" in node] == []


def test_lists_merge_by_what_tells_their_items_apart():
    subnet, task = schema_of(SUBNET)["properties"], schema_of(FEDERATED_TASK)["properties"]
    for conditions in (subnet["status"]["properties"]["conditions"], task["status"]["properties"]["conditions"]):
        assert conditions["x-kubernetes-list-map-keys"] == ["type"]
    assert subnet["spec"]["properties"]["datasets"]["x-kubernetes-list-map-keys"] == ["name"]


def test_free_form_stands_only_where_the_program_is_configured():
    free = [
        path
        for resource in RESOURCES
        for path, node in nodes(schema_of(resource), resource.kind)
        if node.get("x-kubernetes-preserve-unknown-fields")
    ]
    assert free == ["FederatedTask.spec.program.config"]


def columns(resource: Resource) -> list[tuple[str, int]]:
    version = definition(resource)["spec"]["versions"][0]
    return [(column["name"].upper(), column.get("priority", 0)) for column in version["additionalPrinterColumns"]]


def test_columns_of_a_task():
    assert columns(FEDERATED_TASK) == [
        (name, 0) for name in ("PHASE", "ROUND", "MEMBERS", "LOSS", "METRIC", "RATIO", "ETA", "REWARD", "AGE")
    ]


def test_columns_of_a_subnet():
    assert columns(SUBNET) == [
        ("READY", 0), ("CONSORTIUM", 0), ("ADDRESS", 1), ("STAKE", 0), ("EARNED", 0), ("AGE", 0)
    ]  # fmt: skip


def test_the_chart_keeps_definitions_when_it_is_uninstalled():
    text = template(SUBNET)
    assert text.startswith("{{- if .Values.crds.enabled }}")
    assert "{{- if .Values.crds.keep }}\n  annotations:\n    helm.sh/resource-policy: keep\n" in text


class Colour(StrEnum):
    RED = "Red"


class Unsupported(ApiModel):
    union: Annotated[int | str, Field(description="Two types.")]


class Open(ApiModel):
    anything: Annotated[dict[str, Any], Field(description="Free form, undeclared.")]


class Supported(ApiModel):
    colour: Annotated[Colour | None, Field(description="What the field says wins.")] = None
    counts: Annotated[dict[str, int], Field(description="By name.")] = {}


@pytest.mark.parametrize(("model", "where"), [(Unsupported, "Unsupported.union"), (Open, "Open.anything")])
def test_what_a_structural_schema_cannot_say_is_named(model, where):
    with pytest.raises(UnsupportedSchemaError, match=where):
        structural(model)


def test_optional_fields_are_absent_rather_than_null():
    assert structural(Supported)["properties"] == {
        "colour": {"description": "What the field says wins.", "type": "string", "enum": ["Red"]},
        "counts": {
            "description": "By name.",
            "type": "object",
            "additionalProperties": {"type": "integer", "format": "int64"},
        },
    }
