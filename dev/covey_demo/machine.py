"""What the demo asks of the development tools: tools, images, three clusters, a chain; and an end without traces."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass

from covey_dev import anvil, golden, kind, network, registry, teardown, tools
from covey_dev import cluster as sandbox
from covey_dev.errors import DevError, UnsupportedError
from covey_dev.images import IMAGES
from covey_dev.nodeconfig import Node
from covey_dev.progress import step

from covey_demo.cluster import Cluster
from covey_demo.members import MEMBERS, Member
from covey_demo.state import DemoState


@dataclass(frozen=True)
class Images:
    """References pinned by digest, NAME@sha256:…"""

    operator: str
    trainer: str
    wdbc: str


def images() -> Images:
    """Install the tools, and build and push what is not in the registry; the images are trimmed: no GPU is used."""
    tools.ensure()
    registry.up()
    return Images(**dict(zip(IMAGES, golden.ensure("trimmed"), strict=True)))


def refuse_foreign_clusters() -> None:
    """Leave clusters alone that have our names and are not the demo's: it starts afresh by wiping its own.

    Raises:
        DevError: there are some; names them.
    """
    found = [node.name for node in _named_like_members()]
    if found and DemoState.load() is None:
        raise DevError(
            f"clusters {', '.join(found)} exist, and the demo did not make them",
            "If nobody needs them, wipe them: `python -m covey_dev cluster wipe NAME`.",
        )


def forget_clusters() -> None:
    """Wipe the demo's clusters: what they know is of a chain that is gone."""
    for node in _named_like_members():
        with step(f"forgetting cluster {node.name}, whose chain is gone"):
            sandbox.wipe(node)


def clusters(members: Sequence[Member] = MEMBERS) -> dict[str, Cluster]:
    """Bring up one cluster for each member, all at once.

    Raises:
        UnsupportedError: kind was asked for, or another cluster has a member's address.
    """
    if kind.chosen():
        raise UnsupportedError(
            "the demo runs its clusters without Docker", "Leave CLUSTER empty; for kind follow docs/ by hand."
        )
    nodes = sandbox.up([member.name for member in members])
    for member, node in zip(members, nodes, strict=True):
        if node.index != member.index:
            raise UnsupportedError(
                f"cluster {node.name} got {node.address}; its Subnet says {network.node_address(member.index)}",
                "Other clusters exist: end them with `make down`, then run this again.",
            )
    return {node.name: Cluster(node.name, node.directory, node.kubeconfig) for node in nodes}


def running_clusters(members: Sequence[Member] = MEMBERS) -> dict[str, Cluster]:
    """The members' clusters as they are.

    Raises:
        DevError: one of them was never started.
    """
    nodes = [sandbox.named(member.name) for member in members]
    return {node.name: Cluster(node.name, node.directory, node.kubeconfig) for node in nodes}


def chain() -> tuple[str, int]:
    """Start the development chain; returns its RPC URL and chain id."""
    return anvil.up(), anvil.CHAIN_ID


def down() -> None:
    """End everything and forget it; built tools and images stay in the cache.

    Raises:
        DevError: something is left; names it.
    """
    teardown.everything(wipe=True)
    directory = DemoState.path().parent
    if directory.exists():
        shutil.rmtree(directory)


def _named_like_members() -> list[Node]:
    names = {member.name for member in MEMBERS}
    return [node for node in sandbox.known() if node.name in names]
