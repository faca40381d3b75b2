"""What every pass works with: the edges of one operator process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from covey_operator.chains import Chains
from covey_operator.kinds import Key
from covey_operator.kube import Kube
from covey_operator.metrics import Metrics
from covey_operator.plan.model import Surroundings
from covey_operator.plan.pods import PodSettings
from covey_operator.progress import ProgressPoller
from covey_operator.settings import Settings
from covey_operator.shared import SharedReads


@dataclass(frozen=True)
class World:
    """The edges, made once."""

    settings: Settings
    kube: Kube
    shared: SharedReads
    chains: Chains
    progress: ProgressPoller
    metrics: Metrics
    wake: Callable[[Key], None]
    generations: dict[Key, int] = field(default_factory=dict)  # with which the last pass began
    failing: set[Key] = field(default_factory=set)  # whose last transaction, or Secret, was refused

    @property
    def surroundings(self) -> Surroundings:
        """What plans need of the settings."""
        settings = self.settings
        return Surroundings(
            operator_namespace=settings.namespace,
            monitoring_namespace=settings.monitoring_namespace,
            pods=PodSettings(
                image=settings.trainer_image,
                pull_policy=settings.image_pull_policy,
                pull_secrets=settings.image_pull_secrets,
                ray_head_cpu=settings.ray_head_cpu,
                ray_head_memory=settings.ray_head_memory,
                validator_cpu=settings.validator_cpu,
                validator_memory=settings.validator_memory,
            ),
            resync_seconds=settings.resync_seconds,
            error_retry_seconds=settings.error_retry_seconds,
        )
