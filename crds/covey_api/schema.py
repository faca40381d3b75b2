"""pydantic's JSON schema, turned into a structural schema of the Kubernetes API.

Structural schemas (Kubernetes documentation, "Specifying a structural schema") know neither `$ref` nor `null` by
`anyOf`, and may not forbid additional properties: unknown fields are pruned, or refused by the client's field
validation.
"""

from __future__ import annotations

from typing import Any

from covey_api.base import ApiModel

Schema = dict[str, Any]

INT_OR_STRING = "x-kubernetes-int-or-string"
PRESERVE_UNKNOWN = "x-kubernetes-preserve-unknown-fields"
# What a model says of itself, which a field of that type may say better.
_DROPPED = ("title", "additionalProperties", "anyOf", "$ref", "const", "default", "properties", "items")
_FIRST = ("description", "type", "format", "default", "enum", "pattern", "minLength", "maxLength", "minimum", "maximum")
_LAST = ("x-kubernetes-validations", "required", "properties", "additionalProperties", "items")


class UnsupportedSchemaError(TypeError):
    """A model uses something that a structural schema cannot say; the message names where."""


def structural(model: type[ApiModel], *, defaults: bool = True) -> Schema:
    """The structural schema of a model.

    Args:
        model: any model of the API.
        defaults: keep defaults; a status has none, because absence there means "not observed".

    Raises:
        UnsupportedSchemaError: names the field.
    """
    schema = model.model_json_schema(by_alias=True, mode="validation")
    return _convert(schema, schema.get("$defs", {}), model.__name__, defaults)


def _convert(node: Schema, definitions: dict[str, Schema], where: str, defaults: bool) -> Schema:
    """Convert one node; `where` is the path that errors name."""
    node = _absent_for_null(_inline(node, definitions), where)
    node = _inline(node, definitions)
    result = {key: value for key, value in node.items() if key not in _DROPPED and key != "$defs"}
    if "const" in node:
        result["enum"] = [node["const"]]
    if node.get(INT_OR_STRING):
        result["anyOf"] = node["anyOf"]
    elif "type" not in node:
        raise UnsupportedSchemaError(f"{where}: a structural schema needs one type, this has {sorted(node)}")
    if node.get("type") == "integer":
        result["format"] = "int64"
    if "properties" in node:
        result["properties"] = {
            name: _convert(child, definitions, f"{where}.{name}", defaults)
            for name, child in node["properties"].items()
        }
    if "items" in node:
        result["items"] = _convert(node["items"], definitions, f"{where}[]", defaults)
    values = node.get("additionalProperties")
    if isinstance(values, dict):
        result["additionalProperties"] = _convert(values, definitions, f"{where}[*]", defaults)
    elif values is True and not node.get(PRESERVE_UNKNOWN):
        raise UnsupportedSchemaError(f"{where}: free-form objects must say {PRESERVE_UNKNOWN}")
    default = _without_empty(node.get("default"))
    if defaults and default is not None:
        result["default"] = default
    return dict(sorted(result.items(), key=lambda item: (_rank(item[0]), item[0])))


def _rank(key: str) -> int:
    """Where a key stands: what a reader asks first comes first, what nests comes last."""
    return _FIRST.index(key) if key in _FIRST else len(_FIRST) + (_LAST.index(key) + 1 if key in _LAST else 0)


def _inline(node: Schema, definitions: dict[str, Schema]) -> Schema:
    """Replace a reference by what it names; what the field says wins over what its type says."""
    if "$ref" not in node:
        return node
    target = definitions[node["$ref"].removeprefix("#/$defs/")]
    return {**target, **{key: value for key, value in node.items() if key != "$ref"}}


def _absent_for_null(node: Schema, where: str) -> Schema:
    """Say "or null" by not being required: the one branch that is not null takes the place of the union."""
    if "anyOf" not in node or node.get(INT_OR_STRING):
        return node
    branches = [branch for branch in node["anyOf"] if branch != {"type": "null"}]
    if len(branches) != 1:
        raise UnsupportedSchemaError(f"{where}: a structural schema has no unions, this has {len(branches)} branches")
    return {**branches[0], **{key: value for key, value in node.items() if key != "anyOf"}}


def _without_empty(default: Any) -> Any:  # noqa: ANN401 - a JSON value
    """A default as people would write it: empty values are left out, and nothing at all is no default."""
    if isinstance(default, dict):
        filled = {key: _without_empty(value) for key, value in default.items()}
        default = {key: value for key, value in filled.items() if value is not None}
    return None if default in (None, "", [], {}) else default
