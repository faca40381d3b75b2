"""Real validator processes, real contracts on a real node, the real exchange; only the training is scripted."""

from __future__ import annotations

import asyncio
import json
import os
import signal

import numpy as np
import pytest
from covey_chain.signing import recover
from covey_chain.types import RoundResult
from covey_chain.wallet import Wallet
from covey_exchange.manifest import Manifest, model_digest
from covey_exchange.proto import driver_pb2 as wire
from covey_validator.records import CertifiedRound
from covey_validator.store import Store
from numeric_driver import NumericDriver, target
from safetensors.numpy import load_file
from validator_consortium import Convene
from validator_member import Site

pytestmark = pytest.mark.chain


def drive(sites: list[Site], **options: object) -> None:
    for site in sites:
        site.drive(NumericDriver(site.directory / "shared", site.index, **options))  # type: ignore[arg-type]


def model(site: Site) -> dict[str, np.ndarray]:
    return load_file(site.directory / "output/numbers/model.safetensors")


def records(site: Site) -> list[CertifiedRound]:
    paths = sorted((site.directory / "state/certified").glob("*.json"))
    return [CertifiedRound.parse(path.read_bytes()) for path in paths]


async def test_three_sites_end_with_one_model_that_the_chain_knows_and_are_paid(convene: Convene):
    task = await convene()
    drive(task.sites)
    await task.start()
    await task.all_succeed()
    digests = {model_digest(model(site)) for site in task.sites}
    settled = await task.chain.settlement(task.task_id)
    assert digests == {settled.model_digest}
    assert (settled.round, settled.last) == (4, True)

    mean = np.mean([target(site.index) for site in task.sites], axis=0)
    loss = np.mean((model(task.sites[0])["weight"] - mean) ** 2)
    assert loss < 0.6 * np.mean(mean**2), "the rounds did not move the model towards what the sites know"

    wallet = Wallet(task.chain, task.sites[0].owner_key)
    for site in task.sites:
        said = site.termination
        assert (said["outcome"], said["round"], said["userError"]) == ("Succeeded", 4, False)
        assert said["modelDigest"] == "0x" + settled.model_digest.hex()
        final = said["progress"]
        assert (final["round"], final["rounds"]) == (4, 4)
        assert float(final["loss"]) > 0
        assert float(final["metrics"]["rmse"]) > 0
        assert final["rawBytes"] == 4 * 4 * target(0).size
        assert 0 < final["payloadBytes"] < final["bytesSent"]
        proof = [bytes.fromhex(sibling[2:]) for sibling in said["rewardProof"]]
        if int(said["reward"]):
            await wallet.claim(task.task_id, site.owner, int(said["reward"]), proof)
        assert await task.chain.claimed(task.task_id, site.owner) == int(said["reward"])
        report = json.loads((site.directory / "output/numbers/report.json").read_text())
        assert report["modelDigest"] == said["modelDigest"]
        assert site.driver is not None
        assert site.driver.finish is not None
    assert sum(int(site.termination["reward"]) for site in task.sites) == settled.total_reward > 0


async def test_a_task_with_patience_ends_when_nothing_is_left_to_learn_and_pays_all(convene: Convene):
    task = await convene(rounds={"count": 100, "patience": 2}, compression={"codec": "None"})
    drive(task.sites)
    await task.start()
    await task.all_succeed()
    settled = await task.chain.settlement(task.task_id)
    assert settled.last
    assert 2 < settled.round < 100
    assert {model_digest(model(site)) for site in task.sites} == {settled.model_digest}
    for site in task.sites:
        said, found = site.termination, records(site)
        assert (said["outcome"], said["round"], len(found)) == ("Succeeded", settled.round, settled.round)
        assert f"{settled.round} of 100 rounds done" in said["message"]
        losses = [record.loss_nano or 0 for record in found]
        assert min(losses[-2:]) >= min(losses[:-2])
        assert all(
            losses[n] < min(losses[:n]) or losses[n - 1] < min(losses[: n - 1]) for n in range(2, len(found) - 2)
        )
    rewards = sum(int(site.termination["reward"]) for site in task.sites)
    assert settled.total_reward == rewards > 0


async def test_terms_without_clipping_merge_the_plain_mean(convene: Convene):
    task = await convene(
        rounds={"count": 1}, compression={"codec": "None"}, aggregation={"clip": "None", "outerLearningRate": "1"}
    )
    drive(task.sites)
    await task.start()
    await task.all_succeed()
    deltas = [-np.float32(0.5) * target(site.index) for site in task.sites]
    norms = [np.linalg.norm(delta) for delta in deltas]
    clipped = [delta * min(1.0, np.median(norms) / size) for delta, size in zip(deltas, norms, strict=True)]
    found = model(task.sites[0])["weight"]
    np.testing.assert_allclose(found, -np.mean(deltas, axis=0), rtol=1e-5, atol=1e-6)
    assert not np.allclose(found, -np.mean(clipped, axis=0), rtol=1e-5, atol=1e-6), "clipping would not show"


