"""Clusters in sandboxes of Linux namespaces, on a bridge of their own: the place that needs no Docker."""

from collections.abc import Collection, Sequence

from covey_dev import anvil, cgroups, cluster, golden, images, network, packages, paths, registry
from covey_dev.nodeconfig import Node
from covey_dev.place import Name, Shared, Site, Variant


class Sandbox:
    """See `place.Place`; the work is done by `cluster`, `images`, `registry` and `anvil`."""

    name: Name = "sandbox"
    variant: Variant = "trimmed"

    def ensure_tools(self) -> None:
        """Debian packages: containerd, runc, buildah and the like."""
        packages.ensure()

    def image(self, name: str, variant: Variant) -> str:
        """By buildah."""
        return images.ensure(name, variant)

    def demo_images(self) -> list[str]:
        """Trimmed, because no GPU is used, and unpacked once for all clusters."""
        registry.up()
        return golden.ensure(self.variant)

    def registry_up(self) -> str:
        """Debian's, on the bridge."""
        registry.up()
        return registry.SERVICE.address

    def registry_down(self) -> None:
        """What was pushed stays."""
        registry.SERVICE.down()

    def chain_up(self, block_seconds: int | None = None, keep_state: bool = False) -> str:
        """On the bridge."""
        network.ensure_bridge()
        return anvil.start(anvil.SERVICE, block_seconds, keep_state)

    def chain_down(self) -> None:
        """See `place.Place`."""
        anvil.SERVICE.down()

    def shared(self) -> list[Shared]:
        """Both on the bridge."""
        services = {"registry": registry.SERVICE, "chain": anvil.SERVICE}
        return [Shared(name, each.address, each.running and each.answers) for name, each in services.items()]

    def up(self, names: Sequence[str], oldest: Collection[str] = ()) -> list[Site]:
        """See `cluster.up`."""
        return [site(node) for node in cluster.up(list(names), oldest)]

    def preload(self, sites: Sequence[Site], references: Sequence[str]) -> None:
        """They started from the golden store, which has them."""

    def down(self, name: str) -> None:
        """See `cluster.down`."""
        cluster.down(cluster.named(name))

    def wipe(self, name: str) -> None:
        """See `cluster.wipe`."""
        cluster.wipe(cluster.named(name))

    def known(self) -> list[Site]:
        """By address."""
        return [site(node) for node in cluster.known()]

    def rows(self) -> list[dict[str, str]]:
        """See `cluster.summary`."""
        return [cluster.summary(node) for node in cluster.known()]

    def enter(self, name: str) -> list[str]:
        """See `cluster.enter`."""
        return cluster.enter(cluster.named(name))

    def end_shared(self) -> None:
        """Also the bridge, mount points that sandboxes needed, and cgroups that a killed run left."""
        for service in (registry.SERVICE, anvil.SERVICE):
            service.down()
        network.remove_bridge()
        cluster.remove_shared_directories()
        cgroups.remove_abandoned(_running())

    def leftovers(self) -> list[str]:
        """Cgroups, network interfaces, mounts."""
        running = _running()
        groups = [str(path) for path in cgroups.existing() if path.name.removeprefix("covey-") not in running]
        ports = [port for port in network.ports() if port.removeprefix("covey-") not in running]
        with open("/proc/self/mounts") as table:
            points = [line.split()[1] for line in table]
        return groups + ports + [point for point in points if point.startswith(str(paths.state()))]


def _running() -> set[str]:
    return {node.name for node in cluster.known() if cluster.process(node)}


def site(node: Node) -> Site:
    """What others need to know of a cluster; its node sees every path as the host does."""
    return Site(node.name, node.name, node.address, node.directory, node.kubeconfig)
