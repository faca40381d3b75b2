"""Which records are trained on and when."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from covey_trainer.sampling import batches, noise_seed, split_holdout
from hypothesis import given
from hypothesis import strategies as st

seeds = st.integers(0, 2**64 - 1)


@given(st.integers(0, 500), st.fractions(0, 1), seeds)
def test_a_split_loses_and_doubles_no_record(examples: int, fraction: Fraction, seed: int) -> None:
    training, holdout = split_holdout(examples, fraction, seed)
    assert sorted([*training, *holdout]) == list(range(examples))
    assert len(holdout) == int(examples * fraction)


@given(st.integers(1, 40), st.integers(1, 60), st.integers(1, 8), seeds, st.integers(1, 1000))
def test_every_record_is_seen_before_any_is_seen_again(
    examples: int, batch_size: int, steps: int, seed: int, round_number: int
) -> None:
    drawn = list(batches(np.arange(examples), batch_size, steps, seed, round_number))
    assert [len(batch) for batch in drawn] == [batch_size] * steps
    order = np.concatenate(drawn)
    for epoch in range(0, len(order), examples):
        part = order[epoch : epoch + examples]
        assert len(set(part)) == len(part)


def test_the_order_changes_with_the_round_and_not_between_runs() -> None:
    training = np.arange(50)
    first = np.concatenate(list(batches(training, 10, 5, 3, 1)))
    assert np.array_equal(first, np.concatenate(list(batches(training, 10, 5, 3, 1))))
    assert not np.array_equal(first, np.concatenate(list(batches(training, 10, 5, 3, 2))))


@given(seeds, st.integers(0, 2**32), st.integers(0, 256))
def test_noise_seeds_are_what_torch_takes(seed: int, round_number: int, rank: int) -> None:
    assert 0 <= noise_seed(seed, round_number, rank) < 2**63
