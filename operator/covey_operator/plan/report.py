"""What the pods say: termination messages, the validator's progress, and the record of how a task ended."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Literal

from covey_api.status import Reason
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from covey_operator.kinds import Object
from covey_operator.plan import names


class _Wire(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)


class Transaction(_Wire):
    """A transaction that the validator sent."""

    purpose: str
    hash: str


class Standing(_Wire):
    """What the incentive rule has made of this member."""

    held: str = "0"  # base units
    slashed: str = "0"
    held_share: str = ""
    slashed_share: str = ""
    removed: bool = False
    words: str = ""


AFTER_THE_ROUNDS = ("Settling", "Done")  # phases of a validator


class Progress(_Wire):
    """The validator's own view (`GET /status`)."""

    round: int | None = None
    rounds: int | None = None
    phase: str | None = None
    loss: str | float | None = None
    metrics: dict[str, str | float] = {}
    bytes_sent: int | None = None
    raw_bytes: int | None = None
    payload_bytes: int | None = None
    peers_connected: int | None = None
    peers: int | None = None
    eta_seconds: float | None = None
    reward: str | None = None  # base units, as a string: JSON numbers lose digits
    standing: Standing | None = None
    suspended: dict[str, int] | None = None  # member -> the round since which its stake does not count
    transactions: tuple[Transaction, ...] = ()

    @property
    def is_over(self) -> bool:
        """Whether no further round is played; the validator brings the result on chain, and its peers may be gone."""
        return self.phase in AFTER_THE_ROUNDS or 0 < (self.rounds or 0) <= (self.round or 0)

    @property
    def why_over(self) -> str:
        """Why no further round is played, as a sentence."""
        if (self.round or 0) >= (self.rounds or 0):
            return "All rounds are done."
        return f"The model got no better for so long that round {self.round} of {self.rounds} was the last."


class Report(_Wire):
    """The termination message of a container (at most 4096 bytes of JSON)."""

    outcome: Literal["Succeeded", "Failed"]
    reason: str = ""
    message: str = ""
    model_digest: str | None = None
    model_location: str | None = None
    reward: str = "0"
    reward_proof: tuple[str, ...] = ()
    round: int | None = None
    user_error: bool = False
    progress: Progress | None = None  # the final figures

    @property
    def task_reason(self) -> Reason:
        """The reason as one of the closed list; what we do not know is the program's."""
        try:
            return Reason(self.reason)
        except ValueError:
            return Reason.PROGRAM_ERROR


class Record(_Wire):
    """How the task ended at this member; kept in a ConfigMap, so that no pod and no chain is needed to tell it."""

    outcome: Literal["Succeeded", "Failed"]
    reason: Reason
    message: str = ""
    report: Report | None = None
    progress: Progress | None = None
    members: int | None = None  # that took part
    took_part: bool = True
    settled: bool = False
    claimed: str | None = None

    @property
    def final(self) -> bool:
        """Whether nothing is left to do."""
        return self.outcome == "Failed" or (self.settled and self.claimed is not None)

    def config_map(self, task: str, namespace: str) -> Object:
        """The ConfigMap that keeps this record."""
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": names.result(task), "namespace": namespace, "labels": names.labels(task)},
            "data": {names.RESULT_KEY: self.model_dump_json(by_alias=True, exclude_none=True)},
        }


def final_figures(seen: Progress | None, report: Report | None = None) -> Progress | None:
    """What stays when the pods have ended: the report's figures over those seen before, and nothing that goes on.

    The validator was last asked some time before its end; without a report of its own that must do.
    """
    told = report.progress if report is not None else None
    if seen is None and told is None:
        return None
    before, after = seen or Progress(), told or Progress()
    figures = {name: getattr(after, name) for name in after.model_fields_set}
    figures["metrics"] = after.metrics or before.metrics
    figures["transactions"] = tuple(dict.fromkeys((*before.transactions, *after.transactions)))
    return before.model_copy(
        update={
            **figures,
            "phase": None,
            "eta_seconds": None,
            "peers": None,
            "peers_connected": None,
            "suspended": None,
        }
    )


def read_record(config_map: Object | None) -> Record | None:
    """The record in a ConfigMap; None if there is none or if it was damaged (the task is then looked at anew)."""
    text = ((config_map or {}).get("data") or {}).get(names.RESULT_KEY)
    if text is None:
        return None
    try:
        return Record.model_validate_json(text)
    except ValidationError:
        return None


def read_report(message: str | None) -> Report | None:
    """A termination message as a report; None if the container left something else (killed, or out of memory)."""
    if not message:
        return None
    try:
        return Report.model_validate(json.loads(message))
    except (ValidationError, json.JSONDecodeError):
        return None


def terminations(pod: Object) -> dict[str, Object]:
    """Container name -> `state.terminated` of the containers that have ended."""
    statuses: Iterable[Object] = (pod.get("status") or {}).get("containerStatuses") or ()
    return {
        status["name"]: status["state"]["terminated"]
        for status in statuses
        if (status.get("state") or {}).get("terminated")
    }


def reports(pod: Object) -> dict[str, Report]:
    """Container name -> report of the containers that have ended with one."""
    found = {name: read_report(ended.get("message")) for name, ended in terminations(pod).items()}
    return {name: report for name, report in found.items() if report is not None}
