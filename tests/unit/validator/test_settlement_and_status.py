"""Who posts, what is due, and what people and machines are shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from covey_chain.merkle import RewardTree, leaf
from covey_operator.plan.report import Report
from covey_validator import output, status
from covey_validator.errors import TaskFailed
from covey_validator.progress import Progress, Standing
from covey_validator.settlement import due, turn
from eth_utils import keccak
from hypothesis import given
from hypothesis import strategies as st
from round_bus import addresses
from safetensors.numpy import load_file
from validator_world import OWNERS, TASK_ID, model, record


@pytest.mark.parametrize(
    ("newest", "last", "every", "expected"),
    [(1, False, 5, 0), (4, False, 5, 0), (5, False, 5, 5), (9, False, 5, 5), (20, True, 5, 20), (7, True, 5, 7)],
)
def test_results_are_due_every_few_rounds_and_at_the_end(newest: int, last: bool, every: int, expected: int):
    assert due(newest, last, every) == expected


@given(st.integers(1, 10_000), st.integers(1, 50), st.integers(1, 16))
def test_each_result_has_one_first_poster_and_a_full_order(number: int, every: int, count: int):
    sites = addresses(count)
    assert sorted(turn(number, every, sites, site) for site in sites) == list(range(count))


def test_the_first_poster_rotates():
    sites = addresses(3)
    first = [next(s for s in sites if turn(number, 5, sites, s) == 0) for number in (5, 10, 15, 20)]
    assert first == [sites[1], sites[2], sites[0], sites[1]]


def test_the_termination_message_proves_the_reward():
    found = record(4, bytes(32), last=True)
    said = output.success(found, OWNERS[1], "/output/numbers/model.safetensors", Progress("numbers"))
    assert proved(said, found.task_id, OWNERS[1]) == found.reward_root


def proved(said: dict[str, Any], task_id: bytes, site: str) -> bytes:
    """The root that the proof in a termination message leads to."""
    node = leaf(task_id, site, int(said["reward"]))
    for sibling in said["rewardProof"]:
        other = bytes.fromhex(sibling[2:])
        node = keccak(min(node, other) + max(node, other))
    return node


def test_the_termination_message_has_the_final_figures():
    progress = Progress(
        "numbers", rounds=4, round=4, loss=0.123456789, metrics={"auc": 0.5, "bad": float("nan")},
        raw_bytes=400, payload_bytes=2, bytes_before=5, bytes_now=7, transactions=[("result", "0x" + "ab" * 32)],
        standing=Standing(stake=1000, held=5, slashed=315, removed=True, words="removed"),
    )  # fmt: skip
    said = output.success(record(4, bytes(32), last=True), OWNERS[0], "/output/model", progress)
    assert said["progress"] == {
        "round": 4, "rounds": 4, "loss": "0.123456789", "metrics": {"auc": "0.5", "bad": "nan"},
        "bytesSent": 12, "rawBytes": 400, "payloadBytes": 2,
        "standing": {
            "held": "5", "heldShare": "0.5 %", "slashed": "315", "slashedShare": "31.5 %", "removed": True,
            "words": "removed",
        },
        "transactions": [{"purpose": "result", "hash": "0x" + "ab" * 32}],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("rounds", "done"), [(4, "4 rounds done"), (9, "4 of 9 rounds done, and nothing left to learn")]
)
def test_the_termination_message_says_how_many_rounds_it_took(rounds: int, done: str):
    said = output.success(record(4, bytes(32), last=True), OWNERS[0], "/m", Progress("numbers", round=4, rounds=rounds))
    assert said["message"] == f"{done}; the model is at /m"


@pytest.mark.parametrize("name", ["metric {}", "µ" * 40 + "{}", "m" * 4000 + "{}", '"' * 200 + "{}"])
def test_with_64_members_and_many_metrics_nothing_that_earns_money_is_cut_off(tmp_path: Path, name: str):
    sites = addresses(64)
    rewards = {site: 10**30 + index for index, site in enumerate(sites)}
    tree = RewardTree(rewards, TASK_ID)
    last = record(4, b"\xff" * 32, last=True).model_copy(
        update={"round": 100_000, "rewards": rewards, "reward_root": tree.root}
    )
    progress = Progress(
        "numbers", rounds=100_000, round=100_000, loss=-1.23456789e-300, raw_bytes=2**60, payload_bytes=2**55,
        bytes_now=2**60, metrics={name.format(i): -1.23456789e-300 for i in range(100)},
        transactions=[("result", f"0x{i:064x}") for i in range(200)],
        standing=Standing(10**30, 10**29, 10**29, True, "w" * 400),
    )  # fmt: skip
    location = f"/output/{'t' * 47}/model.safetensors"
    log = tmp_path / "termination"
    output.write_termination(log, output.success(last, sites[17], location, progress))
    assert len(log.read_bytes()) <= 4096
    said = json.loads(log.read_text())
    assert len(said["rewardProof"]) == 6
    assert proved(said, last.task_id, sites[17]) == tree.root
    assert (said["modelDigest"], said["modelLocation"]) == ("0x" + "ff" * 32, location)
    assert said["message"].endswith(location), "whole, because metrics give way"
    assert said["progress"]["loss"] == "-1.23456789e-300"
    assert said["progress"]["transactions"][-1]["hash"] == f"0x{199:064x}"
    assert len(said["progress"]["metrics"]) <= 32
    if len(name) < 60:
        assert said["progress"]["metrics"]
    report = Report.model_validate(said)
    assert report.progress is not None
    assert report.progress.bytes_sent == 2**60


def test_a_long_message_is_cut_to_what_kubernetes_keeps(tmp_path: Path):
    log = tmp_path / "termination"
    error = TaskFailed("ProgramError", "ä" * 10_000, user_error=True)
    output.write_termination(log, output.failure(error, 3))
    assert len(log.read_bytes()) <= 4096
    said = json.loads(log.read_text())
    assert (said["reason"], said["round"], said["userError"]) == ("ProgramError", 3, True)
    assert said["message"].startswith("äää")


def test_model_and_report_lie_together(tmp_path: Path):
    found = record(4, bytes(32), last=True)
    path = output.write_output(tmp_path / "numbers", model(2.0), found, Progress("numbers", loss=0.5))
    assert (load_file(path)["weight"] == 2.0).all()
    report = json.loads((tmp_path / "numbers/report.json").read_text())
    assert (report["rounds"], report["loss"], report["modelDigest"]) == (4, 0.5, "0x" + "00" * 32)
    assert sorted(p.name for p in (tmp_path / "numbers").iterdir()) == ["model.safetensors", "report.json"]


async def test_the_status_server_answers_people_prometheus_and_the_kubelet():
    progress = Progress("numbers", rounds=4, round=2, reward=3 * 10**18, raw_bytes=200, payload_bytes=2)
    progress.egress_bits_per_second = 20e6
    progress.round_seconds = [2.0, 4.0]
    refreshed: list[int] = []
    async with (
        status.serve(progress, "127.0.0.1:0", lambda: refreshed.append(1)) as port,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client,
    ):
        found = await (await client.get("/status")).json()
        assert (found["reward"], found["compressionRatio"], found["etaSeconds"]) == (str(3 * 10**18), 100.0, 6.0)
        text = await (await client.get("/metrics")).text()
        assert found["egressBitsPerSecond"] == 20e6
        assert 'covey_egress_limit_bits_per_second{task="numbers"} 2e+07' in text
        assert 'covey_validator_reward_tokens{task="numbers"} 3.0' in text
        assert 'covey_validator_round_duration_seconds_sum{task="numbers"} 6.0' in text
        again = await (await client.get("/metrics")).text()
        assert 'covey_validator_round_duration_seconds_sum{task="numbers"} 6.0' in again
        assert (await client.get("/healthz")).status == 200
    assert len(refreshed) == 3


def test_health_follows_the_event_loop():
    now = 0.0
    heart = status.Heartbeat(lambda: now)
    assert not heart.is_late
    now = 60.0
    assert heart.is_late
