"""Chooses where clusters run: `CLUSTER=kind` takes Docker, nothing takes sandboxes."""

import os
from collections.abc import Iterator
from typing import get_args

from covey_dev import kind
from covey_dev.errors import UnsupportedError
from covey_dev.kind import Kind
from covey_dev.place import Name, Place
from covey_dev.sandbox import Sandbox


def chosen() -> Place:
    """The place that the environment asks for.

    Raises:
        UnsupportedError: there is none of this name, or this machine cannot be it.
    """
    asked = os.environ.get("CLUSTER") or "sandbox"
    for name in get_args(Name):
        if asked == name:
            return named(name)
    raise UnsupportedError(f"CLUSTER={asked} is not known", f"Use one of: {', '.join(get_args(Name))}.")


def named(name: Name) -> Place:
    """The place of this name.

    Raises:
        UnsupportedError: this machine cannot be it.
    """
    if name == "kind":
        kind.require()
        return Kind()
    return Sandbox()


def in_use() -> Iterator[Place]:
    """All places where something of ours may be."""
    yield Sandbox()
    if kind.directory().exists():
        yield named("kind")
