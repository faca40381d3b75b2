"""How members are penalised and paid, and whose word decides what their records are."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from covey_api.base import Address, ApiModel, AppealWindow, Hash, Rule
from covey_api.quantity import duration_seconds

PENALTY_STEPS = 6  # with the last of them a member is removed
MINORITY_EPOCHS = 7  # measured: from here on an honest minority of one in ten is paid as much as the others


class AuditSetSpec(ApiModel):
    """Records to which the Planner commits with the task, and which it opens to all when somebody is flagged."""

    root: Annotated[Hash, Field(description="Merkle root of the records; `covey appeal seal` prints it.")]
    records: Annotated[int, Field(ge=1, le=2**32 - 1, description="How many lie under it.")]


class EnclaveSpec(ApiModel):
    """What shows that the auditor's key lives in an enclave: certificates from its key up to one that members trust."""

    measurement: Annotated[
        str,
        Field(
            pattern=r"^0x([0-9a-f]{2}){32,64}$", max_length=130, description="Of the code that the enclave must run."
        ),
    ]
    root_key: Annotated[Hash, Field(description="SHA-256 of the SubjectPublicKeyInfo that the chain must end with.")]
    certificates: Annotated[
        list[Annotated[str, Field(pattern=r"^[0-9A-Za-z+/]+={0,2}$", max_length=5462)]],
        Field(min_length=2, max_length=4, description="X.509, DER in base64: the auditor's key first."),
    ]


class IncentivesSpec(ApiModel):
    """How members are penalised and paid."""

    rules = (
        Rule(
            "!has(self.auditor) || !has(self.auditSets)",
            "give either auditor or auditSets, not both",
            lambda spec: spec.auditor is None or spec.audit_sets is None,
        ),
        Rule(
            "has(self.auditor) || !has(self.enclave)",
            "an enclave attests the key of an auditor: give auditor, too",
            lambda spec: spec.auditor is not None or spec.enclave is None,
        ),
    )

    epoch_rounds: Annotated[
        int, Field(ge=1, le=1000, description="Rounds after which members are judged; one round's score is noise.")
    ] = 5
    shadow_epochs: Annotated[
        int,
        Field(
            ge=0,
            le=1_000_000,
            description="First epochs in which penalties are computed and shown, but nothing is held.",
        ),
    ] = 0
    auditor: Annotated[
        Address | None,
        Field(
            description="Whose signed word decides on appeals; without one, and without auditSets, nobody can "
            "appeal, and what is held for degrading is slashed at the end."
        ),
    ] = None
    enclave: Annotated[
        EnclaveSpec | None, Field(description="Attests that the auditor is a program that nobody can look into.")
    ] = None
    audit_sets: Annotated[
        list[AuditSetSpec] | None,
        Field(
            min_length=1,
            max_length=8,
            description="In an auditor's place: what the members measure on these records, by stake, decides.",
        ),
    ] = None
    appeal_window: Annotated[
        AppealWindow,
        Field(description="How long after the last result members may appeal, and the auditor may answer."),
    ] = "168h"

    @property
    def appeal_window_seconds(self) -> int:
        """As the contract has it: 0 without an auditor."""
        return duration_seconds(self.appeal_window) if self.auditor else 0

    def warnings(self, rounds: int) -> list[str]:
        """What a Planner and the members should know about a task of so many rounds."""
        epochs = rounds // self.epoch_rounds
        task = f"{rounds} rounds are {epochs} epochs of {self.epoch_rounds}"
        removal = PENALTY_STEPS + self.shadow_epochs
        found = []
        if epochs < MINORITY_EPOCHS:
            found.append(
                f"{task}: before about {MINORITY_EPOCHS} epochs an honest minority is paid less than the others. Give "
                "the task more rounds, or tell members with unusual data."
            )
        if epochs < removal:
            found.append(
                f"{task}: a member that degrades the model loses stake, but cannot be removed before epoch {removal}."
            )
        return found
