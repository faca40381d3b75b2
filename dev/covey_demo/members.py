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
        index: of its cluster's node on the bridge, from 1.
    """

    name: str
    index: int

    @property
    def values(self) -> Path:
        """What it gives to `helm install`."""
        return EXAMPLE / f"members/{self.name}.values.yaml"

    @property
    def subnet(self) -> Path:
        """Its Subnet; the contract's address is filled in, because every development chain has another one."""
        return EXAMPLE / f"members/{self.name}.subnet.yaml"


MEMBERS = (Member("st-mary", 1), Member("north-bay", 2), Member("lakeside", 3))
PLANNER, AUTOMATIC, MANUAL = MEMBERS
