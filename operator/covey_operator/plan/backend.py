"""What runs a task's Ray cluster: bare pods, or KubeRay; plans ask for either in the same words."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from covey_api import subnet

from covey_operator.plan import cluster, kuberay
from covey_operator.plan.cluster import ClusterPlan
from covey_operator.plan.model import Children
from covey_operator.plan.pods import Site
from covey_operator.plan.storage import HeadLedger


class Backend(Protocol):
    """Runs the Ray cluster of a task, from values to values."""

    def running(self, site: Site, children: Children, ledger: HeadLedger, now: datetime) -> ClusterPlan:
        """What brings a cluster about, and what there is to say of it."""

    def suspended(self, site: Site, children: Children) -> ClusterPlan:
        """What frees the pods of a task that will go on later."""


_BACKENDS: dict[subnet.Backend, Backend] = {subnet.Backend.PODS: cluster, subnet.Backend.KUBERAY: kuberay}


def backend(chosen: subnet.Backend) -> Backend:
    """The back end of this name."""
    return _BACKENDS[chosen]
