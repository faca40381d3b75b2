"""What is built once is whole, current, and built once."""

import multiprocessing
import time
from pathlib import Path

import pytest
from covey_dev import artifact


def write(text: str):
    def build(fresh: Path) -> None:
        (fresh / "file").write_text(text)

    return build


def test_a_second_call_finds_what_the_first_built(tmp_path):
    artifact.ensure(tmp_path / "tool", "key", "tool", write("one"))
    artifact.ensure(tmp_path / "tool", "key", "tool", write("two"))
    assert (tmp_path / "tool/file").read_text() == "one"


def test_another_key_builds_anew(tmp_path):
    artifact.ensure(tmp_path / "tool", "key", "tool", write("one"))
    artifact.ensure(tmp_path / "tool", "other", "tool", write("two"))
    assert (tmp_path / "tool/file").read_text() == "two"


def test_an_interrupted_build_leaves_the_old_one_and_no_debris(tmp_path):
    def interrupted(fresh: Path) -> None:
        (fresh / "half").touch()
        raise KeyboardInterrupt

    artifact.ensure(tmp_path / "tool", "key", "tool", write("one"))
    with pytest.raises(KeyboardInterrupt):
        artifact.ensure(tmp_path / "tool", "other", "tool", interrupted)
    assert (tmp_path / "tool/file").read_text() == "one"
    artifact.ensure(tmp_path / "tool", "other", "tool", write("two"))
    assert not list(tmp_path.rglob("half"))
    assert not list(tmp_path.glob("*.partial"))


def _slow_build(directory: Path, started: Path) -> None:
    def build(fresh: Path) -> None:
        with started.open("a") as log:
            log.write("built\n")
        time.sleep(0.2)
        (fresh / "file").write_text("whole")

    artifact.ensure(directory, "key", "tool", build)


def test_two_processes_at_once_build_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    arguments = (tmp_path / "tool", tmp_path / "log")
    processes = [context.Process(target=_slow_build, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert (tmp_path / "log").read_text() == "built\n"
    assert (tmp_path / "tool/file").read_text() == "whole"


def test_the_digest_sees_contents_and_names_but_no_caches(tmp_path):
    (tmp_path / "a").write_text("x")
    before = artifact.digest(tmp_path)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__/a.pyc").write_text("y")
    assert artifact.digest(tmp_path) == before
    (tmp_path / "a").rename(tmp_path / "b")
    assert artifact.digest(tmp_path) != before


def test_parts_of_a_digest_do_not_run_together():
    assert artifact.digest("ab", "c") != artifact.digest("a", "bc")


def test_a_secret_is_never_readable_by_others(tmp_path):
    artifact.write_atomically(tmp_path / "secret", "key", mode=0o600)
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]
