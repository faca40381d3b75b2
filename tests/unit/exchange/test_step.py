"""Both implementations of the outer step give the same bits, and those of the formula."""

from __future__ import annotations

import numpy as np
import pytest
from covey_exchange.codec import Sparse
from covey_exchange.manifest import Array
from covey_exchange.step import NUMPY, Parts, Stepper
from covey_exchange.step_compiled import Compiled
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

MANY = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
COUNT, RATE = np.float32(3), np.float32(0.7)


@pytest.fixture(params=[NUMPY, Compiled()], ids=["numpy", "compiled"])
def stepper(request: pytest.FixtureRequest) -> Stepper:
    found: Stepper = request.param
    return found


@st.composite
def rounds(draw: st.DrawFn) -> tuple[Array, list[Sparse]]:
    """A tensor of a few blocks with zeros of both signs, and updates of which some are empty."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = draw(st.integers(1, 10_000))
    tensor = rng.normal(size=size).astype(np.float32) * rng.integers(0, 2, size).astype(np.float32)
    updates = []
    for _ in range(draw(st.integers(0, 5))):
        kept = draw(st.integers(0, min(size, 300)))
        indices = np.sort(rng.choice(size, kept, replace=False)).astype(np.int64)
        updates.append(Sparse(indices, rng.normal(size=kept).astype(np.float32), (size,)))
    return tensor, updates


def by_formula(tensor: Array, updates: list[Sparse]) -> Array:
    total = np.zeros_like(tensor)
    for update in updates:
        total += update.dense()
    return np.asarray(tensor - total / COUNT * RATE)


@MANY
@given(rounds())
def test_the_step_is_that_of_the_formula(stepper: Stepper, drawn: tuple[Array, list[Sparse]]) -> None:
    tensor, updates = drawn
    before = tensor.copy()
    stepped = stepper.step(tensor, Parts.of(updates), COUNT, RATE)
    assert stepped.tensor.tobytes() == by_formula(tensor, updates).tobytes()
    assert stepped.positions.tolist() == sorted({int(i) for update in updates for i in update.indices})
    assert stepped.values.tobytes() == stepped.tensor[stepped.positions].tobytes()
    assert tensor.tobytes() == before.tobytes()


@MANY
@given(rounds())
def test_a_step_without_one_update_is_known_where_it_differs(
    stepper: Stepper, drawn: tuple[Array, list[Sparse]]
) -> None:
    tensor, updates = drawn
    parts = Parts.of(updates)
    found = stepper.step(tensor, parts, COUNT, RATE).without
    for number, update in enumerate(updates):
        expected = by_formula(tensor, [*updates[:number], *updates[number + 1 :]])[update.indices]
        assert found[parts.of_one(number)].tobytes() == expected.tobytes()
