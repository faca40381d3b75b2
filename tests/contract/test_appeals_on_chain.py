"""Appeals on a real node: commitments before the start, an auditor's verdicts, and what becomes of what is held."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from covey_chain import penalties, signing
from covey_chain.errors import Reverted
from covey_chain.events import EventKind
from covey_chain.types import Appeal, AuditVerdict, Holdout, Penalty, PostedVerdict
from covey_chain.wallet import Wallet
from eth_utils.crypto import keccak
from lab import CONSORTIUM, TOKEN, WORKER, Lab, result_of

pytestmark = pytest.mark.chain

AUDITOR = b"\x77" * 32
AUDITED: dict[str, Any] = {"auditor": signing.address_of(AUDITOR), "appeal_window": 3600}
HOLDOUT = Holdout(b"\x05" * 32, 120)
FINDINGS = b"what the auditor has measured"
HELD = 100 * TOKEN
ENTRY = Penalty(2, removed=False, appealing=True, held=HELD, slashed=TOKEN)


async def settle(lab: Lab, sessions: list[bytes], task_id: bytes, *entries: Penalty, last: bool = False) -> None:
    ledger = penalties.encode(entries)
    result = result_of(task_id, {lab.planner.address: TOKEN}, 2 if last else 1, last, ledger=ledger)
    await lab.planner.post_result(result, ledger, lab.signed(result, sessions))


async def ended(lab: Lab) -> tuple[bytes, Wallet]:
    """A task that is over and still holds something, and whose it is."""
    task_id, sessions = await lab.started(**AUDITED)
    await settle(lab, sessions, task_id, ENTRY, last=True)
    return task_id, lab.wallets[2]


def verdict(task_id: bytes, member: str, epoch: int = 4, authentic: bool = True) -> AuditVerdict:
    return AuditVerdict(task_id, member, epoch, authentic, bytes(keccak(FINDINGS)))


async def speak(lab: Lab, said: AuditVerdict, key: bytes = AUDITOR, findings: bytes = FINDINGS) -> str | None:
    receipt = await lab.planner.post_verdict(said, findings, signing.sign(lab.chain.domain, said, key))
    return receipt.tx_hash


async def later(lab: Lab, seconds: int) -> None:
    await lab.rpc("evm_increaseTime", seconds)
    await lab.rpc("evm_mine")


async def stake_of(lab: Lab, wallet: Wallet) -> tuple[int, int]:
    member = await lab.chain.member(CONSORTIUM, wallet.address)
    assert member is not None
    return member.stake, member.held


async def refused(lab: Lab, said: AuditVerdict, key: bytes = AUDITOR, findings: bytes = FINDINGS) -> str:
    with pytest.raises(Reverted) as caught:
        await speak(lab, said, key, findings)
    assert caught.value.remedy
    return caught.value.reason


async def test_a_holdout_is_committed_to_once_and_before_the_start(lab: Lab) -> None:
    await lab.enrol()
    task_id = await lab.publish(min_members=1, **AUDITED)
    wallet = lab.wallets[1]
    assert await lab.chain.holdout_of(task_id, wallet.address) is None
    with pytest.raises(Reverted, match="at least one record"):
        await wallet.commit_holdout(task_id, Holdout(b"\x05" * 32, 0))
    receipt = await wallet.commit_holdout(task_id, HOLDOUT)
    assert await lab.chain.holdout_of(task_id, wallet.address) == HOLDOUT
    assert (await wallet.commit_holdout(task_id, HOLDOUT)).tx_hash is None
    await wallet.accept(task_id, WORKER, signing.address_of(signing.new_key()), "")
    with pytest.raises(Reverted, match="committed to once"):
        await wallet.commit_holdout(task_id, replace(HOLDOUT, records=7))
    (event,) = await lab.chain.events(receipt.block, receipt.block, task_id)
    assert event.kind is EventKind.HOLDOUT_COMMITTED
    assert (event.arguments["root"], event.arguments["records"]) == (HOLDOUT.root, HOLDOUT.records)
    await lab.planner.accept(task_id, WORKER, signing.address_of(signing.new_key()), "")
    await lab.planner.start(task_id)
    with pytest.raises(Reverted) as caught:
        await lab.planner.commit_holdout(task_id, HOLDOUT)
    assert caught.value.reason == "NotOpen"


async def test_the_terms_name_the_auditor(lab: Lab) -> None:
    await lab.enrol()
    audited = await lab.chain.task(await lab.publish(**AUDITED))
    assert audited is not None
    assert (audited.auditor, audited.appeal_window) == (AUDITED["auditor"], 3600)
    plain = await lab.chain.task(await lab.publish(salt=bytes(32)))
    assert plain is not None
    assert (plain.auditor, plain.appeal_window) == (None, 0)
    with pytest.raises(Reverted, match=r"BadTerms\(appealWindow\)"):
        await lab.publish(salt=b"\x01" * 32, appeal_window=30 * 86_400 + 1)


async def test_participants_testify_without_an_auditor_and_strangers_do_not(lab: Lab) -> None:
    task_id, _ = await lab.started()
    judge, member = lab.wallets[1], lab.wallets[2].address
    receipt = await judge.testify(task_id, member, 3, FINDINGS)
    assert (await judge.testify(task_id, member, 3, FINDINGS)).tx_hash is None
    (event,) = await lab.chain.events(receipt.block, receipt.block, task_id)
    assert event.kind is EventKind.TESTIFIED
    said = (event.arguments[name] for name in ("judge", "member", "epoch", "findings"))
    assert tuple(said) == (judge.address, member, 3, FINDINGS)
    stranger = Wallet(lab.chain, "0x" + signing.new_key().hex())
    await lab.planner.fund(stranger.address, 10**17)
    with pytest.raises(Reverted) as caught:
        await stranger.testify(task_id, member, 3, FINDINGS)
    assert caught.value.reason == "NotParticipant"


async def test_without_an_auditor_nothing_is_heard(lab: Lab) -> None:
    task_id, sessions = await lab.started()
    await settle(lab, sessions, task_id, ENTRY)
    with pytest.raises(Reverted, match="with an auditor"):
        await lab.wallets[2].appeal(task_id)
    assert await refused(lab, verdict(task_id, lab.wallets[2].address)) == "NoAuditor"


async def test_who_is_penalised_appeals_once(lab: Lab) -> None:
    task_id, sessions = await lab.started(**AUDITED)
    wallet = lab.wallets[2]
    with pytest.raises(Reverted) as caught:
        await wallet.appeal(task_id)
    assert (caught.value.reason, caught.value.arguments) == ("NothingToAppeal", (wallet.address.lower(),))
    await settle(lab, sessions, task_id, ENTRY)
    receipt = await wallet.appeal(task_id)
    assert (await wallet.appeal(task_id)).tx_hash is None
    assert await lab.chain.appeal_of(task_id, wallet.address) == Appeal(receipt.block, None)
    assert await lab.chain.appeal_of(task_id, wallet.address, receipt.block - 1) == Appeal(None, None)
    assert await lab.chain.appeals(task_id) == {wallet.address: Appeal(receipt.block, None)}
    (event,) = await lab.chain.events(receipt.block, receipt.block, task_id)
    assert (event.kind, event.arguments["member"]) == (EventKind.APPEAL_FILED, wallet.address)


async def test_an_auditors_verdicts_are_read_with_their_findings(lab: Lab) -> None:
    task_id, _ = await lab.started(**AUDITED)
    member = lab.wallets[1].address
    assert await speak(lab, verdict(task_id, member, 3)) is not None
    first = await lab.chain.block_number()
    longer = FINDINGS * 200
    said = replace(verdict(task_id, member, 4, authentic=False), findings_hash=bytes(keccak(longer)))
    await speak(lab, said, findings=longer)
    assert await lab.chain.appeal_of(task_id, member) == Appeal(None, PostedVerdict(4, False, longer, first + 1))
    earlier = Appeal(None, PostedVerdict(3, True, FINDINGS, first))
    assert await lab.chain.appeals(task_id, first) == {member: earlier}
    assert await speak(lab, verdict(task_id, member, 4)) is None


async def test_what_is_no_verdict_of_the_auditor_is_refused(lab: Lab) -> None:
    task_id, _ = await lab.started(**AUDITED)
    member = lab.wallets[1].address
    good = verdict(task_id, member)
    assert await refused(lab, good, key=signing.new_key()) == "WrongSigner"
    assert await refused(lab, good, findings=b"other findings") == "FindingsMismatch"
    assert await refused(lab, verdict(task_id, "0x" + "99" * 20)) == "NotParticipant"
    assert await refused(lab, verdict(task_id, member, 0)) == "VerdictNotNewer"
    long = bytes(8193)
    assert await refused(lab, replace(good, findings_hash=bytes(keccak(long))), findings=long) == "FindingsTooLong"


async def test_an_older_verdict_replaces_none(lab: Lab) -> None:
    task_id, _ = await lab.started(**AUDITED)
    said = verdict(task_id, lab.wallets[1].address, 2)
    await speak(lab, replace(said, epoch=3))
    # The wallet would not send it.
    function = lab.chain.settlement_contract.functions.postVerdict(
        (said.task_id, said.member, said.epoch, said.authentic, said.findings_hash),
        FINDINGS,
        signing.sign(lab.chain.domain, said, AUDITOR),
    )
    with pytest.raises(Reverted) as caught:
        await lab.chain.call(function)
    assert (caught.value.reason, caught.value.arguments) == ("VerdictNotNewer", (2, 3))


@pytest.mark.parametrize(("authentic", "burnt"), [(True, 0), (False, HELD)])
async def test_a_verdict_decides_on_what_is_held(lab: Lab, authentic: bool, burnt: int) -> None:
    task_id, wallet = await ended(lab)
    assert await stake_of(lab, wallet) == (999 * TOKEN, HELD)
    with pytest.raises(Reverted, match="wait for a verdict"):
        await lab.planner.resolve_held(task_id, wallet.address)
    await wallet.appeal(task_id)
    await speak(lab, verdict(task_id, wallet.address, authentic=authentic))
    receipt = await lab.planner.resolve_held(task_id, wallet.address)
    assert (await lab.planner.resolve_held(task_id, wallet.address)).tx_hash is None
    assert await stake_of(lab, wallet) == (999 * TOKEN - burnt, 0)
    after = Penalty(2, removed=False, appealing=False, held=0, slashed=TOKEN + burnt)
    assert await lab.chain.penalty_of(task_id, wallet.address) == after
    *_, changed = await lab.chain.events(receipt.block, receipt.block, task_id)
    assert (changed.kind, changed.arguments["slashed"]) == (EventKind.PENALTY_CHANGED, TOKEN + burnt)


async def test_an_auditor_that_keeps_silent_costs_nobody_anything(lab: Lab) -> None:
    task_id, wallet = await ended(lab)
    await wallet.appeal(task_id)
    await later(lab, 3601)
    assert await refused(lab, verdict(task_id, wallet.address, authentic=False)) == "AppealsOver"
    await lab.planner.resolve_held(task_id, wallet.address)
    assert await stake_of(lab, wallet) == (999 * TOKEN, 0)


async def test_nobody_appeals_after_the_window_and_what_is_held_is_burnt(lab: Lab) -> None:
    task_id, wallet = await ended(lab)
    await later(lab, 3601)
    with pytest.raises(Reverted, match="end of the task's appeal window"):
        await wallet.appeal(task_id)
    await lab.planner.resolve_held(task_id, wallet.address)
    assert await stake_of(lab, wallet) == (999 * TOKEN - HELD, 0)


async def test_a_task_without_a_last_result_lets_all_go(lab: Lab) -> None:
    task_id, sessions = await lab.started(**AUDITED)
    wallet = lab.wallets[2]
    await settle(lab, sessions, task_id, replace(ENTRY, appealing=False))
    await speak(lab, verdict(task_id, wallet.address, authentic=False))
    with pytest.raises(Reverted, match="last result"):
        await lab.planner.resolve_held(task_id, wallet.address)
    await later(lab, 7200 + 86_400)
    await lab.planner.expire(task_id)
    await lab.planner.resolve_held(task_id, wallet.address)
    assert await stake_of(lab, wallet) == (999 * TOKEN, 0)


async def test_a_last_result_holds_nothing_that_no_appeal_protects(lab: Lab) -> None:
    task_id, sessions = await lab.started(**AUDITED)
    with pytest.raises(Reverted) as caught:
        await settle(lab, sessions, task_id, replace(ENTRY, appealing=False), last=True)
    assert (caught.value.reason, caught.value.arguments) == ("HeldWithoutAppeal", (2, HELD))
