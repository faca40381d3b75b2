"""`make release` and `make manifests`: what others get, checked as they would check it; with images in a registry."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from covey_dev import choice, golang, registry, release
from covey_dev.apiserver import ApiServer
from covey_dev.errors import CommandError
from covey_dev.images import ALL
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Released:
    """A release and the key that people check it with."""

    directory: Path
    files: list[Path]
    public_key: Path

    def file(self, name: str) -> Path:
        return self.directory / name


def minisign(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([golang.minisign(), *arguments], capture_output=True, text=True, input="")


def new_key(directory: Path) -> tuple[Path, Path]:
    secret, public = directory / "covey.key", directory / "covey.pub"
    made = minisign("-G", "-W", "-s", secret, "-p", public)
    assert made.returncode == 0, made.stderr
    return secret, public


@pytest.fixture(scope="module")
def references() -> Iterator[dict[str, str]]:
    """Name of an image -> REGISTRY/NAME@DIGEST, in the registry of the local clusters, which has no TLS."""
    place = choice.chosen()
    address = place.registry_up()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYFT_REGISTRY_INSECURE_USE_HTTP", "true")
        yield {name: place.image(name, place.variant).replace(registry.NAME, address) for name in release.IMAGES}
    place.end_shared()


@pytest.fixture(scope="module")
def values(tmp_path_factory: pytest.TempPathFactory, references: dict[str, str]) -> Path:
    file = tmp_path_factory.mktemp("values") / "values.yaml"
    named = {release.IMAGES[name]: reference.split("@") for name, reference in references.items()}
    file.write_text(yaml.safe_dump({key: {"repository": a, "digest": b} for key, (a, b) in named.items()}))
    return file


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory, values: Path) -> Released:
    directory = tmp_path_factory.mktemp("release")
    secret, public = new_key(tmp_path_factory.mktemp("key"))
    return Released(directory, release.make(directory, values, secret), public)


def test_nothing_else_is_in_it(released: Released):
    version = yaml.safe_load((ROOT / "charts/covey/Chart.yaml").read_text())["version"]
    names = [f"covey-{version}.tgz", f"covey-{version}.yaml", "operator.cdx.json", "trainer.cdx.json"]
    assert [file.name for file in released.files] == [*names, "SHA256SUMS", "SHA256SUMS.minisig"]
    assert set(released.directory.iterdir()) == set(released.files)


def test_the_checksums_are_signed_and_right(released: Released):
    checked = minisign("-V", "-p", released.public_key, "-m", released.file("SHA256SUMS"))
    assert checked.returncode == 0, checked.stderr
    summed = subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=released.directory)
    assert summed.returncode == 0
    listed = {line.split()[1] for line in released.file("SHA256SUMS").read_text().splitlines()}
    assert listed | {"SHA256SUMS", "SHA256SUMS.minisig"} == {file.name for file in released.files}


def test_a_changed_byte_and_another_key_are_noticed(released: Released, tmp_path: Path):
    changed = tmp_path / "SHA256SUMS"
    changed.write_text(released.file("SHA256SUMS").read_text().replace("a", "b", 1))
    signature = released.file("SHA256SUMS.minisig")
    assert minisign("-V", "-p", released.public_key, "-m", changed, "-x", signature).returncode != 0
    _, stranger = new_key(tmp_path)
    assert minisign("-V", "-p", stranger, "-m", released.file("SHA256SUMS")).returncode != 0


def test_a_key_that_is_none_is_refused(tmp_path: Path, values: Path):
    key = tmp_path / "key"
    key.write_text("no key\n")
    with pytest.raises(CommandError, match="does not sign"):
        release.make(tmp_path / "out", values, key)


def test_the_signed_manifests_name_the_images_by_digest(released: Released, references: dict[str, str]):
    address = references["operator"].partition("/")[0]
    assert set(re.findall(rf"{re.escape(address)}/[^\s\"',]+", released.files[1].read_text())) == {*references.values()}


@pytest.mark.parametrize("missing", ["image", "trainerImage"])
def test_an_image_without_a_digest_is_refused(tmp_path: Path, values: Path, missing: str):
    given = yaml.safe_load(values.read_text())
    del given[missing]["digest"]
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(given))
    with pytest.raises(CommandError, match=f"{missing}.digest is missing") as refused:
        release.make(tmp_path / "out", tmp_path / "values.yaml", tmp_path / "key")
    assert "by digest" in refused.value.remedy
    assert not (tmp_path / "out").exists()


def test_an_image_that_is_not_in_its_registry_is_refused(tmp_path: Path, values: Path):
    given = yaml.safe_load(values.read_text())
    given["image"]["digest"] = "sha256:" + "1" * 64
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(given))
    with pytest.raises(CommandError) as refused:
        release.make(tmp_path / "out", tmp_path / "values.yaml", tmp_path / "key")
    assert "sha256:" + "1" * 64 in refused.value.remedy
    assert "push the image" in refused.value.remedy


@pytest.mark.parametrize("image", release.IMAGES)
def test_all_that_is_in_an_image_is_in_its_bill_of_materials(released: Released, image: str):
    """What is pinned, and Debian's packages of the base."""
    found = json.loads(released.file(f"{image}.cdx.json").read_text())
    assert (found["bomFormat"], found["specVersion"]) == ("CycloneDX", "1.6")
    parts = [part for part in found["components"] if "purl" in part]
    python = {(canonicalize_name(p["name"]), p["version"]) for p in parts if p["purl"].startswith("pkg:pypi/")}
    pinned = re.findall(r"^([\w.-]+)(?:\[[^]]*\])?==([^\s;]+)", (ROOT / f"requirements/{image}.txt").read_text(), re.M)
    assert len(pinned) > 20
    assert python >= {(canonicalize_name(name), version) for name, version in pinned}
    debian = {part["name"]: part["version"] for part in parts if part["purl"].startswith("pkg:deb/debian/")}
    assert {"base-files", "libc6", "libssl3"} <= debian.keys()
    assert debian["base-files"].startswith("12")


