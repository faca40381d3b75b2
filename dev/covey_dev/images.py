"""Covey's images: built by buildah from the Dockerfiles that users build with Docker, pushed to the local registry."""

import json
import os
import shutil
import ssl
from dataclasses import dataclass
from pathlib import Path

from covey_dev import artifact, base_image, golang, paths, registry, trim, uv
from covey_dev.buildah import buildah, storage
from covey_dev.errors import UnsupportedError
from covey_dev.place import Variant
from covey_dev.process import run
from covey_dev.progress import step

PAUSE = "registry.local/covey/pause:1"


@dataclass(frozen=True)
class Image:
    """One image: its Dockerfile, and everything of the repository that goes into it.

    Attributes:
        name: on the command line, and in the registry under `covey/`.
        dockerfile, requirements, sources: relative to the repository.
        base: the image of ours that it is built on, if any.
        varies: whether there is a trimmed variant.
    """

    name: str
    dockerfile: str
    sources: tuple[str, ...]
    requirements: str = ""
    base: str = ""
    varies: bool = False

    @property
    def path(self) -> Path:
        """Its Dockerfile."""
        return paths.REPOSITORY / self.dockerfile


_SHARED = ("crds/covey_api", "contracts/covey_chain")
_TRAINER = tuple(f"trainer_image/{package}" for package in ("covey_exchange", "covey_trainer", "covey_validator"))
IMAGES = {
    image.name: image
    for image in (
        Image("operator", "operator/Dockerfile", (*_SHARED, "operator/covey_operator"), "requirements/operator.txt"),
        Image("trainer", "trainer_image/Dockerfile", (*_SHARED, *_TRAINER), "requirements/trainer.txt", varies=True),
        Image("wdbc", "examples/wdbc/Dockerfile", ("examples/wdbc/wdbc",), base="trainer", varies=True),
    )
}

# Only a test needs it: it is built when the test asks for it.
ATTACKER = Image("attacker", "tests/e2e/attacker/Dockerfile", ("tests/e2e/attacker",), base="trainer", varies=True)
ALL = {**IMAGES, ATTACKER.name: ATTACKER}


def ensure(name: str, variant: Variant) -> str:
    """Build and push an image unless just this one is in the registry; returns registry.local/…@sha256:…"""
    image = ALL[name]
    registry.up()
    base = ensure(image.base, variant) if image.base else ""
    repository = f"covey/{name}" + ("-trimmed" if image.varies and variant == "trimmed" else "")
    record = paths.cache() / "images/built" / f"{repository.rpartition('/')[2]}.json"
    with artifact.locked(record):
        key_ = key(image, variant, base)
        known = json.loads(record.read_text()) if record.exists() else {}
        if known.get("key") == key_ and registry.digest(registry.SERVICE.address, repository, known["digest"]):
            return f"{registry.NAME}/{repository}@{known['digest']}"
        local = f"localhost/{repository}:{key_[:16]}"
        with step(f"building image {repository}"):
            _build(image, variant, base, local)
        with step(f"pushing image {repository}"):
            digest = _push(local, f"{repository}:{key_[:16]}")
        artifact.write_json(record, {"key": key_, "digest": digest, "local": local})
    return f"{registry.NAME}/{repository}@{digest}"


def dependencies_key(variant: Variant) -> str:
    """Changes when the heavy layers of any image change, but not with Covey's own source."""
    files = [paths.REPOSITORY / file for image in IMAGES.values() for file in (image.dockerfile, image.requirements)]
    return artifact.digest(variant, *(file for file in files if file.is_file()))


def pause_archive() -> Path:
    """A tar archive of the image that holds every pod's namespaces, for `ctr images import`."""

    def build(fresh: Path) -> None:
        container = buildah("from", "scratch").strip()
        try:
            buildah("copy", "--quiet", container, str(golang.kube() / "pause"), "/pause")
            buildah("config", "--entrypoint", '["/pause"]', "--user", "65535:65535", container)
            buildah("commit", "--quiet", container, PAUSE)
        finally:
            buildah("rm", container)
        buildah("push", "--quiet", PAUSE, f"docker-archive:{fresh}/pause.tar:{PAUSE}")

    key = artifact.digest(golang.kube() / ".covey-key", PAUSE)
    return artifact.ensure(paths.cache() / "images/pause", key, "the pause image", build) / "pause.tar"


