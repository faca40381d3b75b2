"""The incentive rule: what any sites and judges do, money is conserved, and everybody computes the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np
import pytest
from covey_exchange.codec import Sparse
from covey_validator.incentives import appeal as appeals
from covey_validator.incentives.copies import Flat, Past, copied
from covey_validator.incentives.evidence import Finding, Outcome
from covey_validator.incentives.geometry import Gram, Movement
from covey_validator.incentives.helping import RoundFacts, helped
from covey_validator.incentives.members import Standing
from covey_validator.incentives.rule import Decision, State, after_round, close_epoch, settle, split
from covey_validator.incentives.terms import PPB, PPM, Rule
from covey_validator.scoring import NANO, Scores
from hypothesis import given, settings
from hypothesis import strategies as st
from round_bus import addresses

SITES = addresses(5)
A, B, C, D, E = SITES
RULE = Rule()
STAKE = 10_000
LOSS = NANO
BIG = 5 * NANO


def facts(gains: Mapping[str, int], judges: Sequence[str] = SITES, copies: frozenset[str] = frozenset()) -> RoundFacts:
    """A round in which every judge saw the same gain (nano-loss) from each site."""
    said = Scores(LOSS, LOSS, {site: LOSS + gain for site, gain in gains.items()})
    return RoundFacts(frozenset(gains), dict.fromkeys(judges, said), copies)


def epoch(gains: Mapping[str, int], **given: frozenset[str]) -> list[RoundFacts]:
    return [facts(gains, **given)] * RULE.epoch_rounds


def play(
    epochs: int, gains: Mapping[str, int], rule: Rule = RULE, **given: frozenset[str]
) -> tuple[State, list[dict[str, Decision]]]:
    state, decided = State.start(rule, dict.fromkeys(SITES, STAKE)), []
    for number in range(1, epochs + 1):
        active = {site: gain for site, gain in gains.items() if site in state.active}
        state, decisions = close_epoch(state, epoch(active, **given), STILL, {})
        state = after_round(state, number * rule.epoch_rounds)
        decided.append(decisions)
    return state, decided


def moved(parts: Mapping[str, Sequence[float]]) -> Gram:
    movement = Movement()
    movement.add({site: {"w": np.array(values, dtype=np.float32)} for site, values in parts.items()})
    return movement.gram()


STILL = Gram((), ())
HONEST = dict.fromkeys((A, B, C, D), LOSS // 100)


# --- the ladder -----------------------------------------------------------------------------------------------------


def test_a_degrader_loses_half_a_per_cent_then_twice_as_much_and_then_its_seat():
    state, decided = play(6, HONEST | {E: -LOSS // 100})
    assert [each[E].taken for each in decided] == [50, 100, 200, 400, 800, 1600]
    assert [each[E].removed for each in decided] == [False] * 5 + [True]
    assert E not in state.active
    assert state.accounts[A].held == 0


def test_a_removed_member_loses_nothing_until_its_time_to_appeal_is_over():
    state, _ = play(6, HONEST | {E: 0})
    last_chance = 6 * RULE.epoch_rounds + RULE.appeal_rounds
    assert after_round(state, last_chance).accounts[E].burnt == 0
    gone = after_round(state, last_chance + 1).accounts[E]
    assert (gone.held, gone.burnt) == (0, 3150)


def test_who_helps_little_has_the_first_step_held_and_gets_it_back_by_helping():
    state, decided = play(3, HONEST | {E: LOSS // 250})
    assert [each[E].taken for each in decided] == [50, 50, 50]
    assert state.accounts[E].steps == 0
    for _ in range(2):
        state, decisions = close_epoch(state, epoch(HONEST | {E: LOSS // 50}), STILL, {})
    assert decisions[E].standing is Standing.GOOD
    assert decisions[E].returned > 0


def test_copies_are_held_against_a_member_however_much_they_help():
    _, decided = play(1, HONEST | {E: LOSS // 50}, copies=frozenset({E}))
    assert decided[0][E].taken == 50
    assert "repeated what others had made public" in decided[0][E].reason


def test_who_only_ever_pulled_against_most_others_climbs_the_ladder_whatever_judges_say():
    state, helping = State.start(RULE, dict.fromkeys(SITES, STAKE)), epoch(HONEST | {E: LOSS // 100})
    with_them = {site: [1.0, 0.5] for site in (A, B, C, D)}
    state, first = close_epoch(state, helping, moved(with_them | {E: [-1, 0]}), {})
    assert (first[E].taken, first[A].taken) == (50, 0)
    assert "pull against most others'" in first[E].reason
    state, _ = close_epoch(state, helping, moved(with_them | {E: [1, -1]}), {})
    _, third = close_epoch(state, helping, moved(with_them | {E: [-1, 0]}), {})
    assert third[E].taken == 0  # it has once gone with them


def test_one_attacker_of_three_cannot_make_another_look_opposed():
    gram = moved({A: [1, 0.2], B: [1, -0.2], C: [-1, 0.2]})
    found = gram.alignment({A: 1, B: 1, C: 1}, RULE.help_quantile)
    assert found[A] > 0
    assert found[B] > 0
    assert found[C] < RULE.opposed_ppm


def test_an_absent_member_is_neither_penalised_nor_forgiven():
    state, _ = play(2, HONEST | {E: 0})
    before = state.accounts[E]
    state, decisions = close_epoch(state, epoch(HONEST), STILL, {})
    after = state.accounts[E]
    assert decisions[E].standing is Standing.ABSENT
    assert (after.held, after.steps) == (before.held, before.steps)


def test_rounds_that_a_site_missed_do_not_count_against_it():
    rounds = [facts(HONEST | {E: LOSS // 100})] * 2 + [facts(HONEST)] * 3
    seen = helped(RULE, rounds, dict.fromkeys(SITES, STAKE))
    assert (seen[E].attended, seen[A].attended) == (2, 5)
    assert seen[E].help * 5 == seen[A].help * 2
    assert seen[E].yardstick * 5 == seen[A].yardstick * 2


def test_in_shadow_mode_everything_is_said_and_nothing_is_held():
    rule = Rule(shadow_epochs=2)
    _, decided = play(3, HONEST | {E: -LOSS}, rule)
    assert [each[E].taken for each in decided] == [0, 0, 50]
    assert decided[0][E].reason.startswith("nothing is held before epoch 3; it would have been a step of the ladder: ")


def test_a_penalty_says_why_and_what_to_do():
    _, decided = play(3, HONEST | {E: LOSS // 1000})
    assert decided[0][E].reason == (
        "held 0.5 % of stake: in epoch 1 this site helped the median holdout 0.1 times as much as a typical site, "
        "limit 0.2; appeal until round 20, or it is kept at settlement"
    )


# --- evidence -------------------------------------------------------------------------------------------------------


def finding(number: int, own: int, others: int, loss: int, authentic: bool = True) -> Finding:
    return Finding(number, authentic, loss, own, others)


def minority(state: State, at: int, **given: int | bool) -> State:
    given = {"own": LOSS, "others": 0, "loss": 20 * LOSS} | given
    return state.with_findings(E, [finding(n, **given) for n in range(1, at + 1)])  # type: ignore[arg-type]


def flagged(epochs: int = 2) -> State:
    state, _ = play(epochs, HONEST | {E: -LOSS // 1000})
    return state.with_appeal(E, appeals.Filed(epochs * RULE.epoch_rounds))


def test_a_proven_minority_is_held_no_more_and_heard_louder():
    state = minority(flagged(), 2)
    assert state.accounts[E].outcome is Outcome.PROVEN
    assert state.clips == {E: 3}
    state, decisions = close_epoch(
        state, epoch(HONEST | {E: -LOSS // 1000}), STILL, {E: [finding(n, LOSS, 0, 20 * LOSS) for n in (1, 2, 3)]}
    )
    assert decisions[E].taken == 0
    assert state.accounts[E].steps == 1


@pytest.mark.parametrize(
    "given", [{"authentic": False}, {"own": 0}, {"own": -LOSS}, {"own": LOSS, "others": 2 * LOSS, "loss": LOSS * 1000}]
)
def test_records_that_are_invented_or_that_its_updates_do_not_serve_prove_nothing(given: dict[str, int | bool]):
    assert minority(flagged(), 2, **given).accounts[E].outcome is Outcome.NOTHING


def test_well_served_records_clear_a_member_but_make_it_no_minority():
    state = minority(flagged(), 2, loss=5 * LOSS)
    assert state.accounts[E].outcome is Outcome.CLEARED
    assert state.clips == {}
    _, decisions = close_epoch(
        state, epoch(HONEST | {E: -LOSS // 1000}), STILL, {E: [finding(n, LOSS, 0, 5 * LOSS) for n in (1, 2, 3)]}
    )
    assert decisions[E].standing is Standing.DIVERGENT  # it can no longer be removed


def test_real_records_do_not_excuse_copies():
    state, _ = play(2, HONEST | {E: LOSS // 100}, copies=frozenset({E}))
    state = minority(state.with_appeal(E, appeals.Filed(10)), 2)
    assert state.accounts[E].outcome is Outcome.NOTHING


def test_a_member_that_was_removed_while_its_appeal_was_open_comes_back_if_it_was_right():
    state = flagged(5)
    state, decisions = close_epoch(state, epoch(HONEST | {E: -LOSS // 1000}), STILL, {})
    assert decisions[E].removed
    state = after_round(minority(after_round(state, 30), 6), 31)
    assert E in state.active
    assert (state.accounts[E].held, state.accounts[E].burnt) == (3150, 0)


# --- settlement -----------------------------------------------------------------------------------------------------


def test_influence_sums_to_one_and_the_unique_part_is_what_only_one_supplied():
    gram = moved({A: [1, 0, 0], B: [1, 0, 0], C: [0, 0, 2]})
    assert gram.influence() == {A: PPB // 4, B: PPB // 4, C: PPB // 2}
    unique = gram.unique()
    assert unique[A] == pytest.approx(0, abs=10)
    assert unique[C] == pytest.approx(PPB // 2, abs=10)


def test_the_minority_is_paid_for_its_unique_part_and_gets_its_stake_back_less_the_fee():
    gram = moved({site: [1, 0.1 * i, 0] for i, site in enumerate((A, B, C, D))} | {E: [0, 0, 2]})
    plain = settle(flagged(), gram, 5000, 100)
    proven = settle(minority(flagged(), 2), gram, 5000, 100)
    assert proven[E].reward > 1.2 * plain[E].reward
    assert (proven[E].refunded, proven[E].slashed) == (100, 50)
    assert proven[E].reason.startswith("paid for ")
    assert "that nobody else supplied" in proven[E].reason


def test_what_is_held_only_for_being_different_comes_back():
    alike = moved({site: [1.0] for site in SITES})
    state, decided = play(2, HONEST | {E: LOSS // 250})
    assert (decided[-1][E].standing, state.accounts[E].held) == (Standing.DIVERGENT, 100)
    settled = settle(state, alike, 5000, 100)[E]
    assert (settled.refunded, settled.slashed, settled.pending) == (100, 0, 0)
    assert "helped in another way" in settled.reason
    degrading, _ = play(2, HONEST | {E: -LOSS // 100})
    assert settle(degrading, alike, 5000, 100)[E].slashed == 150


def test_what_an_open_appeal_protects_is_neither_returned_nor_slashed():
    settled = settle(flagged(), moved({A: [1.0], B: [1.0], C: [1.0], D: [1.0], E: [1.0]}), 5000, 11)
    assert (settled[E].pending, settled[E].refunded, settled[E].slashed) == (150, 0, 0)


def test_nobody_gets_more_than_two_and_a_half_equal_shares_and_the_rest_goes_to_the_others():
    assert split(1000, {A: 97, B: 1, C: 1, D: 1, E: 0}, 500) == {A: 500, B: 166, C: 166, D: 166, E: 0}


# --- properties -----------------------------------------------------------------------------------------------------

amounts = st.integers(-BIG, BIG)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[dict[str, int], list[list[RoundFacts]], dict[str, list[float]]]:
    stakes = {site: draw(st.integers(1, 10**6)) for site in SITES}
    epochs = []
    for _ in range(draw(st.integers(1, 8))):
        rounds = []
        for _ in range(draw(st.integers(1, 3))):
            here = draw(st.lists(st.sampled_from(SITES), unique=True))
            judges = draw(st.lists(st.sampled_from(SITES), unique=True))
            said = {j: Scores(draw(amounts), draw(amounts), {s: draw(amounts) for s in here}) for j in judges}
            copies = frozenset(draw(st.lists(st.sampled_from(here), unique=True))) if here else frozenset()
            rounds.append(RoundFacts(frozenset(here), said, copies))
        epochs.append(rounds)
    directions = {site: draw(st.lists(st.floats(-1, 1, width=32), min_size=4, max_size=4)) for site in SITES}
    return stakes, epochs, directions


def outcome(
    stakes: Mapping[str, int], epochs: Sequence[Sequence[RoundFacts]], gram: Gram, appealing: frozenset[str]
) -> tuple[State, list[dict[str, Decision]], object]:
    state, decided = State.start(RULE, stakes), []
    for number, rounds in enumerate(epochs, start=1):
        found = {site: [finding(n, BIG, 0, 30 * BIG) for n in range(1, number + 1)] for site in appealing}
        state, decisions = close_epoch(state, rounds, gram, found)
        state = after_round(state, number * RULE.epoch_rounds)
        for site in sorted(appealing & state.active.keys()):
            if state.accounts[site].held and state.accounts[site].appeal.stage is appeals.Stage.NONE:
                state = state.with_appeal(site, appeals.Filed(number * RULE.epoch_rounds))
        decided.append(decisions)
    return state, decided, settle(state, gram, sum(stakes.values()), 1000)


@given(worlds(), st.frozensets(st.sampled_from(SITES)))
@settings(max_examples=40, deadline=None)
def test_money_is_conserved_whatever_happens(world: object, appealing: frozenset[str]):
    stakes, epochs, directions = world  # type: ignore[misc]
    state, decided, settled = outcome(stakes, epochs, moved(directions), appealing)
    assert isinstance(settled, dict)
    for site, account in state.accounts.items():
        assert account.held >= 0
        assert account.held + account.burnt <= stakes[site]
        assert all(each[site].taken <= stakes[site] for each in decided if site in each)
        end = settled[site]
        assert min(end.reward, end.refunded, end.slashed, end.pending) >= 0
        assert end.refunded + end.slashed + end.pending == account.held + account.burnt
        assert account.removed is None or end.reward == 0
    assert sum(end.reward for end in settled.values()) <= sum(stakes.values())


@given(worlds(), st.permutations(SITES), st.frozensets(st.sampled_from(SITES)))
@settings(max_examples=25, deadline=None)
def test_the_order_of_sites_judges_and_rounds_changes_nothing(
    world: object, order: list[str], appealing: frozenset[str]
):
    stakes, epochs, directions = world  # type: ignore[misc]

    def shuffled(each: RoundFacts) -> RoundFacts:
        return RoundFacts(each.included, {j: each.scores[j] for j in order if j in each.scores}, each.copies)

    first = outcome(stakes, epochs, moved(directions), appealing)
    again = outcome(
        {site: stakes[site] for site in order},
        [[shuffled(each) for each in reversed(rounds)] for rounds in epochs],
        moved({site: directions[site] for site in order}),
        appealing,
    )
    assert first == again


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from(SITES[1:]), st.tuples(amounts, st.integers(1, 1000)), min_size=2),
    st.dictionaries(st.sampled_from(addresses(12)[5:]), amounts, max_size=7),
)
def test_judges_with_less_than_two_fifths_of_the_stake_move_no_help_beyond_what_the_others_saw(
    honest: dict[str, tuple[int, int]], liars: dict[str, int]
):
    share = Fraction(2, 5)
    budget = sum(weight for _, weight in honest.values()) * share / (1 - share) / max(1, len(liars))
    weight = -(-budget.numerator // budget.denominator) - 1  # strictly less than two fifths together
    stakes = {judge: w for judge, (_, w) in honest.items()} | dict.fromkeys(liars, weight)
    said = {judge: gain for judge, (gain, _) in honest.items()} | liars
    scores = {judge: Scores(BIG, 0, {A: gain}) for judge, gain in said.items()}
    seen = helped(RULE, [RoundFacts(frozenset({A}), scores)], stakes | {A: 1})[A]
    gains = [gain for gain, _ in honest.values()]
    assert min(gains) <= seen.help <= max(gains)
    assert seen.loss == BIG


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(SITES), st.integers(0, PPB), min_size=1), st.integers(0, 10**24))
def test_a_split_never_exceeds_the_pool_nor_the_limit(weights: dict[str, int], pool: int):
    limit = pool * RULE.reward_limit_ppm // (PPM * len(weights))
    shares = split(pool, weights, limit)
    assert sum(shares.values()) <= pool
    assert all(0 <= share <= limit for share in shares.values())


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(-10, 10).map(float), min_size=3, max_size=3), min_size=1, max_size=5))
def test_influence_and_unique_part_are_those_of_linear_algebra(rows: list[list[float]]):
    directions = np.array(rows, dtype=np.float64)
    whole = directions.sum(0)
    if whole @ whole < 1e-3:
        return
    gram = moved(dict(zip(SITES, rows, strict=False)))
    expected = directions @ whole / (whole @ whole)
    found = gram.influence()
    assert [found[site] / PPB for site in sorted(SITES[: len(rows)])] == pytest.approx(
        [float(expected[SITES.index(site)]) for site in sorted(SITES[: len(rows)])], abs=1e-6
    )
    for i, site in enumerate(SITES[: len(rows)]):
        others = np.delete(directions, i, axis=0)
        rest = directions[i]
        if len(others):
            rest = rest - others.T @ np.linalg.lstsq(others.T, rest, rcond=1e-5)[0]
        assert gram.unique()[site] / PPB == pytest.approx(float(rest @ rest / (whole @ whole)), abs=1e-3)


# --- copies ---------------------------------------------------------------------------------------------------------


def sparse(seed: int, scale: float = 1.0) -> Flat:
    rng = np.random.default_rng(seed)
    indices = np.sort(rng.permutation(1000)[:100])
    values = (scale * rng.normal(size=100)).astype(np.float32)
    return Flat.of({"w": Sparse(indices, values, (1000,)), "b": np.zeros(3, dtype=np.float32)})


def jittered(of: Flat, seed: int) -> Flat:
    noise = 0.2 * np.abs(of.values).mean() * np.random.default_rng(seed).normal(size=of.values.size)
    return Flat(of.indices, (of.values * 3 + noise).astype(np.float32), of.size)


def test_a_scaled_and_jittered_copy_of_another_is_found_and_own_updates_are_not():
    past = [Past({A: sparse(1), B: sparse(2)})]
    parts = {A: jittered(sparse(1), 5), C: jittered(sparse(2), 6), D: sparse(3)}
    assert copied(RULE, parts, past) == {C}


def dense(of: Flat, size: int = 1003) -> Flat:
    """The same as an update of which every element is sent."""
    whole = np.zeros(size, dtype=np.float32)
    whole[of.indices] = of.values
    return Flat.of({"a": whole[:500], "b": whole[500:].reshape(1, -1)})


def test_what_is_sent_dense_is_judged_like_what_is_sent_sparse():
    past = [Past({A: sparse(1), B: sparse(2)})]
    parts = {A: jittered(sparse(1), 5), C: jittered(sparse(2), 6), D: sparse(3)}
    dense_past = [Past({site: dense(part) for site, part in past[0].parts.items()})]
    dense_parts = {site: dense(part) for site, part in parts.items()}
    assert all(part.indices is None and part.support == 100 for part in dense_parts.values())
    for mine in (parts, dense_parts):
        for public in (past, dense_past):
            assert copied(RULE, mine, public) == {C}


def test_a_copy_is_found_that_hides_behind_zeros():
    """Half of another's dense update, and zeros: what counts is only where something was sent."""
    rng = np.random.default_rng(1)
    public = rng.normal(size=1000).astype(np.float32)
    half = np.where(np.arange(1000) % 2, public, 0).astype(np.float32)
    past = [Past({B: Flat.of({"w": public})})]
    assert copied(RULE, {C: Flat.of({"w": half}), D: Flat.of({"w": rng.normal(size=1000).astype("f4")})}, past) == {C}


def test_a_copy_of_the_last_step_is_found_at_the_others_but_not_at_who_made_it_alone():
    step = Past({A: sparse(1), B: sparse(2), C: sparse(3)})
    indices = np.unique(np.concatenate([part.indices for part in step.parts.values()]))
    summed = Flat(indices, np.sum([part.at(indices) for part in step.parts.values()], axis=0, dtype=np.float32), 1003)
    assert copied(RULE, {D: summed, A: sparse(1)}, [step]) == {D}