@pytest.mark.parametrize("image", release.IMAGES)
def test_the_base_of_an_image_is_pinned(image: str):
    lines = ALL[image].path.read_text().splitlines()
    (base,) = (line for line in lines if line.startswith("ARG PYTHON="))
    assert re.fullmatch(r"ARG PYTHON=docker\.io/library/python:3\.11-slim-bookworm@sha256:[0-9a-f]{64}", base)
    assert [line for line in lines if line.startswith("FROM ")] == ["FROM ${PYTHON}"]


def test_the_packed_chart_is_the_chart(released: Released, values: Path):
    def rendered(chart: Path) -> str:
        done = subprocess.run(
            [golang.helm(), "template", "covey", chart, f"--values={values}"], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert rendered(released.files[0]) == rendered(release.CHART)


@pytest.fixture(params=[False, True], ids=["newest", "oldest"])
def empty_server(request: pytest.FixtureRequest) -> Iterator[ApiServer]:
    """An API server of this test's own, at either end of the supported range."""
    with ApiServer(oldest=request.param) as server:
        yield server


@pytest.mark.apiserver
def test_the_manifests_install_covey(released: Released, empty_server: ApiServer):
    manifests = released.files[1]
    install = ["apply", "--server-side", f"--filename={manifests}"]
    first = empty_server.kubectl(*install)
    assert "deployment.apps/covey serverside-applied" in first
    crds = ["crd/subnets.covey.dev", "crd/federatedtasks.covey.dev"]
    empty_server.kubectl("wait", "--for=condition=Established", "--timeout=30s", *crds)
    assert empty_server.kubectl("get", "subnets,federatedtasks", "--all-namespaces", "--output=name") == ""
    # The API server takes the pod template too: the controller makes the pod, and Pod Security lets it.
    pods = ["--namespace=covey-system", "--selector=app.kubernetes.io/component=operator", "--timeout=60s"]
    empty_server.kubectl("wait", "--for=create", "pod", *pods)
    before = empty_server.kubectl("get", "deployment", "covey", "--namespace=covey-system", "--output=yaml")
    empty_server.kubectl(*install)
    after = empty_server.kubectl("get", "deployment", "covey", "--namespace=covey-system", "--output=yaml")
    assert [yaml.safe_load(text)["metadata"]["generation"] for text in (before, after)] == [1, 1]
