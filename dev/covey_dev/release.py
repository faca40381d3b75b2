"""What is handed to others: chart, plain manifests, a bill of materials of each image, checksums and a signature.

The manifests name the images by digest, so that the signature holds for them as well.
"""

import hashlib
import subprocess
from pathlib import Path

import yaml

from covey_dev import golang, paths
from covey_dev.errors import CommandError
from covey_dev.process import run
from covey_dev.progress import step

CHART = paths.REPOSITORY / "charts/covey"
NAMESPACE = "covey-system"
CHECKSUMS = "SHA256SUMS"
SIGNATURE = f"{CHECKSUMS}.minisig"
# Name of the bill of materials -> value of the chart that names the image.
IMAGES = {"operator": "image", "trainer": "trainerImage"}
_DIGEST_REMEDY = "A release names its images by digest, so that its signature covers them: `docker push` prints it."
_IMAGE_REMEDY = "The bill of materials is read from {}: push the image, and log in with `docker login`."
_VALUES_REMEDY = "Read the message of Helm above, and correct the file of values."


def version() -> str:
    """Of the chart, and of the images that it names by default."""
    found: dict[str, str] = yaml.safe_load((CHART / "Chart.yaml").read_text())
    return found["version"]


def manifests(values: Path, namespace: str = NAMESPACE) -> str:
    """The chart as plain YAML for `kubectl apply`: its namespace first, then everything but the pod of `helm test`."""
    rendered = run(
        golang.helm(), "template", "covey", CHART, f"--namespace={namespace}", f"--values={values}", "--skip-tests",
        remedy=_VALUES_REMEDY,
    )  # fmt: skip
    restricted = {"pod-security.kubernetes.io/enforce": "restricted"}
    metadata = {"name": namespace, "labels": restricted}
    return yaml.safe_dump({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}) + rendered


def bill_of_materials(reference: str, target: Path) -> None:
    """Write what is in an image, Debian's packages and Python's, as CycloneDX 1.6 JSON.

    Args:
        reference: REGISTRY/NAME@DIGEST, read from the registry with the credentials of Docker's configuration.
        target: the file.

    Raises:
        CommandError: the image cannot be read.
    """
    run(
        golang.syft(), "scan", "--quiet", f"registry:{reference}", "--select-catalogers=-file",
        f"--output=cyclonedx-json@1.6={target}", env={"SYFT_CHECK_FOR_APP_UPDATE": "false"},
        remedy=_IMAGE_REMEDY.format(reference),
    )  # fmt: skip


def make(target: Path, values: Path, key: Path) -> list[Path]:
    """Make a release in the directory `target`; returns its files, the signature last.

    Args:
        target: made when missing; files of the same names are replaced.
        values: of the manifests; their images, by digest.
        key: minisign's secret key; its password is asked for on the terminal.

    Raises:
        CommandError: an image has no digest or is not in its registry, a part failed, or the key cannot sign.
    """
    references = _references(values)
    target.mkdir(parents=True, exist_ok=True)
    with step(f"release {version()} in {target}"):
        run(golang.helm(), "package", CHART, f"--destination={target}")
        made = [target / f"covey-{version()}.tgz", target / f"covey-{version()}.yaml"]
        made[1].write_text(manifests(values))
        for name, reference in references.items():
            made.append(target / f"{name}.cdx.json")
            bill_of_materials(reference, made[-1])
        sums = target / CHECKSUMS
        sums.write_text("".join(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in made))
        signature = target / SIGNATURE
        _sign(sums, key, signature)
    return [*made, sums, signature]


def _references(values: Path) -> dict[str, str]:
    given = yaml.safe_load(values.read_text())
    found = {}
    for name, value in IMAGES.items():
        image = given.get(value) if isinstance(given, dict) else None
        if not (isinstance(image, dict) and image.get("digest")):
            raise CommandError(f"{values}: {value}.digest is missing", _DIGEST_REMEDY)
        found[name] = f"{image.get('repository')}@{image['digest']}"
    return found


def _sign(file: Path, key: Path, signature: Path) -> None:
    """With the terminal of this process, where minisign asks for the key's password."""
    signed = subprocess.run([golang.minisign(), "-S", "-s", key, "-m", file, "-x", signature])
    if signed.returncode != 0:
        raise CommandError(
            f"{key} does not sign",
            "Make a key pair once: `minisign -G -s covey.key -p covey.pub`; keep covey.key away.",
        )
