"""Reference pages from the models: `python -m covey_api.reference --write|--check`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

from covey_api import API_VERSION
from covey_api.base import MAX_COUNT
from covey_api.generated import main
from covey_api.reasons import CHAPTERS
from covey_api.resources import RESOURCES, Resource
from covey_api.schema import INT_OR_STRING, PRESERVE_UNKNOWN, Schema, structural

COMMAND = "python -m covey_api.reference"
HEADER = f"<!-- Generated from the models in crds/covey_api by `{COMMAND} --write`. -->\n"
_LIMITS = {
    "minimum": "at least {}",
    "maximum": "at most {}",
    "minLength": "characters: at least {}",
    "maxLength": "characters: at most {}",
    "minItems": "items: at least {}",
    "maxItems": "items: at most {}",
    "maxProperties": "keys: at most {}",
}
# Limits that tell a reader nothing: there is none, or it is that of exact integers in JSON.
_UNTOLD = (None, MAX_COUNT, -MAX_COUNT)


def api_page() -> str:
    """Every field of every resource."""
    parts = [
        HEADER,
        f"# The API `{API_VERSION}`\n\n",
        "Two resources. `kubectl explain subnet.spec` and `kubectl explain ft.spec` show the same texts. Fields "
        "without a default and without *required* may be left out. Reasons of conditions: [reasons.md](reasons.md).\n",
    ]
    for resource in RESOURCES:
        parts += [
            f"\n## {resource.kind}\n\n{resource.description}\n\n",
            f"Short name `{resource.short_names[0]}`, category `covey`; `metadata.name` has at most 47 characters.\n",
            _columns(resource),
            "\n### spec\n\n",
            _spec_table(structural(resource.spec)),
            _rules(structural(resource.spec)),
            "\n### status\n\nWritten by the operator.\n\n",
            _status_table(structural(resource.status, defaults=False)),
        ]
    return "".join(parts)


def reasons_page() -> str:
    """Every reason that a condition can have."""
    parts = [
        HEADER,
        "# Reasons of conditions\n\n",
        "`kubectl describe` shows conditions with one of these reasons, and a message with the names and numbers of "
        "the case. Programs may rely on reasons; messages are for people and change.\n",
    ]
    for chapter in CHAPTERS:
        parts.append(f"\n## {chapter.title}\n")
        for reason, explanation in chapter.reasons.items():
            parts.append(f"\n### {reason}\n\n{explanation.meaning}\n\n**What to do:** {explanation.remedy}\n")
    return "".join(parts)


def _columns(resource: Resource) -> str:
    lines = [f"| {c.name.upper()}{' (wide)' if c.wide else ''} | {c.description} |\n" for c in resource.columns]
    return "\n| column | meaning |\n| --- | --- |\n" + "".join(lines)


def _spec_table(schema: Schema) -> str:
    """What people write: with defaults and limits."""
    rows = "".join(
        f"| `{path}` | {_type(field)} | {_cell(_default(field, required))} | {_cell(_description(field))} |\n"
        for path, field, required in _fields(schema, "")
    )
    return "| field | type | default | meaning |\n| --- | --- | --- | --- |\n" + rows


def _status_table(schema: Schema) -> str:
    """What people read."""
    rows = "".join(
        f"| `{path}` | {_type(field)} | {_cell(field['description'])} |\n" for path, field, _ in _fields(schema, "")
    )
    return "| field | type | meaning |\n| --- | --- | --- |\n" + rows


def _fields(schema: Schema, prefix: str) -> Iterator[tuple[str, Schema, bool]]:
    """Every field below `schema`, parents before children: path, schema, whether it is required."""
    for name, field in schema.get("properties", {}).items():
        path = f"{prefix}{name}"
        yield path, field, name in schema.get("required", [])
        yield from _fields(field, f"{path}.")
        yield from _fields(field.get("items", {}), f"{path}[].")


def _type(field: Schema) -> str:
    if field.get(INT_OR_STRING):
        return "quantity"
    if field.get(PRESERVE_UNKNOWN):
        return "any object"
    if field["type"] == "array":
        return f"list of {_type(field['items'])}"
    if isinstance(field.get("additionalProperties"), dict):
        return f"map of {_type(field['additionalProperties'])}"
    return str(field["type"])


def _default(field: Schema, required: bool) -> str:
    if required:
        return "*required*"
    # The default of an object is the defaults of its fields, which have rows of their own.
    if "default" not in field or field.get("type") == "object":
        return ""
    return f"`{_json(field['default'])}`"


def _description(field: Schema) -> str:
    limits = [text.format(_json(field[key])) for key, text in _LIMITS.items() if field.get(key) not in _UNTOLD]
    allowed = field.get("enum") or field.get("items", {}).get("enum")
    if allowed and not all(value in field["description"] for value in allowed):
        limits.insert(0, "one of " + ", ".join(f"`{value}`" for value in allowed))
    if "pattern" in field:
        limits.append(f"pattern `{field['pattern']}`")
    limits += [rule["message"] for rule in field.get("x-kubernetes-validations", []) if "properties" not in field]
    return f"{field['description']} ({'; '.join(limits)})" if limits else str(field["description"])


def _rules(schema: Schema) -> str:
    """The rules of an object and of the objects in it."""
    rules = list(schema.get("x-kubernetes-validations", []))
    for _, field, _ in _fields(schema, ""):
        for node in (field, field.get("items", {})):
            if "properties" in node:
                rules += node.get("x-kubernetes-validations", [])
    return "\nRules:\n\n" + "".join(f"- {rule['message']}\n" for rule in rules) if rules else ""


def _cell(text: str) -> str:
    """Text that may stand in a table."""
    return text.replace("|", "\\|")


def _json(value: Any) -> str:  # noqa: ANN401 - a JSON value
    if isinstance(value, str):
        return value
    return json.dumps(value)


def files() -> dict[str, str]:
    """Every generated page: path inside the repository -> text."""
    return {"docs/reference/api.md": api_page(), "docs/reference/reasons.md": reasons_page()}


if __name__ == "__main__":
    sys.exit(main(COMMAND, files()))
