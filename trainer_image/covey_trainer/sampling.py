"""Which records are trained on, when, and by which worker: pure functions of seed, round and sizes."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]

# Streams of one task's seed that must not run into each other.
_HOLDOUT_STREAM, _ORDER_STREAM, _NOISE_STREAM = range(3)


def split_holdout(examples: int, fraction: Fraction, seed: int) -> tuple[Indices, Indices]:
    """Positions of the records to train on and of those kept out to score updates.

    Args:
        examples: records of the member.
        fraction: share kept out; the count is rounded down.
        seed: of the task, so that a restarted site finds the same split.

    Returns:
        (training, holdout), both ascending.
    """
    order = np.random.default_rng([_HOLDOUT_STREAM, seed]).permutation(examples)
    held_out = int(examples * fraction)
    return np.sort(order[held_out:]), np.sort(order[:held_out])


def batches(training: Indices, batch_size: int, steps: int, seed: int, round_number: int) -> Iterator[Indices]:
    """The site's batches of one round: `steps` times `batch_size` records, epoch after reshuffled epoch.

    The order depends on seed and round only, not on the number of workers.
    """
    generator = np.random.default_rng([_ORDER_STREAM, seed, round_number])
    queue = np.empty(0, dtype=np.int64)
    for _ in range(steps):
        while len(queue) < batch_size:
            queue = np.concatenate([queue, generator.permutation(training)])
        yield queue[:batch_size]
        queue = queue[batch_size:]


def noise_seed(seed: int, round_number: int, rank: int) -> int:
    """Seed of one worker's default generator in a round (dropout, augmentation); below 2^63."""
    return int(np.random.default_rng([_NOISE_STREAM, seed, round_number, rank]).integers(2**63 - 1))
