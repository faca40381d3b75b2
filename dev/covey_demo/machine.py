"""What the demo asks of the development tools: images, three clusters, a chain; and an end without traces."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import astuple, dataclass

from covey_dev import anvil, choice, teardown, tools
from covey_dev.errors import DevError
from covey_dev.images import IMAGES
from covey_dev.place import Place
from covey_dev.progress import say, step

from covey_demo.cluster import Cluster
from covey_demo.members import MEMBERS, Member
from covey_demo.state import DemoState


@dataclass(frozen=True)
class Images:
    """References pinned by digest, NAME@sha256:…"""

    operator: str
    trainer: str
    wdbc: str


def images(place: Place) -> Images:
    """Install the tools, and build and push what is not in the registry."""
    tools.ensure()
    return Images(**dict(zip(IMAGES, place.demo_images(), strict=True)))


def refuse_what_is_not_ours(place: Place) -> None:
    """Leave clusters alone that have our names and are not the demo's: it starts afresh by wiping its own.

    Raises:
        DevError: there are some, or the demo stands at another place; names them.
    """
    state = DemoState.load()
    if state is not None and state.place != place.name:
        raise DevError(f"the demo runs already, on {state.place} clusters", "End it first: `make down`.")
    found = _named_like_members(place)
    if found and state is None:
        raise DevError(
            f"clusters {', '.join(found)} exist, and the demo did not make them",
            "If nobody needs them, wipe them: `python -m covey_dev cluster wipe NAME`.",
        )


def forget_clusters(place: Place) -> None:
    """Wipe the demo's clusters: what they know is of a chain that is gone."""
    for name in _named_like_members(place):
        with step(f"forgetting cluster {name}, whose chain is gone"):
            place.wipe(name)


def clusters(place: Place, images: Images, members: Sequence[Member] = MEMBERS) -> dict[str, Cluster]:
    """Bring up one cluster for each member, all at once, with the images that it will run."""
    oldest = [member.name for member in members if member.oldest_kubernetes]
    sites = place.up([member.name for member in members], oldest)
    place.preload(sites, astuple(images))
    return {site.name: Cluster(site) for site in sites}


def running_clusters(place: Place, members: Sequence[Member] = MEMBERS) -> dict[str, Cluster]:
    """The members' clusters as they are.

    Raises:
        DevError: one of them was never started.
    """
    known = {site.name: Cluster(site) for site in place.known()}
    missing = [member.name for member in members if member.name not in known]
    if missing:
        raise DevError(f"there are no clusters {', '.join(missing)}", "Run `make demo`.")
    return {member.name: known[member.name] for member in members}


def chain(place: Place) -> tuple[str, int]:
    """Start the development chain; returns its RPC URL and chain id."""
    return place.chain_up(), anvil.CHAIN_ID


def down() -> None:
    """End what the demo made and forget it; built tools and images stay in the cache.

    Where others have clusters, these stay, and with them the registry, the chain and the network that all share.

    Raises:
        DevError: something is left; names it.
    """
    state = DemoState.load()
    for place in choice.in_use():
        # Clusters come after the state: without it, those with our names are somebody else's.
        mine = [member.name for member in MEMBERS] if state is not None and state.place == place.name else []
        with step(f"ending the demo ({place.name})"):
            ended = teardown.only(place, mine)
        if ended.kept:
            kept = ", ".join(ended.kept)
            say(f"  the demo did not make {kept}; to end all: `python -m covey_dev down`, with --wipe for their state")
    directory = DemoState.path().parent
    if directory.exists():
        shutil.rmtree(directory)


def _named_like_members(place: Place) -> list[str]:
    names = {member.name for member in MEMBERS}
    return [site.name for site in place.known() if site.name in names]
