"""A task at a member, as the demo reads it."""

from covey_demo import progress

ID = "0x" + "12" * 32


def task(phase: str, **status: object) -> dict[str, object]:
    return {"metadata": {"name": "wdbc", "annotations": {progress.TASK_ID: ID}}, "status": {"phase": phase, **status}}


def test_a_task_is_found_by_its_id_whatever_its_name() -> None:
    own = {"metadata": {"name": "wdbc"}, "status": {"taskId": ID}}
    mirror = {"metadata": {"name": "wdbc-121212", "annotations": {progress.TASK_ID: ID}}}
    other = {"metadata": {"name": "wdbc", "annotations": {progress.TASK_ID: "0x00"}}, "status": {"taskId": "0x00"}}
    assert progress.task_of([other, own], ID) is own
    assert progress.task_of([other, mirror], ID) is mirror
    assert progress.task_of([other], ID) is None


def test_a_line_tells_what_is_known() -> None:
    assert progress.line(None) == "not there yet"
    running = task("Training", rounds="7/20", members="3/3", loss="0.12")
    assert progress.line(running) == "Training  round 7/20  members 3/3  loss 0.12"


def test_it_has_ended_only_when_all_have_succeeded() -> None:
    assert progress.ended({"a": task("Succeeded"), "b": task("Succeeded")})
    assert not progress.ended({"a": task("Succeeded"), "b": task("Training")})
    assert not progress.ended({"a": task("Succeeded"), "b": None})


def test_a_member_at_which_it_failed_is_named() -> None:
    tasks = {"a": task("Training"), "b": task("Failed"), "c": task("Declined"), "d": None}
    assert progress.broken(tasks) == ["b", "c"]


def test_a_condition_that_is_not_there_is_empty() -> None:
    accepted = {"type": "Accepted", "status": "True"}
    assert progress.condition(task("Training", conditions=[accepted]), "Accepted") == accepted
    assert progress.condition(None, "Accepted") == {}
