"""The program of the task: a small network that tells malignant from benign tumours."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from covey_trainer.metrics import roc_auc
from torch import nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from wdbc.records import FEATURES, read

Batch = tuple[torch.Tensor, torch.Tensor]


class Program:
    """A multilayer perceptron with one hidden layer of `config.hidden` units (default 256)."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._hidden = int(config.get("hidden", 256))

    def model(self) -> nn.Module:
        """Maps features [B, 30] to the logit of malignancy [B, 1]."""
        return nn.Sequential(nn.Linear(FEATURES, self._hidden), nn.GELU(), nn.Linear(self._hidden, 1))

    def data(self, directory: Path) -> TensorDataset:
        """The member's records as (features, label) pairs."""
        x, y = read(directory)
        return TensorDataset(torch.from_numpy(x), torch.from_numpy(y))

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Binary cross-entropy of each record, shape [B]."""
        x, y = batch
        return functional.binary_cross_entropy_with_logits(model(x).squeeze(1), y, reduction="none")

    def metrics(self, model: nn.Module, batch: Batch) -> dict[str, float]:
        """Area under the ROC curve, and accuracy at even odds."""
        x, y = batch
        logits = model(x).squeeze(1)
        accuracy = float(((logits > 0).float() == y).float().mean())
        return {"auc": roc_auc(logits.cpu().numpy(), y.cpu().numpy()), "accuracy": accuracy}
