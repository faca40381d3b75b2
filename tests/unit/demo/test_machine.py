"""The demo shares the machine: it touches what it made, and nothing else."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from covey_demo import machine
from covey_demo.members import MEMBERS
from covey_demo.state import DemoState
from covey_dev import choice
from covey_dev.errors import DevError
from covey_dev.place import Name, Site
from covey_dev.sandbox import Sandbox

STATE = DemoState(
    rpc_url="http://10.66.0.1:8545", chain_id=31337, settlement="0x1", registry="0x2", market="0x3", token="0x4",
    keys={"st-mary": "0x5"},
)  # fmt: skip
OURS = [member.name for member in MEMBERS]


class Ground(Sandbox):
    """A place with clusters that are only names."""

    def __init__(self, names: Sequence[str], name: Name = "sandbox", left: Sequence[str] = ()) -> None:
        self.name = name
        self.names = list(names)
        self.left = list(left)
        self.shared_ended = False

    def known(self) -> list[Site]:
        return [Site(name, name, "", Path(), Path()) for name in self.names]

    def wipe(self, name: str) -> None:
        self.names.remove(name)

    def end_shared(self) -> None:
        self.shared_ended = True

    def leftovers(self) -> list[str]:
        return self.left


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def down(monkeypatch: pytest.MonkeyPatch, *places: Ground) -> None:
    monkeypatch.setattr(choice, "in_use", lambda: iter(places))
    machine.down()


def test_clusters_that_the_demo_did_not_make_are_left_alone() -> None:
    with pytest.raises(DevError, match="st-mary exist, and the demo did not make them"):
        machine.refuse_what_is_not_ours(Ground(["st-mary", "probe"]))
    STATE.save()
    machine.refuse_what_is_not_ours(Ground(["st-mary", "probe"]))


def test_the_demo_does_not_run_at_two_places() -> None:
    STATE.save()
    with pytest.raises(DevError, match="runs already, on sandbox clusters"):
        machine.refuse_what_is_not_ours(Ground([], name="kind"))


def test_a_machine_with_only_the_demo_has_nothing_left_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    STATE.save()
    place = Ground(OURS)
    down(monkeypatch, place)
    assert (place.names, place.shared_ended) == ([], True)
    assert not DemoState.path().parent.exists()


def test_clusters_of_others_keep_running_and_so_does_what_they_share(monkeypatch: pytest.MonkeyPatch) -> None:
    STATE.save()
    place = Ground([*OURS, "probe"])
    down(monkeypatch, place)
    assert (place.names, place.shared_ended) == (["probe"], False)
    assert not DemoState.path().parent.exists()


def test_without_a_demo_clusters_with_its_names_are_somebody_elses(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Ground(["st-mary"])
    down(monkeypatch, place)
    assert (place.names, place.shared_ended) == (["st-mary"], False)


def test_an_interrupted_beginning_is_ended_too(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Ground([])
    down(monkeypatch, place)
    assert place.shared_ended


def test_each_place_is_ended_by_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    STATE.model_copy(update={"place": "kind"}).save()
    sandboxes, kind = Ground(["st-mary"]), Ground(OURS, name="kind")
    down(monkeypatch, sandboxes, kind)
    assert (sandboxes.names, sandboxes.shared_ended) == (["st-mary"], False)
    assert (kind.names, kind.shared_ended) == ([], True)


def test_what_is_left_is_named_and_the_demo_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    STATE.save()
    with pytest.raises(DevError, match="still there: covey-st-mary"):
        down(monkeypatch, Ground(OURS, left=["covey-st-mary"]))
    assert DemoState.load() == STATE


def test_running_clusters_are_the_members_and_all_of_them() -> None:
    assert list(machine.running_clusters(Ground(["probe", *reversed(OURS)]))) == OURS
    with pytest.raises(DevError, match="no clusters lakeside"):
        machine.running_clusters(Ground(OURS[:2]))
