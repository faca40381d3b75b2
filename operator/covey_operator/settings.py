"""What the operator is told by its environment (`COVEY_…`)."""

from __future__ import annotations

import socket
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

Names = Annotated[tuple[str, ...], NoDecode]


class Settings(BaseSettings):
    """One value per environment variable; the prefix is COVEY_."""

    model_config = SettingsConfigDict(env_prefix="COVEY_", frozen=True, extra="ignore")

    namespace: Annotated[str, Field(min_length=1, description="The operator's own namespace.")]
    pod_name: Annotated[str, Field(default_factory=socket.gethostname, description="Identity in Lease and events.")]
    watch_namespaces: Annotated[Names, Field(description="Namespaces to serve; empty serves all.")] = ()
    trainer_image: Annotated[str, Field(min_length=1, description="Image of ray-head and validator.")]
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    image_pull_secrets: Annotated[Names, Field(description="Names in the workload namespace.")] = ()
    metrics_port: Annotated[int, Field(ge=0, le=65535, description="Port of metrics and health; 0 picks one.")] = 8080
    resync_seconds: Annotated[float, Field(gt=0, description="Every object gets a pass at least this often.")] = 600
    reconcile_workers: Annotated[int, Field(ge=1, le=64, description="Passes side by side.")] = 16
    leader_election: Annotated[bool, Field(description="Work only while holding the Lease covey-operator.")] = True
    chain_poll_seconds: Annotated[float, Field(gt=0, description="Time between two looks at the chain.")] = 2
    chain_timeout_seconds: Annotated[float, Field(gt=0, description="Longest wait for one transaction.")] = 120
    progress_poll_seconds: Annotated[float, Field(gt=0, description="Time between two looks at a validator.")] = 2
    error_retry_seconds: Annotated[float, Field(gt=0, description="Retry of errors that need a person.")] = 60
    cleanup_seconds: Annotated[float, Field(gt=0, description="After this, deletion stops waiting for a chain.")] = 120
    session_funds_wei: Annotated[int, Field(ge=0, description="Gas money of a task's session key.")] = 2 * 10**16
    monitoring_namespace: Annotated[str, Field(description="Namespace that may scrape the validators.")] = ""
    ray_head_cpu: str = "200m"
    ray_head_memory: str = "1536Mi"
    validator_cpu: str = "200m"
    validator_memory: str = "1Gi"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["text", "json"] = "text"

    @field_validator("watch_namespaces", "image_pull_secrets", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        """Comma-separated names."""
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value
