"""Covey's images, built by Docker from the Dockerfiles that users build, and the registry for kind's nodes."""

from covey_dev import docker, paths, registry
from covey_dev.images import ALL, key
from covey_dev.process import until
from covey_dev.progress import step

CONTAINER = "covey-registry"
IMAGE = "docker.io/library/registry:2.8.3"
PORT = 5000
# Docker takes a registry on the loopback address without TLS, as kind's documentation of a local registry does.
PUSH = "localhost:5001"
_READY_SECONDS = 60.0
# Without attestations an image is one manifest, as it is with buildah; an older Docker does not know the variable.
_BUILD = {"BUILDX_NO_DEFAULT_ATTESTATIONS": "1"}


def registry_up(network: str) -> None:
    """Start the registry on this network of Docker, where its name is that of its container, unless it runs."""
    found = docker.container(CONTAINER)
    if not docker.running(found):
        with step(f"registry on {PUSH}"):
            if found is None:
                docker.docker(*registry_command(network), remedy=f"Free {PUSH}, if it is taken; else read the above.")
            else:
                docker.docker("start", CONTAINER)
    until(lambda: registry.answers(PUSH), "registry", _READY_SECONDS, f"See `docker logs {CONTAINER}`.")


def registry_command(network: str) -> list[str]:
    """Arguments for Docker by which the registry starts, and starts again with the machine as kind's nodes do."""
    return [
        "run", "--detach", "--restart=always", f"--name={CONTAINER}", f"--label={docker.LABEL}",
        f"--network={network}", f"--publish=127.0.0.1:{PUSH.rpartition(':')[2]}:{PORT}", IMAGE,
    ]  # fmt: skip


def registry_down() -> None:
    """Remove the registry with all that was pushed; images that were built stay in the engine."""
    if docker.container(CONTAINER) is not None:
        docker.docker("rm", "--force", "--volumes", CONTAINER)


def ensure(name: str) -> str:
    """Build and push an image in its full variant unless it is in the running registry; registry.local/…@sha256:…"""
    repository, _, digest = _pushed(name)
    return f"{registry.NAME}/{repository}@{digest}"


def build_command(name: str, tag: str, base: str) -> list[str]:
    """Arguments for Docker.

    Args:
        name: of the image.
        tag: that the image gets.
        base: tag of the image of ours that it is built on; empty if there is none.
    """
    arguments = [f"--build-arg=TRAINER={base}"] if base else []
    return ["build", "--quiet", *arguments, f"--file={ALL[name].path}", f"--tag={tag}", str(paths.REPOSITORY)]


def _pushed(name: str) -> tuple[str, str, str]:
    """(repository, tag, digest) of an image that is in the registry; the tag says all that went into the image."""
    image = ALL[name]
    base_tag, base_digest = _pushed(image.base)[1:] if image.base else ("", "")
    repository, version = f"covey/{name}", key(image, "full", base_digest)[:16]
    tag = f"{PUSH}/{repository}:{version}"
    digest = registry.digest(PUSH, repository, version)
    if digest is None:
        with step(f"building image {repository}"):
            docker.docker(*build_command(name, tag, base_tag), env=_BUILD)
        with step(f"pushing image {repository}"):
            docker.docker("push", "--quiet", tag)
        digest = registry.digest(PUSH, repository, version)
        assert digest is not None, f"{tag} was pushed and is not there"
    return repository, tag, digest
