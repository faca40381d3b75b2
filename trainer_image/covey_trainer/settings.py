"""Settings of the processes, read from environment variables once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

# Ports of Ray that NetworkPolicies name; all inside a site.
GCS_PORT = 6379
WORKER_RESOURCE = "covey_worker"  # one on each worker node, so that every node gets one Ray Train worker
DASHBOARD_AGENT_PORT = 6384
FIXED_PORTS = (
    "--node-manager-port=6380",
    "--object-manager-port=6381",
    "--runtime-env-agent-port=6382",
    "--dashboard-agent-grpc-port=6383",
    f"--dashboard-agent-listen-port={DASHBOARD_AGENT_PORT}",
    "--metrics-export-port=6385",
    "--min-worker-port=10002",
    "--max-worker-port=10100",
)
RAY_ENVIRONMENT = {
    # A node starts no idle workers in advance: Ray Train's have another environment and cannot be any of them.
    "RAY_enable_worker_prestart": "0",
    "RAY_prestart_worker_first_driver": "0",
    # What must end ends at once, and its GPUs are free: draining is for requests to Ray Serve.
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
}


class DriverSettings(BaseSettings):
    """Where the driver meets its validator."""

    model_config = SettingsConfigDict(env_prefix="COVEY_", frozen=True)

    socket: Annotated[Path, Field(description="The validator's Unix socket.")] = Path("/run/covey/validator.sock")
    shared: Annotated[Path, Field(description="Directory that both mount, for tensors.")] = Path("/run/covey")
    validator_timeout_seconds: Annotated[
        float, Field(gt=0, description="How long the validator may be away before the driver gives up.")
    ] = 120.0
    termination_log: Annotated[Path | None, Field(description="File for the last word; none by default.")] = None


class RayAuth(BaseSettings):
    """Ray's own token authentication; without it a Ray cluster runs whatever anybody sends."""

    model_config = SettingsConfigDict(env_prefix="RAY_AUTH_", frozen=True)

    mode: Literal["token"]
    token: str | None = None
    token_path: Path | None = None

    def check(self) -> None:
        """Refuse to go on without a token.

        Raises:
            SettingsError: no token, or its file is missing or empty.
        """
        if self.token:
            return
        if self.token_path is None:
            raise SettingsError("Ray has no token: set RAY_AUTH_TOKEN_PATH to a file that holds one.")
        try:
            token = self.token_path.read_text().strip()
        except OSError as error:
            raise SettingsError(f"RAY_AUTH_TOKEN_PATH {self.token_path} cannot be read: {error.strerror}.") from error
        if not token:
            raise SettingsError(f"RAY_AUTH_TOKEN_PATH {self.token_path} is empty: put a token into it.")


class HeadSettings(DriverSettings):
    """The head of a site's Ray cluster."""

    pod_ip: Annotated[str, Field(min_length=1, validation_alias="POD_IP", description="Address of this pod.")]
    workers: Annotated[int, Field(ge=1, description="Workers of the site.")]
    cpus_per_worker: Annotated[float, Field(gt=0, description="CPUs of each worker.")] = 1.0
    gpus_per_worker: Annotated[int, Field(ge=0, description="GPUs of each worker.")] = 0
    workers_timeout_seconds: Annotated[float, Field(gt=0, description="How long to wait for the workers.")] = 900.0
    object_store_bytes: Annotated[int, Field(ge=80_000_000, description="Shared memory of Ray on this node.")] = (
        100_000_000
    )
    data: Annotated[Path, Field(description="Where the workers mount the member's records.")] = Path("/data")
    termination_log: Path | None = Path("/dev/termination-log")

    @property
    def ray_cpus(self) -> int:
        """Ray counts whole CPUs; a worker always has one."""
        return max(1, int(self.cpus_per_worker))


class WorkerSettings(BaseSettings):
    """One worker node of a site's Ray cluster."""

    model_config = SettingsConfigDict(env_prefix="COVEY_", frozen=True)

    head_ip: Annotated[str, Field(min_length=1, validation_alias="RAY_HEAD_IP", description="Address of the head.")]
    pod_ip: Annotated[str, Field(min_length=1, validation_alias="POD_IP", description="Address of this pod.")]
    cpus_per_worker: Annotated[float, Field(gt=0, description="CPUs of this worker.")] = 1.0
    gpus_per_worker: Annotated[int, Field(ge=0, description="GPUs of this worker.")] = 0
    head_timeout_seconds: Annotated[float, Field(gt=0, description="How long to wait for the head.")] = 900.0
    object_store_bytes: Annotated[int, Field(ge=80_000_000, description="Shared memory of Ray on this node.")] = (
        100_000_000
    )

    @property
    def ray_cpus(self) -> int:
        """Ray counts whole CPUs; a worker always has one."""
        return max(1, int(self.cpus_per_worker))


class SettingsError(ValueError):
    """An environment variable is missing or wrong; the message names it."""


def explain(error: ValidationError) -> str:
    """The wrong variables and what is wrong with them, on one line."""
    return "; ".join(f"{'.'.join(map(str, part['loc']))}: {part['msg']}" for part in error.errors())