def clean() -> None:
    """Remove buildah's storage and what was built in it; the registry keeps what was pushed."""
    if storage().exists():
        buildah("rm", "--all")
        buildah("rmi", "--all", "--force")
    for directory in (storage(), storage().with_name("run"), paths.cache() / "images/built"):
        if directory.exists():
            shutil.rmtree(directory)


def key(image: Image, variant: Variant, base: str) -> str:
    """Changes with everything that goes into an image; `base` names what it is built on, by digest."""
    parts: list[str | bytes | Path] = [variant if image.varies else "", base, paths.REPOSITORY / image.dockerfile]
    if image.requirements:
        parts.append(paths.REPOSITORY / image.requirements)
    for source in image.sources:
        parts += [source, paths.REPOSITORY / source]
    if variant == "trimmed" and image.varies:
        parts.append(Path(trim.__file__))
    return artifact.digest(*parts)


def _build(image: Image, variant: Variant, base: str, local: str) -> None:
    base_image.ensure()
    arguments = ["--build-arg", f"PYTHON={base_image.NAME}"] if image.requirements else []
    arguments += ["--build-arg", f"VARIANT={variant}"] if image.varies and image.requirements else []
    mounts = _build_mounts() if image.requirements else []
    if image.base:
        repository, _, digest = base.removeprefix(f"{registry.NAME}/").partition("@")
        arguments += ["--build-arg", f"TRAINER={_local_name(repository, digest)}"]
    elif variant == "trimmed" and image.varies:
        stubs = _stubs(image)
        arguments += ["--build-arg", f"STUBS={artifact.digest(stubs / 'apply.sh', stubs / 'stubs')[:16]}"]
        mounts.append(f"{stubs}:/mnt/trim:ro")
    volumes = [part for mount in mounts for part in ("--volume", mount)]
    buildah(
        "bud", "--runtime=runc", "--network=host", "--pull=never", "--layers", "--force-rm", "--quiet",
        *arguments, *volumes,
        "--file", str(paths.REPOSITORY / image.dockerfile), "--tag", local, str(paths.REPOSITORY),
    )  # fmt: skip


def _local_name(repository: str, digest: str) -> str:
    record = json.loads((paths.cache() / "images/built" / f"{repository.rpartition('/')[2]}.json").read_text())
    if record["digest"] != digest:
        raise UnsupportedError(f"{repository} was built again meanwhile", "Run the same command again.")
    return str(record["local"])


def _build_mounts() -> list[str]:
    """What makes builds quick and possible behind a local CA, and is in no image: uv, its cache, the CA bundle."""
    mount = paths.cache() / "images/mount"
    mount.mkdir(parents=True, exist_ok=True)
    bundle = os.environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().cafile
    if bundle is None:
        raise UnsupportedError("no CA bundle found", "Install ca-certificates, or name a bundle in SSL_CERT_FILE.")
    shutil.copy(bundle, mount / "ca.crt")
    shutil.copy(uv.program(), mount / "uv.new")
    (mount / "uv.new").rename(mount / "uv")
    cache = run(mount / "uv", "cache", "dir").strip()
    Path(cache).mkdir(parents=True, exist_ok=True)
    return [f"{mount}:/mnt/build:ro", f"{cache}:/mnt/uv-cache"]


def _stubs(image: Image) -> Path:
    requirements = paths.REPOSITORY / image.requirements

    def build(fresh: Path) -> None:
        site = fresh / "site"
        run(
            uv.program(), "pip", "install", "--quiet", "--python-version=3.11", f"--target={site}",
            "--require-hashes", "-r", requirements,
        )  # fmt: skip
        trim.write_stubs(site, fresh)
        shutil.rmtree(site)

    key = artifact.digest(requirements, Path(trim.__file__))
    return artifact.ensure(paths.cache() / "images/stubs", key, "stubs of torch's NVIDIA libraries", build)


def _push(local: str, remote: str) -> str:
    digest_file = paths.cache() / "images" / f"digest-{os.getpid()}"
    target = f"docker://{registry.SERVICE.address}/{remote}"
    try:
        buildah("push", "--quiet", "--tls-verify=false", "--digestfile", str(digest_file), local, target)
        return digest_file.read_text().strip()
    finally:
        digest_file.unlink(missing_ok=True)
