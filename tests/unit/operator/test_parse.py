"""Objects as values; what people have done to them is told, and stops nobody else."""

import pytest
from covey_operator.parse import glance, parse_task
from covey_operator.plan import names

TASK_ID = bytes(range(32))


def mirrored(annotation: str) -> dict[str, object]:
    return {
        "kind": "FederatedTask",
        "metadata": {
            "name": "wdbc",
            "namespace": "oncology",
            "uid": "1",
            "labels": {names.MIRROR: "true"},
            "annotations": {names.TASK_ID: annotation},
        },
        "spec": {"subnet": "eu"},
    }


def test_a_mirrored_task_names_the_task_that_it_stands_for():
    obj = mirrored("0x" + TASK_ID.hex())
    assert (parse_task(obj).mirror_of, glance(obj).mirror_of) == (TASK_ID, TASK_ID)


@pytest.mark.parametrize("annotation", ["", "0x", "mine", "0x12", "0x" + 33 * "00"])
def test_an_id_that_is_none_is_told_by_the_task_and_does_not_stop_the_subnet(annotation: str):
    obj = mirrored(annotation)
    task = parse_task(obj)
    assert (task.spec, task.mirror_of) == (None, None)
    assert task.invalid == f"annotation {names.TASK_ID} is not a task id"
    assert glance(obj).mirror_of is None
    assert glance(obj).subnet == "eu"
