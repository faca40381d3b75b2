"""The rank statistic against its definition and against scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from covey_trainer.metrics import roc_auc
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

scored = st.lists(st.tuples(st.integers(-5, 5), st.booleans()), min_size=2, max_size=60).filter(
    lambda pairs: len({label for _, label in pairs}) == 2
)


@given(scored)
def test_it_is_the_share_of_pairs_in_the_right_order(pairs: list[tuple[int, bool]]) -> None:
    scores, labels = map(np.array, zip(*pairs, strict=True))
    difference = scores[labels][:, None] - scores[~labels][None, :]
    assert roc_auc(scores, labels) == pytest.approx(((difference > 0) + 0.5 * (difference == 0)).mean())
    assert roc_auc(scores, labels) == pytest.approx(roc_auc_score(labels, scores))


def test_a_single_class_has_no_auc() -> None:
    assert math.isnan(roc_auc([0.1, 0.9], [1, 1]))
