"""The pieces of a node that can be looked at without one."""

import json
import os
import signal
import subprocess
import sys

import pytest
from covey_dev import agent, cgroups, paths, pki
from covey_dev.errors import CommandError, NotReadyError
from covey_dev.process import Process, run, spawn, until
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store


def test_version_1_gives_every_controller_a_group_and_its_cpuset_resources(tmp_path):
    for controller in ("cpuset", "memory", "unified"):
        (tmp_path / controller).mkdir()
    (tmp_path / "cpuset/cpuset.cpus").write_text("0-1")
    (tmp_path / "cpuset/cpuset.mems").write_text("0")
    cgroups.create("a", tmp_path)
    assert (tmp_path / "memory/covey-a").is_dir()
    assert (tmp_path / "cpuset/covey-a/cpuset.cpus").read_text() == "0-1"
    assert not (tmp_path / "unified/covey-a").exists()


def test_version_2_delegates_the_controllers_that_there_are(tmp_path):
    (tmp_path / "covey-a").mkdir()
    for group in (tmp_path, tmp_path / "covey-a"):
        (group / "cgroup.controllers").write_text("cpuset cpu io memory pids misc\n")
    cgroups.create("a", tmp_path)
    delegated = {"+cpu", "+cpuset", "+io", "+memory", "+pids"}
    assert set((tmp_path / "covey-a/cgroup.subtree_control").read_text().split()) == delegated
    assert set((tmp_path / "cgroup.subtree_control").read_text().split()) == delegated


def cached_result(directory, name, uid, address, interface="eth0"):
    result = {"ips": [{"address": f"{address}/24"}]}
    cached = {"ifName": interface, "cniArgs": [["K8S_POD_UID", uid]], "result": result}
    (directory / name).write_text(json.dumps(cached))


def test_addresses_come_from_the_results_of_cni(tmp_path):
    cached_result(tmp_path, "one", "u1", "10.244.0.2")
    cached_result(tmp_path, "one-lo", "u1", "127.0.0.1", interface="lo")
    cached_result(tmp_path, "again", "u2", "10.244.0.3")
    cached_result(tmp_path, "anew", "u2", "10.244.0.4")
    (tmp_path / "half-written").write_text('{"ifName": "eth0", "cni')
    found = agent.pod_addresses(tmp_path)
    assert found.keys() == {"u1", "u2"}
    assert found["u1"] == ["10.244.0.2"]
    assert sorted(found["u2"]) == ["10.244.0.3", "10.244.0.4"]


def test_a_released_volume_is_emptied_whatever_is_in_it(tmp_path):
    volume = tmp_path / "volume"
    (volume / "deep/er").mkdir(parents=True)
    (volume / "file").write_text("private")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    (volume / "link").symlink_to(outside)
    agent.empty(volume)
    assert list(volume.iterdir()) == []
    assert (outside / "kept").exists()
    assert volume.stat().st_mode & 0o777 == agent.VOLUME_MODE


def test_a_server_certificate_verifies_against_its_authority_and_no_other(tmp_path):
    ours, theirs = (pki.Authority.create(tmp_path / name, name) for name in ("ours", "theirs"))
    ours.issue("server", "kube-apiserver", "kubernetes", ["localhost", "10.66.0.11"])
    certificate = x509.load_pem_x509_certificate((tmp_path / "ours/server.crt").read_bytes())

    def verify(authority: pki.Authority) -> None:
        builder = PolicyBuilder().store(Store([authority.certificate]))
        builder.build_server_verifier(x509.DNSName("localhost")).verify(certificate, [])

    certificate.verify_directly_issued_by(ours.certificate)
    with pytest.raises(ValueError, match="issuer"):
        certificate.verify_directly_issued_by(theirs.certificate)
    with pytest.raises(x509.verification.VerificationError):
        verify(theirs)


def test_keys_and_kubeconfigs_are_for_their_owner_only(tmp_path):
    pki.Authority.create(tmp_path, "a").issue("admin", "admin", "system:masters")
    pki.write_service_account_key(tmp_path)
    pki.write_kubeconfig(tmp_path / "kubeconfig", "a", "https://127.0.0.1:6443", tmp_path, "admin")
    for secret in ("ca.key", "admin.key", "sa.key", "kubeconfig"):
        assert (tmp_path / secret).stat().st_mode & 0o777 == 0o600


def test_a_failing_program_tells_what_it_printed_and_what_to_do():
    with pytest.raises(CommandError, match="ended with 3") as caught:
        run("sh", "-c", "echo the reason; exit 3", remedy="Do this.")
    assert caught.value.log == "the reason\n"
    assert caught.value.remedy == "Do this."


def test_a_missing_program_is_named():
    with pytest.raises(CommandError, match="no-such-program is not installed"):
        run("no-such-program")


def test_waiting_in_vain_shows_the_log(tmp_path):
    (tmp_path / "log").write_text("why it failed")
    with pytest.raises(NotReadyError) as caught:
        until(lambda: False, "thing", 0.01, "Wait longer.", tmp_path / "log")
    assert caught.value.log == "why it failed"


def test_a_pid_that_another_process_got_is_not_ours(tmp_path):
    (tmp_path / "pid").write_text(f"{os.getpid()} 1")
    assert Process.load(tmp_path / "pid") is None


def test_a_supervised_program_is_started_again_and_ends_with_its_supervisor(tmp_path):
    program = "import os; print(os.getpid(), flush=True); import time; time.sleep(1000)"
    command = [sys.executable, "-m", "covey_dev.supervisor", str(tmp_path), "sleeper", sys.executable, "-c", program]
    supervisor = spawn(command, tmp_path / "supervisor.log", {"PYTHONPATH": str(paths.DEV)})
    log = tmp_path / "sleeper.log"

    def starts() -> list[int]:
        return [int(line) for line in log.read_text().splitlines()] if log.exists() else []

    try:
        until(lambda: len(starts()) == 1, "first start", 10, "")
        os.kill(starts()[0], signal.SIGKILL)
        until(lambda: len(starts()) == 2, "second start", 10, "")
        child = Process.of(starts()[1])
    finally:
        supervisor.stop()
    assert not child.alive


def test_every_command_explains_itself():
    shown = subprocess.run(
        [sys.executable, "-m", "covey_dev", "--help"],
        env={**os.environ, "PYTHONPATH": str(paths.DEV)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for command in ("anvil", "apiserver", "cluster", "down", "image", "registry", "status", "tools"):
        assert f"\n  {command} " in shown
