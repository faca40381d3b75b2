"""The API server for integration tests is a real one, and leaves nothing behind."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from covey_dev import paths
from covey_dev.apiserver import ApiServer
from covey_dev.errors import AlreadyRunningError
from covey_dev.process import Process, until

pytestmark = pytest.mark.apiserver


@pytest.fixture(scope="module")
def server() -> Iterator[ApiServer]:
    with ApiServer(audit=True) as running:
        yield running


def test_it_collects_what_lost_its_owner(server):
    server.kubectl("create", "configmap", "owner")
    uid = server.kubectl("get", "configmap", "owner", "-o", "jsonpath={.metadata.uid}")
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid}
    owned = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "owned", "ownerReferences": [owner]}}
    server.kubectl("apply", "-f", "-", stdin=json.dumps(owned))
    server.kubectl("delete", "configmap", "owner")
    server.kubectl("wait", "--for=delete", "configmap/owned", "--timeout=30s")


def test_a_deleted_namespace_goes(server):
    server.kubectl("create", "namespace", "brief")
    server.kubectl("delete", "namespace", "brief", "--timeout=30s")
    assert "brief" not in server.kubectl("get", "namespaces")


def test_every_request_is_in_the_audit_log(server):
    server.kubectl("create", "configmap", "audited")
    until(lambda: server.audit_log.exists(), "audit log", 10, "")
    assert any(
        event["verb"] == "create" and event["objectRef"].get("name") == "audited"
        for event in server.audit()
        if "objectRef" in event
    )


def test_starting_it_twice_is_refused(server):
    with pytest.raises(AlreadyRunningError):
        server.start()


def test_it_dies_with_a_test_run_that_crashes(tmp_path):
    program = "import sys, os; from pathlib import Path; from covey_dev.apiserver import ApiServer\n"
    program += "ApiServer(Path(sys.argv[1])).start(); os.kill(os.getpid(), 9)"
    environment = {**os.environ, "PYTHONPATH": str(paths.DEV)}
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], env=environment)
    pids = list(tmp_path.glob("run/*.pid"))
    assert len(pids) == 3
    until(lambda: not any(Process.load(pid) for pid in pids), "their end", 10, "")
