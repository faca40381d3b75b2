from pathlib import Path

import pytest
from covey_trainer.errors import EntrypointNotFound, ProgramError
from covey_trainer.program import load


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_an_unknown_module_is_named() -> None:
    with pytest.raises(EntrypointNotFound, match="no_such_module"):
        load("no_such_module:Program", {})


def test_an_unknown_class_is_named() -> None:
    with pytest.raises(EntrypointNotFound, match="Programme"):
        load("wdbc.program:Programme", {})


def test_a_module_that_breaks_on_import_is_the_programs_error(programs: Path) -> None:
    (programs / "breaks_on_import.py").write_text("1 / 0\n")
    with pytest.raises(ProgramError, match="ZeroDivisionError"):
        load("breaks_on_import:Program", {})


def test_a_program_without_its_methods_is_refused(programs: Path) -> None:
    (programs / "half_a_program.py").write_text("class Program:\n    def __init__(self, config): pass\n")
    with pytest.raises(ProgramError, match="model"):
        load("half_a_program:Program", {})


def test_a_constructor_that_raises_is_the_programs_error() -> None:
    with pytest.raises(ProgramError, match="ValueError"):
        load("wdbc.program:Program", {"hidden": "many"})


@pytest.mark.parametrize("error", [EntrypointNotFound, ProgramError])
def test_what_only_a_person_can_mend_is_not_retried(error: type[EntrypointNotFound | ProgramError]) -> None:
    assert error.user_error
