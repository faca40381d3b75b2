"""What a task keeps: its secrets, the validator's settings, and the claim of its state volume."""

from __future__ import annotations

import json
from dataclasses import dataclass

from covey_api.subnet import Backend, ChainSpec, ExchangeSpec, StorageSpec

from covey_operator.kinds import Object, annotations_of
from covey_operator.plan import names
from covey_operator.plan.pods import OUTPUT_DIR, SESSION_DIR, SOCKET, SOCKET_DIR, STATE_DIR, TLS_DIR

SESSION_KEY = "session.key"
RAY_TOKEN = "token"  # noqa: S105 (a key of a Secret)
TLS_KEY, TLS_CERT = "tls.key", "tls.crt"


@dataclass(frozen=True)
class HeadLedger:
    """How often the head was started, and when last; kept on the ConfigMap, because pods come and go.

    Attributes:
        starts: of the head.
        started_at: of the last start.
        head_uid: the head that was counted last, where another makes the heads.
        backend: what runs the task's cluster from its first start to its end.
    """

    starts: int = 0
    started_at: str | None = None
    head_uid: str | None = None
    backend: Backend | None = None

    @property
    def restarts(self) -> int:
        """Starts after the first."""
        return max(0, self.starts - 1)


def read_ledger(config_map: Object | None) -> HeadLedger:
    """The ledger on a task's ConfigMap; damaged numbers count as none."""
    if config_map is None:
        return HeadLedger()
    annotations = annotations_of(config_map)
    starts = annotations.get(names.HEAD_STARTS, "0")
    backend = annotations.get(names.BACKEND, "")
    return HeadLedger(
        int(starts) if starts.isdigit() else 0,
        annotations.get(names.HEAD_STARTED_AT),
        annotations.get(names.HEAD_UID),
        Backend(backend) if backend in list(Backend) else None,
    )


def state_claim(task: str, namespace: str, storage: StorageSpec) -> Object:
    """The claim for model, residual and votes; made once, its size and class stay as they were."""
    spec: Object = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": storage.state_size}},
    }
    if storage.state_class_name is not None:
        spec["storageClassName"] = storage.state_class_name
    metadata = {"name": names.state(task), "namespace": namespace, "labels": names.labels(task)}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}


def validator_config(
    task: str,
    namespace: str,
    task_id: bytes,
    owner_address: str,
    chain: ChainSpec,
    exchange: ExchangeSpec,
    ledger: HeadLedger,
) -> Object:
    """The ConfigMap with `validator.json`, the settings of the validator's process, and the ledger of its starts."""
    exchange_settings: Object = {"listen": f"0.0.0.0:{names.EXCHANGE_PORT}"}
    if exchange.max_egress_mbps is not None:
        exchange_settings["maxEgressMbps"] = exchange.max_egress_mbps
    if exchange.windows:
        exchange_settings["windows"] = [window.wire() for window in exchange.windows]
    settings = {
        "taskId": "0x" + task_id.hex(),
        "taskName": task,
        "site": owner_address,
        "chain": {
            "rpcUrl": chain.rpc_url,
            "fallbackRpcUrls": chain.fallback_rpc_urls,
            "chainId": chain.chain_id,
            "contract": chain.contract,
            "confirmations": chain.confirmations,
        },
        "exchange": exchange_settings,
        "socket": SOCKET,
        "sharedDir": SOCKET_DIR,
        "stateDir": STATE_DIR,
        "outputDir": OUTPUT_DIR,
        "statusListen": f"0.0.0.0:{names.STATUS_PORT}",
        "sessionKeyFile": f"{SESSION_DIR}/{SESSION_KEY}",
        "tlsKeyFile": f"{TLS_DIR}/{TLS_KEY}",
        "tlsCertFile": f"{TLS_DIR}/{TLS_CERT}",
    }
    metadata: Object = {"name": names.config(task), "namespace": namespace, "labels": names.labels(task)}
    written = {
        names.BACKEND: ledger.backend and ledger.backend.value,
        names.HEAD_STARTS: str(ledger.starts) if ledger.starts else None,
        names.HEAD_STARTED_AT: ledger.started_at,
        names.HEAD_UID: ledger.head_uid,
    }
    if any(written.values()):
        metadata["annotations"] = {name: value for name, value in written.items() if value}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata,
        "data": {"validator.json": json.dumps(settings, indent=2, sort_keys=True) + "\n"},
    }


def secret(name: str, namespace: str, labels: dict[str, str], data: dict[str, str]) -> Object:
    """An Opaque Secret; `data` are base64 strings."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "type": "Opaque",
        "data": data,
    }