async def test_dgc_warms_up_and_its_momentum_lies_with_the_error_feedback(convene: Convene):
    dgc = {"momentum": "0.5", "maxNorm": "1000", "warmupRounds": 2}
    task = await convene(compression={"codec": "DGC", "density": "1/1000", "dgc": dgc})
    drive(task.sites)
    await task.start()
    await task.all_succeed()
    assert len({model_digest(model(site)) for site in task.sites}) == 1
    for site in task.sites:
        progress = site.termination["progress"]
        residual = Store(site.directory / "state", site.owner).residual(Manifest.from_arrays(model(site)))
        # 10 % and 1 % in the warm-up, then twice 5 of 5120 values: few enough to tell the rounds by the bytes.
        assert 512 * 5 / 8 < progress["payloadBytes"] < 512 * 7 / 8 + 200
        if records(site)[-1].accepted:
            assert residual.momentum is not None
            assert 5 <= np.count_nonzero(residual.momentum["weight"] == 0) < 5120
        assert np.abs(residual.values["weight"]).sum() > 0


@pytest.mark.parametrize(("precision", "ratio"), [("fp16", 2), ("int8", 4)])
async def test_all_values_with_fewer_bits(convene: Convene, precision: str, ratio: int):
    task = await convene(rounds={"count": 1}, compression={"codec": "None", "precision": precision})
    drive(task.sites)
    await task.start()
    await task.all_succeed()
    assert len({model_digest(model(site)) for site in task.sites}) == 1
    progress = task.sites[0].termination["progress"]
    assert progress["rawBytes"] / progress["payloadBytes"] == pytest.approx(ratio, rel=0.01)


async def test_every_result_is_signed_by_the_session_keys(convene: Convene):
    task = await convene()
    drive(task.sites)
    await task.start()
    await task.all_succeed()
    keys = {p.session_key for p in await task.chain.participants(task.task_id)}
    for record in records(task.sites[1]):
        signers = [recover(task.chain.domain, record.result, signature) for signature in record.signatures]
        assert set(signers) == keys
        assert signers == sorted(signers, key=str.lower)
    assert {r.result for r in records(task.sites[0])} == {r.result for r in records(task.sites[2])}
    assert all(isinstance(record.result, RoundResult) for record in records(task.sites[0]))


async def test_status_metrics_and_health_are_there_while_it_runs(convene: Convene):
    task = await convene(rounds={"count": 3})
    drive(task.sites, seconds=lambda number: 3.0 if number == 3 else 0.0)
    await task.start()
    site = task.sites[0]
    await site.reaches(2)
    await site.shows("round", 2)
    found = await site.shows("phase", "Collecting")  # of the third round; for a moment it is still Certified
    assert (found["round"], found["rounds"], found["peers"], found["peersConnected"]) == (2, 3, 2, 2)
    assert found["loss"] > 0
    assert found["metrics"]["rmse"] > 0
    assert found["rawBytes"] > 3 * found["payloadBytes"] > 0
    assert found["bytesSent"] > found["payloadBytes"]
    assert found["etaSeconds"] > 0
    text = await site.get("/metrics")
    assert 'covey_validator_round{task="numbers"} 2.0' in text
    assert 'covey_validator_bytes_sent_total{task="numbers"}' in text
    assert 'covey_validator_round_duration_seconds_count{task="numbers"} 2.0' in text
    assert await site.get("/healthz") == "ok\n"
    await task.all_succeed()


async def test_a_validator_killed_again_and_again_goes_on_and_never_signs_twice(convene: Convene):
    task = await convene(rounds={"count": 6})
    drive(task.sites, seconds=lambda _number: 0.3)
    await task.start()
    victim = task.sites[1]
    for number, pause in ((1, 0.0), (2, 0.35), (3, 0.5), (4, 0.7)):
        await task.sites[0].reaches(number)
        await asyncio.sleep(pause)  # kill at another moment of the round each time
        await victim.kill()
        await victim.start()
    await task.all_succeed(240)
    assert {model_digest(model(site)) for site in task.sites} == {records(victim)[-1].model_digest}
    assert not any("signed twice" in site.log for site in task.sites)
    assert [record.round for record in records(victim)] == [1, 2, 3, 4, 5, 6]


async def test_all_validators_killed_at_once_go_on_from_their_disks(convene: Convene):
    task = await convene()
    drive(task.sites, seconds=lambda _number: 0.3)
    await task.start()
    await task.sites[2].reaches(2)
    for site in task.sites:
        await site.kill()
    await task.start()
    await task.all_succeed()
    assert len({model_digest(model(site)) for site in task.sites}) == 1


async def test_a_site_that_was_away_fetches_what_it_missed(convene: Convene):
    task = await convene(4, rounds={"count": 8, "deadline": "2s"})
    drive(task.sites, seconds=lambda _number: 0.1)
    await task.start()
    away = task.sites[3]
    await away.reaches(1)
    await away.kill()
    missed = away.certified() + 3
    for site in task.sites[:3]:
        await site.reaches(missed)
    await away.start()
    await task.all_succeed()
    assert len({model_digest(model(site)) for site in task.sites}) == 1
    assert "caught up" in away.log
    without = [record for record in records(away) if away.owner not in record.selected]
    assert without, "it cannot have taken part in the rounds that it missed"


