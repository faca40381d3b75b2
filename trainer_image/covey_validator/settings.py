"""The validator's configuration: one JSON file, written by the operator or by `covey simulate`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from covey_api.base import Address, ApiModel, Hash
from covey_api.windows import EgressWindow, cap_at
from covey_exchange.egress import Rate
from pydantic import Field, ValidationError

from covey_validator.errors import TaskFailed

LOOK_AGAIN_SECONDS = 60.0


class ChainSettings(ApiModel):
    """Where the contracts are."""

    rpc_url: Annotated[str, Field(description="JSON-RPC end point.")]
    fallback_rpc_urls: Annotated[list[str], Field(description="Asked while those before them are of no use.")] = []
    chain_id: Annotated[int, Field(ge=1, description="EIP-155 chain id.")]
    contract: Annotated[Address, Field(description="Settlement contract.")]
    confirmations: Annotated[int, Field(ge=1, le=1000, description="Blocks after which a transaction counts.")] = 1


class ExchangeSettings(ApiModel):
    """Where peers reach us, and how much we may send."""

    listen: Annotated[str, Field(description="host:port.")] = "0.0.0.0:7443"
    max_egress_mbps: Annotated[float | None, Field(gt=0, description="Cap in Mbit/s; none when left out.")] = None
    windows: Annotated[
        list[EgressWindow], Field(max_length=16, description="Hours with a cap of their own; first match wins.")
    ] = []

    def egress(self, now: datetime | None = None) -> Rate:
        """What may be sent from now on; a `Schedule` of the exchange."""
        now = now or datetime.now(UTC)
        cap = cap_at(self.windows, self.max_egress_mbps, now)
        bits_per_second = None if cap.mbps is None else cap.mbps * 1e6
        if cap.until is None:
            return Rate(bits_per_second)
        # Windows follow the clock of the machine, which may be set anew; the bucket's own clock never is.
        return Rate(bits_per_second, min((cap.until - now).total_seconds(), LOOK_AGAIN_SECONDS))


class ValidatorSettings(ApiModel):
    """Everything that a validator process is told."""

    task_id: Annotated[Hash, Field(description="Id of the task on chain.")]
    task_name: Annotated[str, Field(min_length=1, max_length=253, description="Name for people and for the output.")]
    site: Annotated[Address, Field(description="Owner address of this member.")]
    chain: ChainSettings
    exchange: ExchangeSettings = ExchangeSettings()
    socket: Annotated[Path, Field(description="Unix socket on which the driver is served.")]
    shared_dir: Annotated[Path, Field(description="Directory shared with the driver.")]
    state_dir: Annotated[Path, Field(description="Durable state.")]
    output_dir: Annotated[Path, Field(description="Where the finished model goes, in a folder of the task's name.")]
    status_listen: Annotated[str, Field(description="host:port of /status, /metrics, /healthz.")] = "0.0.0.0:9464"
    session_key_file: Annotated[Path, Field(description="Session key, 0x-hex.")]
    tls_key_file: Annotated[Path, Field(description="TLS key, PEM.")]
    tls_cert_file: Annotated[Path, Field(description="TLS certificate, PEM.")]
    termination_log: Annotated[
        Path | None, Field(description="Termination message; default is the kubelet's file where there is one.")
    ] = None

    @classmethod
    def load(cls, path: Path) -> ValidatorSettings:
        """Read the file.

        Raises:
            TaskFailed: unreadable, or a field is missing or wrong; names the fields.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise TaskFailed("InvalidSpec", f"{path}: {error.strerror}", user_error=True) from error
        except ValidationError as error:
            found = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            raise TaskFailed("InvalidSpec", f"{path}: {found}", user_error=True) from error
