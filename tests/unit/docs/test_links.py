"""What the documentation points at exists, and what it shows is valid."""

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml
from covey_api.resources import RESOURCES

ROOT = Path(__file__).resolve().parents[3]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "charts").rglob("*.md")])
SPECS = {resource.kind: resource.spec for resource in RESOURCES}

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^()\s]+)\)")
HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)
MAKE = re.compile(r"\bmake ([a-z][a-z0-9-]*)")
TARGET = re.compile(r"^([a-z][a-z0-9-]*):(?!=)", re.MULTILINE)


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def prose(page: Path) -> str:
    """The text without code, in which brackets mean something else."""
    return re.sub(r"`+[^`\n]*`+", "", FENCE.sub("", page.read_text()))


def blocks(page: Path, *languages: str) -> Iterator[str]:
    return (text for language, text in FENCE.findall(page.read_text()) if language in languages)


def anchors(page: Path) -> set[str]:
    """Fragments of headings, as GitHub makes them."""
    headings = HEADING.findall(FENCE.sub("", page.read_text()))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(page: Path) -> Iterator[str]:
    """Shell blocks without comments, and code in the text."""
    for block in blocks(page, "sh"):
        yield re.sub(r"#.*", "", block)
    yield from re.findall(r"`([^`\n]+)`", FENCE.sub("", page.read_text()))


def links() -> Iterator[tuple[Path, str]]:
    for page in PAGES:
        for target in LINK.findall(prose(page)):
            if not re.match(r"[a-z]+:", target):
                yield page, target


def resources() -> Iterator[tuple[Path, dict]]:
    for page in PAGES:
        for block in blocks(page, "yaml"):
            for document in yaml.safe_load_all(block):
                if isinstance(document, dict) and "kind" in document:
                    yield page, document


@pytest.mark.parametrize(("page", "target"), [pytest.param(p, t, id=f"{name(p)}-{t}") for p, t in links()])
def test_a_link_leads_somewhere(page: Path, target: str):
    path, _, fragment = unquote(target).partition("#")
    found = (page.parent / path).resolve() if path else page

    assert found.exists(), f"{name(page)} points at {target}, which does not exist"
    assert found.is_relative_to(ROOT), f"{name(page)} points at {target}, outside of the repository"
    if fragment:
        assert fragment in anchors(found), f"{name(page)} points at {target}, but there is no such heading"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_make_target_that_is_named_exists(page: Path):
    targets = set(TARGET.findall((ROOT / "Makefile").read_text()))

    named = {target for command in commands(page) for target in MAKE.findall(command)}

    assert named <= targets, f"{name(page)} names targets that the Makefile lacks: {sorted(named - targets)}"


@pytest.mark.parametrize(
    ("page", "document"), [pytest.param(p, d, id=f"{name(p)}-{d['kind']}") for p, d in resources()]
)
def test_a_resource_that_is_shown_is_valid(page: Path, document: dict):
    assert document["apiVersion"] == "covey.dev/v1alpha1"

    SPECS[document["kind"]].model_validate(document["spec"])


def test_the_readme_shows_a_task_and_the_guide_a_subnet():
    shown = {(name(page), document["kind"]) for page, document in resources()}

    assert ("README.md", "FederatedTask") in shown
    assert ("docs/how-to/join-a-consortium.md", "Subnet") in shown


def test_every_page_can_be_reached_from_the_index():
    index = ROOT / "docs" / "README.md"
    known, waiting = {index}, [index]
    while waiting:
        page = waiting.pop()
        for target in LINK.findall(prose(page)):
            linked = (page.parent / target.partition("#")[0]).resolve()
            new = {linked, *linked.glob("*.md")} - known  # a link to a folder shows its pages
            known |= new
            waiting += [found for found in new if found.suffix == ".md" and found.is_file()]

    assert {name(page) for page in (ROOT / "docs").rglob("*.md")} <= {name(page) for page in known}
