"""Who takes part: three institutions, and where each one's own files lie."""

from dataclasses import dataclass
from pathlib import Path

from covey_dev import paths

EXAMPLE = paths.REPOSITORY / "examples/wdbc"
TASK_FILE = EXAMPLE / "task.yaml"
CHART = paths.REPOSITORY / "charts/covey"
CONSORTIUM = "oncology-eu"
NAMESPACE = "oncology"
SYSTEM_NAMESPACE = "covey-system"
TASK = "wdbc"


@dataclass(frozen=True)
class Member:
    """One institution.

    Attributes:
        name: of the institution and of its cluster.
        oldest_kubernetes: whether its cluster runs the oldest Kubernetes that Covey supports, or the newest.
    """

    name: str
    oldest_kubernetes: bool = False

    @property
    def values(self) -> Path:
        """What it gives to `helm install`; the addresses are those of sandboxes, see `manifests.network_values`."""
        return EXAMPLE / f"members/{self.name}.values.yaml"

    @property
    def subnet(self) -> Path:
        """Its Subnet; contract and addresses are filled in, see `manifests.subnet`."""
        return EXAMPLE / f"members/{self.name}.subnet.yaml"


MEMBERS = (Member("st-mary"), Member("north-bay"), Member("lakeside", oldest_kubernetes=True))
PLANNER, AUTOMATIC, MANUAL = MEMBERS
