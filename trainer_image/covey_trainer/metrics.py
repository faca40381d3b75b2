"""Metrics that programs may use, in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def roc_auc(scores: ArrayLike, labels: ArrayLike) -> float:
    """Area under the ROC curve by the rank statistic (Mann & Whitney 1947); ties count half.

    Args:
        scores: [n], higher means more likely positive.
        labels: [n], nonzero means positive.

    Returns:
        The probability that a positive outranks a negative; NaN when one of the two classes is absent.
    """
    values: NDArray[Any] = np.asarray(scores, dtype=np.float64).ravel()
    positive = np.asarray(labels).ravel() != 0
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if positives == 0 or negatives == 0:
        return float("nan")
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(counts) - (counts - 1) / 2
    rank_sum = float(mean_rank[group][positive].sum())
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)
