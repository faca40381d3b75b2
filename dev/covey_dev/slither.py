"""Static analysis of contracts by slither, of a build with the project's own compiler."""

import json
import os
import tempfile
from pathlib import Path

from covey_dev import environments, foundry, paths
from covey_dev.errors import CommandError, DevError
from covey_dev.process import run

CONTRACTS = paths.REPOSITORY / "contracts"


def check(project: Path = CONTRACTS) -> None:
    """Analyse the contracts of a Foundry project as its `slither.config.json` says.

    Raises:
        DevError: something was found, or a `slither-disable` directive hides nothing any more.
        CommandError: the contracts do not compile, or slither could not analyse all of them.
    """
    tools = foundry.ensure() / "bin"
    slither = environments.ensure(paths.tools() / "slither", "slither") / "slither"
    with tempfile.TemporaryDirectory(prefix="covey-slither-") as name:
        # Apart from the project's own build, which slither would otherwise replace.
        build, report = Path(name), Path(name) / "report.json"
        run(
            tools / "forge", "build", "--build-info", "--skip", "test/**",
            "--out", build / "out", "--cache-path", build / "cache", "--build-info-path", build / "info",
            cwd=project,
        )  # fmt: skip
        run(
            slither, ".", "--ignore-compile", "--foundry-build-info-directory", build / "info",
            "--json", report, "--warn-unused-ignores", "--disallow-partial", "--fail-none",
            cwd=project,
            env={"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"},
        )  # fmt: skip
        found = json.loads(report.read_text())
    if not found["success"]:
        raise CommandError("slither did not analyse the contracts", "Read the output above.", found["error"])
    # A directive is named again for each unit of compilation that its file is in.
    wrong = dict.fromkeys(line for finding in found["results"].get("detectors", []) for line in _lines(finding))
    if wrong:
        raise DevError(
            f"slither has findings in {project}: {len(wrong)}",
            "Mend them, or say at the line why it is safe (docs/reference/contracts.md, Static analysis).",
            "\n".join(wrong),
        )


def _lines(finding: dict[str, object]) -> list[str]:
    """What to tell about a finding; nothing about directives in the libraries."""
    unused = finding.get("unused_ignores")
    if not isinstance(unused, list):
        return [f"{finding['check']}: {finding['description']}"]
    return [
        f"unused directive for {','.join(each['unused_detectors'])} at {each['file']}#{each['line']}"
        for each in unused
        if "node_modules" not in Path(each["file"]).parts
    ]
