"""What is generated is committed as it is generated, and a stale file is reported with the remedy."""

from pathlib import Path

import pytest
from covey_api import crd, reference
from covey_api.generated import main

GENERATORS = [pytest.param(module, id=module.__name__) for module in (crd, reference)]


@pytest.mark.parametrize("generator", GENERATORS)
def test_committed_files_are_what_the_models_say(generator):
    assert main(generator.COMMAND, generator.files(), ["--check"]) == 0


@pytest.mark.parametrize("generator", GENERATORS)
def test_a_stale_file_is_shown_and_named_with_the_remedy(generator, tmp_path: Path, capsys):
    root = ["--root", str(tmp_path)]
    assert main(generator.COMMAND, generator.files(), ["--write", *root]) == 0
    assert main(generator.COMMAND, generator.files(), ["--check", *root]) == 0

    stale = tmp_path / next(iter(generator.files()))
    stale.write_text(stale.read_text().replace("covey", "heron"))

    assert main(generator.COMMAND, generator.files(), ["--check", *root]) == 1
    printed = capsys.readouterr()
    assert str(stale) in printed.out
    assert f"{generator.COMMAND} --write" in printed.err


def test_a_missing_file_is_stale(tmp_path: Path):
    assert main(crd.COMMAND, crd.files(), ["--check", "--root", str(tmp_path)]) == 1


def test_writing_twice_changes_nothing(tmp_path: Path):
    root = ["--write", "--root", str(tmp_path)]
    main(crd.COMMAND, crd.files(), root)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.yaml")}
    main(crd.COMMAND, crd.files(), root)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.yaml")} == before
