"""A bare machine has uv only beside the project's interpreter."""

from pathlib import Path

import pytest
from covey_dev import paths, uv
from covey_dev.errors import UnsupportedError


def executable(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x7fELF")
    path.chmod(0o755)
    return path


@pytest.fixture(autouse=True)
def _python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "python", lambda: str(tmp_path / "venv/bin/python"))
    monkeypatch.setenv("PATH", str(tmp_path / "system"))


def test_the_one_beside_the_interpreter_comes_first(tmp_path: Path) -> None:
    own = executable(tmp_path / "venv/bin/uv")
    executable(tmp_path / "system/uv")
    assert uv.program() == own


def test_without_it_the_one_of_the_machine_does(tmp_path: Path) -> None:
    system = executable(tmp_path / "system/uv")
    assert uv.program() == system


def test_without_any_the_error_says_what_to_do() -> None:
    with pytest.raises(UnsupportedError, match="uv is not installed"):
        uv.program()
