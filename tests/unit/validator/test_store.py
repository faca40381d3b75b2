"""What is on disk survives a crash at any moment, and keeps the site honest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from covey_chain.types import UpdateHeader, Vote
from covey_exchange.codec import CodecSpec, Residual, encode
from covey_exchange.manifest import Array
from covey_validator import durable
from covey_validator.store import DoubleSignature, Start, Store
from covey_validator.task import Task
from validator_world import KEYS, MANIFEST, OWNERS, TASK_ID, model, record, roster, said, task

A = OWNERS[0]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path, A)


def vote(value: bytes = b"\x01" * 32, view: int = 0) -> Vote:
    return Vote(TASK_ID, 1, 0, view, 1, value, A)


def header(root: bytes = bytes(32)) -> UpdateHeader:
    return UpdateHeader(TASK_ID, 1, 0, A, bytes(32), bytes(32), 3, root, 5)


def test_a_restart_finds_the_very_same_bytes(store: Store, tmp_path: Path):
    message = said(vote())
    store.add_message(message)
    again = Store(tmp_path, A)
    assert again.load_messages(1, roster()) == [message]
    assert again.signed(vote()) == message
    assert again.own(1) == [message]


def test_a_second_message_for_a_slot_is_never_signed(store: Store, tmp_path: Path):
    store.add_message(said(vote()))
    with pytest.raises(DoubleSignature):
        store.signed(vote(value=b"\x02" * 32))
    again = Store(tmp_path, A)
    again.load_messages(1, roster())
    with pytest.raises(DoubleSignature):
        again.add_message(said(vote(value=bytes(32))))
    assert again.signed(vote(view=1)) is None


def test_what_others_voted_is_kept_once_and_found_again(store: Store, tmp_path: Path):
    theirs = said(replace(vote(), site=OWNERS[1]))
    store.add_message(theirs)
    store.add_message(theirs)
    again = Store(tmp_path, A)
    assert again.load_messages(1, roster()) == [theirs]
    again.add_message(theirs)
    assert (again.others(1), again.own(1), again.others(2)) == ([theirs], [], [])
    assert Store(tmp_path, A).load_messages(1, roster()) == [theirs]


def test_a_half_written_message_is_cut_off(store: Store, tmp_path: Path):
    store.add_message(said(vote()))
    log = tmp_path / "rounds/1/messages.log"
    whole = log.read_bytes()
    log.write_bytes(whole + whole[: len(whole) // 2])
    again = Store(tmp_path, A)
    assert len(again.load_messages(1, roster())) == 1
    assert log.read_bytes() == whole
    again.add_message(said(vote(view=1)))
    assert len(Store(tmp_path, A).load_messages(1, roster())) == 2


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_every_cut_of_the_log_leaves_whole_messages(tmp_path: Path, cut: int):
    store = Store(tmp_path, A)
    for view in range(3):
        store.add_message(said(vote(view=view)))
    log = tmp_path / "rounds/1/messages.log"
    log.write_bytes(log.read_bytes()[:-cut])
    assert [m.body.view for m in Store(tmp_path, A).load_messages(1, roster())] == [0, 1]  # type: ignore[union-attr]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path):
    path = tmp_path / "file"
    durable.write(path, b"old")

    def fails(temporary: Path) -> None:
        temporary.write_bytes(b"ne")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        durable.write_with(path, fails)
    assert path.read_bytes() == b"old"


def encoded(store: Store) -> UpdateHeader:
    residual = store.residual(MANIFEST)
    payload = encode(model(1.0), residual, task().codec, MANIFEST)
    store.put_update(1, payload)
    store.put_staged(1, residual)
    return header()


def sent(store: Store, number: int, delta: dict[str, Array], residual: Residual, codec: CodecSpec) -> None:
    """Encode and keep an update, and the error feedback that it leaves."""
    store.put_update(number, encode(delta, residual, codec, MANIFEST))
    store.put_staged(number, residual)


def energy(store: Store) -> float:
    return float(sum(np.abs(value).sum() for value in store.residual(MANIFEST).values.values()))


def test_an_update_without_its_header_never_happened(store: Store, tmp_path: Path):
    encoded(store)
    again = Store(tmp_path, A)
    again.load_messages(1, roster())
    again.finish_round(record(1, bytes(32)))
    assert energy(again) == 0


@pytest.mark.parametrize("accepted", [True, False])
def test_error_feedback_that_a_crash_kept_from_the_disk_is_that_of_the_round_before(
    store: Store, tmp_path: Path, accepted: bool
):
    before = store.residual(MANIFEST)
    before.absorb(model(0.25), task().codec.feedback)
    store.put_residual(before)
    store.put_update(1, encode(model(1.0), store.residual(MANIFEST), task().codec, MANIFEST))
    message = said(header())
    store.add_message(message)
    again = Store(tmp_path, A)
    again.load_messages(1, roster())
    assert again.update(1)
    again.finish_round(record(1, bytes(32), {A: message.digest, OWNERS[1]: bytes(32)}, accepted=accepted))
    assert energy(again) == 4


@pytest.mark.parametrize("included", [True, False])
def test_what_was_sent_leaves_the_error_feedback_only_if_it_counted(store: Store, included: bool):
    message = said(encoded(store))
    store.add_message(message)
    others = {owner: bytes(32) for owner in OWNERS[1:]}
    store.finish_round(record(1, bytes(32), others | ({A: message.digest} if included else {})))
    if included:
        assert 0 <= energy(store) < 16
    else:
        assert energy(store) == 16  # the whole late update is still there


@pytest.mark.parametrize("late", [True, False])
@pytest.mark.parametrize("rounds", [1, 3])
def test_discarded_rounds_leave_error_feedback_and_momentum_as_they_were(store: Store, rounds: int, late: bool):
    codec = task(compression={"codec": "DGC", "density": "1", "dgc": {"momentum": "0.5", "warmupRounds": 0}}).codec
    waiting = store.residual(MANIFEST)
    waiting.absorb(model(0.25), codec.feedback)
    store.put_residual(waiting)
    for number in range(1, rounds + 1):
        residual = store.residual(MANIFEST)
        if late:
            residual.absorb(model(1.0), codec.feedback)
            store.put_absorbed(number, residual)
        else:
            sent(store, number, model(1.0), residual, codec)
        ours = said(replace(header(), round=number))
        store.add_message(ours)
        discarded = record(number, bytes(32), {A: ours.digest, OWNERS[1]: bytes(32)}, accepted=False)
        store.finish_round(discarded)
    found = store.residual(MANIFEST)
    assert found.momentum is not None
    assert waiting.momentum is not None
    assert all(np.array_equal(found.values[name], value) for name, value in waiting.values.items())
    assert all(np.array_equal(found.momentum[name], value) for name, value in waiting.momentum.items())


def test_momentum_lies_with_the_error_feedback_and_is_masked_by_what_counted(store: Store):
    codec = task(compression={"codec": "DGC", "density": "1", "dgc": {"momentum": "0.5", "warmupRounds": 0}}).codec
    residual = store.residual(MANIFEST)
    sent(store, 1, model(1.0), residual, codec)
    message = said(header())
    store.add_message(message)
    store.finish_round(record(1, bytes(32), {A: message.digest, OWNERS[1]: bytes(32)}))
    momentum = store.residual(MANIFEST).momentum
    assert momentum is not None
    assert not momentum["weight"].any()


def test_settling_again_after_a_crash_changes_nothing(store: Store, tmp_path: Path):
    message = said(encoded(store))
    store.add_message(message)
    done = record(1, bytes(32), {A: message.digest, OWNERS[1]: bytes(32)})
    folder = tmp_path / "rounds/1"
    kept = {path.name: path.read_bytes() for path in folder.iterdir()}
    store.finish_round(done)
    once = energy(store)
    folder.mkdir()
    for name, data in kept.items():
        (folder / name).write_bytes(data)
    again = Store(tmp_path, A)
    again.load_messages(1, roster())
    again.finish_round(done)
    assert energy(again) == once
    assert again.open_rounds() == []


@pytest.mark.parametrize("included", [True, False])
def test_a_power_cut_between_the_note_and_the_error_feedback_changes_nothing(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, included: bool
):
    message = said(encoded(store))
    store.add_message(message)
    done = record(1, bytes(32), {OWNERS[1]: bytes(32)} | ({A: message.digest} if included else {}))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", _cut_for("residual.safetensors", Path.replace))
        with pytest.raises(OSError, match="power cut"):
            store.finish_round(done)
    again = Store(tmp_path, A)
    again.load_messages(1, roster())
    again.finish_round(done)
    assert (energy(again) < 16) is included


def _cut_for(name: str, replace: Callable[[Path, Path], Path]) -> Callable[[Path, Path], Path]:
    def cut(path: Path, target: Path) -> Path:
        if target.name == name:
            raise OSError("power cut")
        return replace(path, target)

    return cut


def test_error_feedback_in_memory_is_that_on_disk_round_after_round(store: Store, tmp_path: Path):
    codec = task(compression={"codec": "DGC", "density": "1/4", "dgc": {"momentum": "0.5", "warmupRounds": 0}}).codec
    others = {OWNERS[1]: bytes(32)}
    for number, (accepted, included) in enumerate([(True, True), (True, False), (False, True), (True, True)], 1):
        residual = store.residual(MANIFEST)
        sent(store, number, model(float(number)), residual, codec)
        ours = said(replace(header(), round=number))
        store.add_message(ours)
        chosen = others | ({A: ours.digest} if included else {})
        store.finish_round(record(number, bytes(32), chosen, accepted=accepted))
        on_disk = Store(tmp_path, A).residual(MANIFEST)
        held = store.residual(MANIFEST)
        store._residual = held
        assert held.momentum is not None
        assert on_disk.momentum is not None
        for name in held.values:
            assert held.values[name].tobytes() == on_disk.values[name].tobytes()
            assert held.momentum[name].tobytes() == on_disk.momentum[name].tobytes()


def test_a_spare_file_that_a_power_cut_left_the_error_feedback_itself_is_not_written_to(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def play(number: int) -> None:
        residual = store.residual(MANIFEST)
        sent(store, number, model(1.0), residual, task().codec)
        ours = said(replace(header(), round=number))
        store.add_message(ours)
        store.finish_round(record(number, bytes(32), {A: ours.digest, OWNERS[1]: bytes(32)}))

    play(1)
    before = (tmp_path / "residual.safetensors").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", _cut_for("residual.safetensors", Path.replace))
        with pytest.raises(OSError, match="power cut"):
            play(2)
    assert (tmp_path / "residual.spare").samefile(tmp_path / "residual.safetensors")
    again = Store(tmp_path, A)
    residual = again.residual(MANIFEST)
    sent(again, 3, model(7.0), residual, task().codec)
    assert (tmp_path / "residual.safetensors").read_bytes() == before


def test_a_late_delta_is_there_in_the_next_round(store: Store):
    residual = store.residual(MANIFEST)
    residual.absorb(model(1.0), task().codec.feedback)
    store.put_absorbed(1, residual)
    assert store.is_absorbed(1)
    store.finish_round(record(1, bytes(32)))
    assert energy(store) == 16
    assert not store.is_absorbed(1)


def test_the_newest_result_is_one_whose_model_is_here(store: Store):
    digest = store.put_model(model(2.0))
    store.certify(record(1, digest))
    store.certify(record(2, b"\x07" * 32))
    newest = store.newest()
    assert newest is not None
    assert newest.round == 1
    assert newest.result == record(1, digest).result


def test_models_come_back_bit_for_bit_and_old_ones_go(store: Store):
    first, second = store.put_model(model(1.0)), store.put_model(model(2.0))
    np.testing.assert_array_equal(store.model(second)["weight"], model(2.0)["weight"])
    store.keep_models({second})
    assert store.model_bytes(first) is None
    with pytest.raises(FileNotFoundError):
        store.model(first)


def test_facts_survive(store: Store, tmp_path: Path):
    store.put("start", Start(base="00" * 32, train_examples=7, holdout_examples=9))
    store.put("task", task())
    store.put_counters({"bytesSent": 2**60})
    again = Store(tmp_path, A)
    assert again.start == Start(base="00" * 32, train_examples=7, holdout_examples=9)
    assert Task.model_validate_json(again.get("task") or b"") == task()
    assert again.counters() == {"bytesSent": 2**60}


def test_messages_of_others_have_no_slot_of_ours(store: Store):
    theirs = said(replace(vote(), site=OWNERS[1]))
    store.add_message(theirs)
    assert store.signed(vote()) is None
    assert KEYS[A] != KEYS[OWNERS[1]]


def test_the_history_is_every_result_from_the_first_to_the_newest(store: Store):
    for number in (1, 2, 3):
        store.certify(record(number, bytes(32)))
    assert [one.round for one in store.history(store.certified(2))] == [1, 2]
    assert list(store.history(None)) == []
