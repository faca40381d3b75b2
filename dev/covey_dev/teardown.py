"""Undoing everything that these tools did to the host."""

from covey_dev import anvil, apiserver, cgroups, cluster, network, paths, registry
from covey_dev.errors import DevError
from covey_dev.progress import step


def everything(wipe: bool) -> None:
    """End all clusters, API servers and services, and remove the bridge.

    Args:
        wipe: forget the state of the clusters too.

    Raises:
        DevError: something is left; names it.
    """
    with step("stopping everything"):
        for node in cluster.known():
            if wipe:
                cluster.wipe(node)
            else:
                cluster.down(node)
        for directory in sorted(paths.state().glob(f"{apiserver.PREFIX}*")):
            apiserver.named(directory.name.removeprefix(apiserver.PREFIX)).remove()
        for service in (registry.SERVICE, anvil.SERVICE):
            service.down()
        network.remove_bridge()
        cluster.remove_shared_directories()
    left = leftovers()
    if left:
        raise DevError(f"still there: {', '.join(left)}", "Run this again; if it stays, end what uses it.")


def leftovers() -> list[str]:
    """What is on the host of clusters that do not run: cgroups, network interfaces, mounts."""
    running = {node.name for node in cluster.known() if cluster.process(node)}
    groups = [str(path) for path in cgroups.existing() if path.name.removeprefix("covey-") not in running]
    ports = [port for port in network.ports() if port.removeprefix("covey-") not in running]
    with open("/proc/self/mounts") as table:
        points = [line.split()[1] for line in table]
    return groups + ports + [point for point in points if point.startswith(str(paths.state()))]
