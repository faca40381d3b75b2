"""What the benchmark of the operator reads out of an audit log."""

from __future__ import annotations

import json

from covey_bench import operator_audit as audit

OPERATOR = "system:serviceaccount:covey-system:covey-operator"


def line(verb, resource, name, second, code=200, user=OPERATOR, stage="ResponseComplete", subresource=None):
    about = {"resource": resource, "name": name} | ({"subresource": subresource} if subresource else {})
    return json.dumps(
        {
            "stage": stage,
            "user": {"username": user},
            "verb": verb,
            "objectRef": about,
            "responseStatus": {"code": code},
            "requestReceivedTimestamp": f"2026-01-01T00:00:{second:02d}.250000Z",
            "stageTimestamp": f"2026-01-01T00:00:{second:02d}.500000Z",
        }
    )


def read(tmp_path, *lines):
    (tmp_path / "audit.jsonl").write_text("\n".join(lines) + "\n")
    return list(audit.requests(tmp_path))


def test_times_run_from_the_request_to_the_last_pods_answer(tmp_path):
    found = read(
        tmp_path,
        line("create", "federatedtasks", "a", 1, 201, user="admin"),
        line("patch", "pods", "a-head", 3, 201),
        line("patch", "pods", "a-worker-0", 5, 201),
        line("patch", "pods", "a-worker-0", 9, 200),
        line("create", "federatedtasks", "half", 1, 201, user="admin"),
        line("patch", "pods", "half-head", 2, 201),
    )
    times = audit.applied_and_made(found, 2)
    assert list(times) == ["a"], "a task with a pod too few is none"
    assert times["a"][1] - times["a"][0] == 4.25


def test_reads_leases_and_others_are_no_writes_of_the_operator(tmp_path):
    found = read(
        tmp_path,
        line("watch", "pods", "", 1, stage="ResponseStarted"),
        line("get", "secrets", "wallet", 1),
        line("update", "leases", "covey-operator", 2),
        line("patch", "pods", "a-head", 3, user="kubelet", subresource="status"),
        line("patch", "federatedtasks", "a", 4, subresource="status"),
        line("patch", "federatedtasks", "late", 9),
    )
    first = found[0].received
    seen = audit.traffic(found, OPERATOR, audit.Window(first, first + 5))
    assert (seen.writes, seen.lease_writes, seen.per_second) == (1, 1, 3 / 5)
    assert seen.by_kind["patch federatedtasks/status"] == 1


def test_logs_that_were_put_aside_count_too(tmp_path):
    (tmp_path / "audit-2026-01-01T00-00-00.000.jsonl").write_text(line("get", "pods", "old", 1) + "\n")
    assert [request.name for request in read(tmp_path, line("get", "pods", "new", 2))] == ["old", "new"]
