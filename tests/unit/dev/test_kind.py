"""What the tools ask of Docker and kind, and what they read from their answers (as Docker 20.10 gave them)."""

from pathlib import Path

import pytest
from covey_dev import choice, docker, docker_images, golang, images, kind, network, paths, registry
from covey_dev.errors import DevError, UnsupportedError
from covey_dev.kind import Kind
from covey_dev.place import Site
from covey_dev.sandbox import Sandbox

DUAL_STACK = {
    "Name": "kind",
    "IPAM": {"Config": [{"Subnet": "fc00:f853:ccd:e793::/64"}, {"Subnet": "172.18.0.0/16", "Gateway": "172.18.0.1"}]},
}
RUNNING = {"State": {"Running": True}, "NetworkSettings": {"Networks": {"kind": {"IPAddress": "172.18.0.3"}}}}
STOPPED = {"State": {"Running": False}, "NetworkSettings": {"Networks": {"kind": {"IPAddress": ""}}}}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `docker` on the PATH that succeeds, knows nothing, and notes how it was called."""
    program, notes = tmp_path / "bin/docker", tmp_path / "notes"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> {notes}\n[ "$2" != inspect ]\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    return notes


def test_addresses_are_those_that_docker_gave() -> None:
    assert kind.gateway(DUAL_STACK) == "172.18.0.1"
    assert docker.address(RUNNING, "kind") == "172.18.0.3"
    assert (docker.running(RUNNING), docker.running(STOPPED), docker.running(None)) == (True, False, False)
    assert (docker.address(STOPPED, "kind"), docker.address(RUNNING, "other"), docker.address(None, "kind")) == (
        "",
    ) * 3


@pytest.mark.parametrize("config", [None, [], [{"Subnet": "fc00::/64", "Gateway": "fc00::1"}]])
def test_a_network_without_ipv4_is_refused(config: list[dict[str, str]] | None) -> None:
    with pytest.raises(DevError, match="network kind has no IPv4 gateway"):
        kind.gateway({"Name": "kind", "IPAM": {"Config": config}})


def test_a_cluster_has_its_volumes_on_the_host_and_knows_the_registry() -> None:
    written = kind.config("st-mary")
    own = paths.state() / "kind/st-mary"
    (node,) = written["nodes"]
    mounts = {
        mount["containerPath"]: (mount["hostPath"], mount.get("readOnly", False)) for mount in node["extraMounts"]
    }
    assert mounts == {
        f"{own}/volumes": (f"{own}/volumes", False),
        "/var/local-path-provisioner": (f"{own}/provisioned", False),
        "/etc/containerd/certs.d": (f"{paths.state()}/kind/certs.d", True),
    }
    assert (written["kind"], written["apiVersion"]) == ("Cluster", "kind.x-k8s.io/v1alpha4")
    assert kind.node_name("st-mary") == f"{written['name']}-control-plane"


def test_a_volume_of_the_provisioner_is_found_on_the_host() -> None:
    site = Site("a", "a", "", Path(), Path(), {Path("/var/local-path-provisioner"): Path("/host/provisioned")})
    assert site.on_host(Path("/var/local-path-provisioner/pvc-1/x")) == Path("/host/provisioned/pvc-1/x")
    assert site.on_host(Path("/host/volumes/models")) == Path("/host/volumes/models")


def test_the_network_is_as_kind_makes_it_and_marked_as_ours() -> None:
    assert kind.network_command("1450") == [
        "network", "create", "--driver=bridge", "--opt=com.docker.network.bridge.enable_ip_masquerade=true",
        "--opt=com.docker.network.driver.mtu=1450", "--label=dev.covey", "kind",
    ]  # fmt: skip
    assert not any("mtu" in argument for argument in kind.network_command(""))


def test_the_registry_takes_pushes_from_this_machine_only() -> None:
    command = docker_images.registry_command("kind")
    assert "--publish=127.0.0.1:5001:5000" in command
    assert {"--network=kind", "--name=covey-registry", "--label=dev.covey"} <= set(command)


def test_nodes_find_the_registry_under_the_name_that_images_have_everywhere(tmp_path: Path) -> None:
    registry.write_hosts(tmp_path, "covey-registry:5000")
    written = (tmp_path / registry.NAME / "hosts.toml").read_text()
    assert '[host."http://covey-registry:5000"]' in written
    assert network.HOST not in written


def test_images_are_built_from_the_files_that_users_build() -> None:
    plain = docker_images.build_command("trainer", "localhost:5001/covey/trainer:k", "")
    assert plain[-1] == str(paths.REPOSITORY)
    assert f"--file={paths.REPOSITORY}/trainer_image/Dockerfile" in plain
    assert not any("--build-arg" in argument for argument in plain)
    derived = docker_images.build_command("wdbc", "x", "localhost:5001/covey/trainer:k")
    assert "--build-arg=TRAINER=localhost:5001/covey/trainer:k" in derived


def test_an_image_that_is_in_the_registry_is_not_built_again(monkeypatch: pytest.MonkeyPatch, engine: Path) -> None:
    monkeypatch.setattr(registry, "digest", lambda _address, repository, _tag: f"sha256:{repository}")
    assert docker_images.ensure("wdbc") == "registry.local/covey/wdbc@sha256:covey/wdbc"
    assert not engine.exists()


def test_an_image_is_built_on_the_one_that_was_pushed_and_named_by_its_digest(
    monkeypatch: pytest.MonkeyPatch, engine: Path
) -> None:
    def digest(_address: str, repository: str, tag: str) -> str | None:
        pushed = engine.exists() and f"push --quiet localhost:5001/{repository}:{tag}" in engine.read_text()
        return f"sha256:{repository}" if pushed else None

    monkeypatch.setattr(registry, "digest", digest)
    assert docker_images.ensure("wdbc") == "registry.local/covey/wdbc@sha256:covey/wdbc"
    calls = [line.split() for line in engine.read_text().splitlines()]
    assert [call[0] for call in calls] == ["build", "push", "build", "push"]
    trainer, wdbc = calls[1][-1], calls[3][-1]
    assert f"--build-arg=TRAINER={trainer}" in calls[2]
    key = images.key(images.IMAGES["wdbc"], "full", "sha256:covey/trainer")
    assert wdbc == f"localhost:5001/covey/wdbc:{key[:16]}"


def test_docker_builds_no_trimmed_image() -> None:
    with pytest.raises(UnsupportedError, match="full images only"):
        Kind().image("trainer", "trimmed")


def test_volumes_are_emptied_whoever_owns_them() -> None:
    command = kind.empty_command(Path("/state/kind/st-mary"))
    assert "--volume=/state/kind/st-mary:/cluster" in command
    assert command[-3:] == ["-rf", "/cluster/volumes", "/cluster/provisioned"]


def test_a_node_gets_the_images_before_it_is_needed(engine: Path) -> None:
    site = Site("st-mary", kind.node_name("st-mary"), "172.18.0.3", Path(), Path())
    Kind().preload([site], ["registry.local/covey/wdbc@sha256:1"])
    assert engine.read_text() == "exec covey-st-mary-control-plane crictl pull registry.local/covey/wdbc@sha256:1\n"


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: Path) -> Path:
    """A `kind` and a `kubectl` that note their first words where `docker` does."""
    for name in ("kind", "kubectl"):
        (tmp_path / name).write_text(f'#!/bin/sh\necho {name} "$1 $2" >> {engine}\n')
        (tmp_path / name).chmod(0o755)
    monkeypatch.setattr(golang, "kind", lambda: tmp_path / "kind")
    monkeypatch.setattr(golang, "kube", lambda: tmp_path)
    monkeypatch.setattr(Kind, "registry_up", lambda _self: kind.directory().mkdir(parents=True, exist_ok=True))
    return engine


def calls(notes: Path) -> list[str]:
    return [" ".join(line.split()[:2]) for line in notes.read_text().splitlines()]


def test_what_an_interrupted_command_left_makes_way_for_a_whole_cluster(
    monkeypatch: pytest.MonkeyPatch, tools: Path
) -> None:
    (kind.directory() / "st-mary/volumes/old").mkdir(parents=True)
    monkeypatch.setattr(docker, "container", lambda _name: RUNNING)
    (site,) = Kind().up(["st-mary"])
    assert calls(tools) == ["kind delete", "run --rm", "kind create", "kubectl " + f"--kubeconfig={site.kubeconfig}"]
    assert (site.address, site.node) == ("172.18.0.3", "covey-st-mary-control-plane")
    assert not (site.directory / "volumes/old").exists()
    assert (site.directory / "kind.yaml").exists()


def test_a_stopped_cluster_is_started_and_keeps_its_volumes(monkeypatch: pytest.MonkeyPatch, tools: Path) -> None:
    model = kind.directory() / "st-mary/volumes/models"
    model.mkdir(parents=True)
    (kind.directory() / "st-mary/kubeconfig").touch()
    monkeypatch.setattr(docker, "container", lambda _name: STOPPED)
    (site,) = Kind().up(["st-mary"])
    assert calls(tools) == ["start covey-st-mary-control-plane", "kubectl " + f"--kubeconfig={site.kubeconfig}"]
    assert model.exists()


def test_an_engine_whose_network_is_not_on_this_machine_is_refused(
    monkeypatch: pytest.MonkeyPatch, engine: Path
) -> None:
    monkeypatch.setattr(docker, "network", lambda _name: DUAL_STACK | {"IPAM": {"Config": [{"Gateway": "192.0.2.1"}]}})
    with pytest.raises(UnsupportedError, match=r"192\.0\.2\.1.* is no address of this machine"):
        Kind().chain_up()
    assert not engine.exists()  # a network that is there is taken as it is


def test_nothing_chosen_means_sandboxes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLUSTER", "")
    assert isinstance(choice.chosen(), Sandbox)
    monkeypatch.delenv("CLUSTER")
    assert isinstance(choice.chosen(), Sandbox)


def test_kind_is_chosen_when_an_engine_answers(monkeypatch: pytest.MonkeyPatch, engine: Path) -> None:
    monkeypatch.setenv("CLUSTER", "kind")
    assert isinstance(choice.chosen(), Kind)
    assert engine.read_text() == "info\n"


def test_without_an_engine_the_error_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: Path
) -> None:
    monkeypatch.setenv("CLUSTER", "kind")
    (tmp_path / "bin/docker").write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(UnsupportedError, match="`docker info` reaches none") as raised:
        choice.chosen()
    assert raised.value.remedy.startswith("Start Docker")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnsupportedError, match="no program `docker`"):
        choice.chosen()


def test_a_misspelt_choice_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLUSTER", "kid")
    with pytest.raises(UnsupportedError, match="CLUSTER=kid is not known"):
        choice.chosen()


def test_kind_is_in_use_from_the_first_thing_that_it_made(engine: Path) -> None:
    assert [place.name for place in choice.in_use()] == ["sandbox"]
    kind.directory().mkdir(parents=True)
    assert [place.name for place in choice.in_use()] == ["sandbox", "kind"]
