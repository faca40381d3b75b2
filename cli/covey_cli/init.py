"""`covey init`: what a new member needs to start, as files and as commands to paste."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from covey_api import API_VERSION
from covey_api.resources import SUBNET
from covey_api.subnet import SubnetSpec
from covey_chain import signing
from pydantic import ValidationError

from covey_cli.errors import CommandError

Object = dict[str, Any]

KEY, VALUES, RESOURCE = "owner.key", "values.yaml", "subnet.yaml"
WALLET = "wallet"
MODELS = "models"
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_REGISTRY = re.compile(r"[a-z0-9][a-zA-Z0-9._:/-]*[a-zA-Z0-9]")  # as the chart's schema, without a final slash
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Seat:
    """What the consortium and the member's own surroundings give.

    Attributes:
        registry: where the member's images are: REGISTRY/operator and REGISTRY/trainer.
        datasets: (name, schema, claim) of each.
    """

    consortium: str
    rpc_url: str
    chain_id: int
    contract: str
    advertise: str
    registry: str
    stake: str
    namespace: str
    datasets: Sequence[tuple[str, str, str]] = ()

    def subnet(self) -> Object:
        """The Subnet.

        Raises:
            CommandError: the API or the chart would not accept it; names the fields.
        """
        spec: Object = {
            "consortium": self.consortium,
            "chain": {
                "rpcUrl": self.rpc_url,
                "chainId": self.chain_id,
                "contract": self.contract,
                "walletSecret": {"name": WALLET},
            },
            "stake": self.stake,
            "roles": ["Trainer", "Validator"],
            "exchange": {"advertise": self.advertise, "service": {"type": "NodePort"}},
            "datasets": [{"name": name, "schema": schema, "claimName": claim} for name, schema, claim in self.datasets],
            "policy": {"approval": "Manual"},
            "storage": {"outputClaim": MODELS},
        }
        for what, text, pattern in (("namespace", self.namespace, _NAMESPACE), ("registry", self.registry, _REGISTRY)):
            if not pattern.fullmatch(text):
                raise CommandError(f'"{text}" is no name of a {what}')
        try:
            SubnetSpec.model_validate(spec)
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            raise CommandError(f"no Subnet can be made of this: spec.{problems}") from error
        metadata = {"name": self.consortium, "namespace": self.namespace}
        return {"apiVersion": API_VERSION, "kind": SUBNET.kind, "metadata": metadata, "spec": spec}

    def values(self) -> Object:
        """Values of the chart."""
        return {
            "image": {"repository": f"{self.registry}/operator"},
            "trainerImage": {"repository": f"{self.registry}/trainer"},
            "watchNamespaces": [self.namespace],
            "networkPolicy": {"chain": {"ports": [_port(self.rpc_url)]}},
        }


def init(folder: Path, seat: Seat) -> str:
    """Make key, values and Subnet in a folder, and return what to do next.

    Raises:
        CommandError: something is there already, cannot be written, or would not be accepted.
    """
    texts = {
        RESOURCE: "# All fields: kubectl explain subnet.spec, docs/reference/api.md.\n" + _yaml(seat.subnet()),
        VALUES: "# Values of the chart; all of them: charts/covey/values.yaml.\n" + _yaml(seat.values()),
    }
    there = [name for name in (KEY, *texts) if (folder / name).exists()]
    if there:
        raise CommandError(f"{folder} has {' and '.join(there)} already; nothing was written")
    key = signing.new_key()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(folder / KEY, f"0x{key.hex()}", 0o600)
        for name, text in texts.items():
            _write(folder / name, text, 0o644)
    except OSError as error:
        raise CommandError(f"{error.filename}: {error.strerror}") from error
    return _next(folder, seat, signing.address_of(key))


def _next(folder: Path, seat: Seat, owner: str) -> str:
    where = shlex.quote(seat.namespace)
    key, values, subnet = (shlex.quote(str(folder / name)) for name in (KEY, VALUES, RESOURCE))
    claims = ", ".join([*dict.fromkeys(claim for _, _, claim in seat.datasets), MODELS])
    stake = "the stake" if float(seat.stake) else "the consortium's least stake (say how much in spec.stake)"
    return f"""\
{folder}: {KEY} (secret; keep a copy offline), {VALUES}, {RESOURCE}

Fund this address with {stake} and some of the chain's own coin for fees:
  {owner}
Then, from the root of Covey's repository:
  kubectl create namespace {where}
  kubectl --namespace {where} create secret generic {WALLET} --from-file=privateKey={key}
  helm install covey charts/covey --namespace covey-system --create-namespace --values {values}
  kubectl --namespace {where} apply --filename {subnet}
  kubectl --namespace {where} wait --for=condition=Ready --timeout=5m subnet/{seat.consortium}
Tasks also need PersistentVolumeClaims in that namespace: {claims}."""


def _write(path: Path, text: str, mode: int) -> None:
    """A new file that never has more rights than these, not even for a moment."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)


def _yaml(document: Object) -> str:
    return yaml.safe_dump(document, sort_keys=False)


def _port(url: str) -> int:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise CommandError(f"{url} is no address of a node: {error}") from error
    return port or _PORTS.get(parts.scheme, 443)
