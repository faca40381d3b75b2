"""Undoing what these tools did to the host: everything, or what one user of the clusters made."""

from collections.abc import Collection
from dataclasses import dataclass

from covey_dev import apiserver, choice, paths
from covey_dev.errors import DevError
from covey_dev.place import Place
from covey_dev.progress import step


@dataclass(frozen=True)
class Ending:
    """What to end at a place.

    Attributes:
        wiped: clusters that go.
        kept: clusters of others, which stay.
    """

    wiped: tuple[str, ...]
    kept: tuple[str, ...]

    @property
    def shared(self) -> bool:
        """Whether registry, chain and network go too: only when nobody else has a cluster that may need them."""
        return not self.kept


def ending(known: Collection[str], mine: Collection[str]) -> Ending:
    """Decide what goes, when whoever made the clusters `mine` leaves a place with the clusters `known`."""
    return Ending(tuple(name for name in known if name in mine), tuple(name for name in known if name not in mine))


def only(place: Place, mine: Collection[str]) -> Ending:
    """End and forget the clusters `mine`, and what all share if nobody else's are left.

    Raises:
        DevError: something is left; names it.
    """
    decided = ending([site.name for site in place.known()], mine)
    for name in decided.wiped:
        place.wipe(name)
    if decided.shared:
        place.end_shared()
    _refuse(place.leftovers())
    return decided


def everything(wipe: bool) -> None:
    """End all clusters, API servers and services at every place, and remove the networks.

    Args:
        wipe: forget the state of the clusters too.

    Raises:
        DevError: something is left; names it.
    """
    with step("stopping everything"):
        for directory in sorted(paths.state().glob(f"{apiserver.PREFIX}*")):
            apiserver.named(directory.name.removeprefix(apiserver.PREFIX)).remove()
        for place in choice.in_use():
            for site in place.known():
                if wipe:
                    place.wipe(site.name)
                else:
                    place.down(site.name)
            place.end_shared()
            _refuse(place.leftovers())


def _refuse(left: list[str]) -> None:
    if left:
        raise DevError(f"still there: {', '.join(left)}", "Run this again; if it stays, end what uses it.")
