"""What `helm test` calls wrong."""

from datetime import UTC, datetime

import pytest
from covey_operator.check import problems

NOW = datetime(2026, 1, 1, 12, 0, 30, tzinfo=UTC)
SERVED = ["subnets", "subnets/status", "federatedtasks", "federatedtasks/status"]
READY = {
    "metadata": {"generation": 3},
    "spec": {"replicas": 2},
    "status": {"observedGeneration": 3, "readyReplicas": 2, "updatedReplicas": 2},
}
HELD = {"spec": {"holderIdentity": "covey-1", "renewTime": "2026-01-01T12:00:20.123456Z"}}


def test_all_is_well():
    assert problems(SERVED, READY, HELD, NOW) == []


@pytest.mark.parametrize(
    ("served", "status", "lease", "told"),
    [
        ([], {}, HELD, "does not serve subnets.covey.dev"),
        (["subnets"], {}, HELD, "does not serve federatedtasks.covey.dev"),
        (SERVED, {"readyReplicas": 1}, HELD, "1 of 2 pods of the operator are ready"),
        (SERVED, {"updatedReplicas": 0}, HELD, "0 of 2 pods of the operator are ready"),
        (SERVED, {"observedGeneration": 2}, HELD, "of 2 pods of the operator are ready"),
        (SERVED, {}, {}, "nobody holds the Lease covey-operator"),
        (SERVED, {}, {"spec": {**HELD["spec"], "holderIdentity": ""}}, "nobody holds the Lease covey-operator"),
        (
            SERVED,
            {},
            {"spec": {**HELD["spec"], "renewTime": "2026-01-01T12:00:14.999999Z"}},
            "covey-1 has not renewed the Lease covey-operator since",
        ),
    ],
)
def test_what_is_wrong_is_told(served, status, lease, told):
    deployment = {**READY, "status": {**READY["status"], **status}}
    assert told in problems(served, deployment, lease, NOW)[0]


def test_everything_wrong_is_told_at_once():
    assert len(problems([], {**READY, "status": {}}, {}, NOW)) == 4