async def test_a_late_update_counts_in_a_later_round(convene: Convene):
    task = await convene(3, rounds={"count": 5, "deadline": "5s"})
    drive(task.sites[:2])
    task.sites[2].drive(
        NumericDriver(task.sites[2].directory / "shared", 2, seconds=lambda number: 15.0 if number == 2 else 0.0)
    )
    await task.start()
    await task.all_succeed()
    included = [task.sites[2].owner in record.selected for record in records(task.sites[0])]
    assert not included[1], "the slow site was waited for"
    assert any(included), "the slow site never counted"
    assert "kept for the next" in task.sites[2].log


async def test_a_round_that_makes_the_model_worse_is_discarded_everywhere(convene: Convene):
    task = await convene(rounds={"count": 4})
    drive(task.sites, nonsense_at=2)
    await task.start()
    await task.all_succeed()
    for site in task.sites:
        found = records(site)
        assert [record.accepted for record in found][:2] == [True, False]
        assert found[1].model_digest == found[0].model_digest
        assert found[1].total_reward == found[0].total_reward


async def test_training_goes_on_while_the_node_is_away_and_the_end_waits_for_it(convene: Convene):
    task = await convene(rounds={"count": 4, "settleEvery": 1})
    drive(task.sites)
    await task.start()
    await task.sites[0].reaches(1)
    os.kill(task.node.pid, signal.SIGSTOP)
    try:
        for site in task.sites:
            await site.reaches(4)
        await task.sites[0].shows("phase", "Settling")
        assert task.sites[0].process is not None
        assert task.sites[0].process.returncode is None
    finally:
        os.kill(task.node.pid, signal.SIGCONT)
    await task.all_succeed()
    assert (await task.chain.settlement(task.task_id)).last


async def test_sites_that_start_from_different_models_end_with_the_reason(convene: Convene):
    task = await convene()
    drive(task.sites[:2])
    drive(task.sites[2:], initial=0.5)
    await task.start()
    for site in task.sites:
        assert await site.exit_code() == 2, site.log[-2000:]
        said = site.termination
        assert (said["outcome"], said["reason"], said["userError"]) == ("Failed", "BaseModelMismatch", True)
        assert site.driver is not None
        assert site.driver.finish is not None
        assert site.driver.finish.reason == "BaseModelMismatch"


async def test_a_wrong_program_ends_the_site_with_the_drivers_reason(convene: Convene):
    task = await convene()
    failure = wire.Failure(reason="EntrypointNotFound", message="numbers has no Program", user_error=True)
    site = task.sites[0]
    drive([site], failure=failure)
    await site.start()
    assert await site.exit_code() == 2
    said = site.termination
    assert (said["reason"], said["message"]) == ("EntrypointNotFound", "numbers has no Program")


@pytest.mark.parametrize("spoilt", [np.nan, np.inf])
async def test_an_update_that_is_not_finite_ends_the_site_with_the_remedy(convene: Convene, spoilt: float):
    task = await convene()
    drive(task.sites, spoilt=spoilt)
    await task.start()
    for site in task.sites:
        assert await site.exit_code() == 2, site.log[-2000:]
        said = site.termination
        assert (said["reason"], said["userError"]) == ("ProgramError", True)
        assert 'tensor "weight": element 0 is not finite; lower the learning rate' in said["message"]


async def test_holdouts_that_are_all_too_small_end_the_task_with_the_remedy(convene: Convene):
    task = await convene()
    drive(task.sites, holdout=5)
    await task.start()
    for site in task.sites:
        assert await site.exit_code() == 2, site.log[-2000:]
        assert site.termination["reason"] == "HoldoutTooSmall"
        assert "validation.minHoldout" in site.termination["message"]


async def test_one_small_holdout_abstains(convene: Convene):
    task = await convene(rounds={"count": 2})
    drive(task.sites[:2])
    drive(task.sites[2:], holdout=5)
    await task.start()
    await task.all_succeed()
    for record in records(task.sites[0]):
        scores = {reveal.site: reveal.scores for reveal in record.reveals}
        assert scores[task.sites[2].owner] == b""
        assert record.accepted


async def test_sigterm_ends_it_cleanly_and_a_restart_goes_on(convene: Convene):
    task = await convene()
    drive(task.sites, seconds=lambda _number: 0.2)
    await task.start()
    site = task.sites[0]
    await site.reaches(1)
    assert site.process is not None
    site.process.send_signal(signal.SIGTERM)
    assert await site.exit_code(20) == 128 + signal.SIGTERM
    assert not (site.directory / "termination.json").exists()
    await site.start()
    await task.all_succeed()


async def test_a_session_key_that_the_chain_does_not_know_is_refused_in_words(convene: Convene):
    task = await convene()
    site = task.sites[0]
    (site.directory / "session.key").write_text("0x" + "11" * 32)
    await site.start()
    assert await site.exit_code() == 1
    assert site.termination["reason"] == "BadWalletKey"
    assert "the chain knows" in site.termination["message"]
