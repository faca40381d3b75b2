"""What the rest of the tools ask of the place where clusters run; `sandbox` and `kind` are the two there are."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

Name = Literal["sandbox", "kind"]
Variant = Literal["full", "trimmed"]


@dataclass(frozen=True)
class Site:
    """One cluster of one node.

    Attributes:
        name: of the cluster.
        node: of its node in Kubernetes.
        address: of the node, for the other clusters and the host; empty while it is stopped.
        directory: of the host; the node sees `directory/volumes` under the same path.
        kubeconfig: the administrator's.
        elsewhere: directory of the node -> where it lies on the host, for those that the node sees under another path.
    """

    name: str
    node: str
    address: str
    directory: Path
    kubeconfig: Path
    elsewhere: Mapping[Path, Path] = field(default_factory=dict)

    def on_host(self, path: Path) -> Path:
        """Where a path of the node lies on the host."""
        for there, here in self.elsewhere.items():
            if path.is_relative_to(there):
                return here / path.relative_to(there)
        return path


@dataclass(frozen=True)
class Shared:
    """A program that all clusters use.

    Attributes:
        name: registry or chain.
        address: HOST:PORT as pods see it; empty while there is none.
        up: whether it answers.
    """

    name: str
    address: str
    up: bool


class Place(Protocol):
    """Where clusters run, and the registry and the chain that they share."""

    @property
    def name(self) -> Name:
        """By which `CLUSTER` chooses it."""

    @property
    def variant(self) -> Variant:
        """Of images, the one that demo and tests run."""

    def ensure_tools(self) -> None:
        """Install or build what only this place needs.

        Raises:
            UnsupportedError: this machine lacks something; says what.
        """

    def image(self, name: str, variant: Variant) -> str:
        """Build and push an image unless just this one is there; returns registry.local/…@sha256:…"""

    def demo_images(self) -> list[str]:
        """All images in the variant that demo and tests run, in the order of `images.IMAGES`."""

    def registry_up(self) -> str:
        """Start the image registry; returns the HOST:PORT to which the host pushes."""

    def registry_down(self) -> None:
        """Stop it."""

    def chain_up(self, block_seconds: int | None = None, keep_state: bool = False) -> str:
        """Start the development chain (see `anvil.start`); returns its RPC URL, for host and pods alike."""

    def chain_down(self) -> None:
        """Stop it."""

    def shared(self) -> list[Shared]:
        """Registry and chain, as they are."""

    def up(self, names: Sequence[str], oldest: Collection[str] = ()) -> list[Site]:
        """Bring clusters up, all at once, and return when they work. One that runs already goes on.

        Args:
            names: of the clusters.
            oldest: those that run the oldest Kubernetes that Covey supports, where there is a choice.
        """

    def preload(self, sites: Sequence[Site], references: Sequence[str]) -> None:
        """See that running clusters have images before a task's deadlines run: the trainer's has gigabytes."""

    def down(self, name: str) -> None:
        """Stop a cluster and keep its state."""

    def wipe(self, name: str) -> None:
        """End a cluster and forget everything about it."""

    def known(self) -> list[Site]:
        """The clusters that exist, running or not."""

    def rows(self) -> list[dict[str, str]]:
        """The clusters for people: name, version of Kubernetes, address, state, pods, volumes."""

    def enter(self, name: str) -> list[str]:
        """The start of a command line that runs the rest of it on a cluster's node."""

    def end_shared(self) -> None:
        """End registry, chain and network, when no cluster runs any more."""

    def leftovers(self) -> list[str]:
        """What is on the host of clusters that do not run or exist any more."""
