"""What Prometheus sees of the operator; every name starts with `covey_operator_`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from covey_api.status import Condition, ConditionStatus
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from covey_operator import __version__
from covey_operator.kinds import Key

KINDS = ("Subnet", "FederatedTask")


class ConditionGauges(Collector):
    """Conditions of the objects that exist now: series of deleted objects vanish (after KubeRay's collector)."""

    def __init__(self) -> None:
        self._conditions: dict[Key, tuple[Condition, ...]] = {}

    def show(self, key: Key, conditions: Iterable[Condition]) -> None:
        """Remember an object's conditions."""
        self._conditions[key] = tuple(conditions)

    def drop(self, key: Key) -> None:
        """Forget a vanished object."""
        self._conditions.pop(key, None)

    def collect(self) -> Iterable[Metric]:
        """One series per object, condition type and status: 1 for the status that holds."""
        family = GaugeMetricFamily(
            "covey_operator_status_condition",
            "Conditions of Subnets and FederatedTasks; 1 for the status that holds.",
            labels=("kind", "namespace", "name", "type", "status"),
        )
        for (kind, namespace, name), conditions in list(self._conditions.items()):
            for condition in conditions:
                for status in ConditionStatus:
                    family.add_metric(
                        (kind, namespace, name, condition.type, status), float(condition.status == status)
                    )
        yield family


class Metrics:
    """All series of one operator process, in a registry of their own."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry if registry is not None else CollectorRegistry()
        self.reconciles = Counter(
            "covey_operator_reconcile", "Passes by kind and result.", ("kind", "result"), registry=self.registry
        )
        self.reconcile_errors = Counter(
            "covey_operator_reconcile_errors", "Passes that failed and are retried.", ("kind",), registry=self.registry
        )
        self.reconcile_seconds = Histogram(
            "covey_operator_reconcile_duration_seconds",
            "Duration of a pass.",
            ("kind",),
            buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120),
            registry=self.registry,
        )
        self.queue_depth = Gauge(
            "covey_operator_queue_depth", "Objects that are due for a pass.", registry=self.registry
        )
        self.oldest_pending = Gauge(
            "covey_operator_oldest_pending_seconds", "Age of the object that waits longest.", registry=self.registry
        )
        self.api_requests = Counter(
            "covey_operator_api_requests",
            "Requests to the Kubernetes API.",
            ("verb", "kind", "code"),
            registry=self.registry,
        )
        self.chain_block = Gauge(
            "covey_operator_chain_block", "Last block that the mirror has read.", ("contract",), registry=self.registry
        )
        self.chain_success = Gauge(
            "covey_operator_chain_last_success_timestamp_seconds",
            "When the mirror last read the chain.",
            ("contract",),
            registry=self.registry,
        )
        self.chain_errors = Counter(
            "covey_operator_chain_errors", "Failed chain calls by kind of error.", ("error",), registry=self.registry
        )
        self.resync_success = Gauge(
            "covey_operator_resync_last_success_timestamp_seconds",
            "When all objects were last listed.",
            registry=self.registry,
        )
        self.leader = Gauge("covey_operator_leader", "1 while this process works.", registry=self.registry)
        self.conditions = ConditionGauges()
        self.registry.register(self.conditions)
        Info("covey_operator_build", "Version of the operator.", registry=self.registry).info({"version": __version__})
        for kind in KINDS:
            self.reconcile_errors.labels(kind)
            for result in ("success", "error"):
                self.reconciles.labels(kind, result)

    def watch_queue(self, depth: Callable[[], float], oldest_pending_seconds: Callable[[], float]) -> None:
        """Read the queue's gauges when Prometheus asks."""
        self.queue_depth.set_function(depth)
        self.oldest_pending.set_function(oldest_pending_seconds)

    def snapshot(self, name: str) -> Mapping[tuple[str, ...], float]:
        """Current values of one series by its label values, for tests and logs."""
        return {
            tuple(sample.labels.values()): sample.value
            for family in self.registry.collect()
            for sample in family.samples
            if sample.name == name
        }
