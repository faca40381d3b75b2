"""What `numeric_driver` computes, as a program: records are points, the loss is the mean square distance to them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numeric_driver import SHAPE
from torch import nn
from torch.utils.data import Dataset


class _Points(Dataset[Any]):
    def __init__(self, points: torch.Tensor) -> None:
        self._points = points

    def __len__(self) -> int:
        return len(self._points)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"point": self._points[index]}


class _Weight(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(SHAPE))


class Program:
    """One weight that should be where the records are."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        pass

    def model(self) -> nn.Module:
        return _Weight()

    def data(self, directory: Path) -> Dataset[Any]:
        return _Points(torch.from_numpy(np.load(directory / "points.npy")))

    def loss(self, model: nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        found: torch.Tensor = ((model.weight - batch["point"]) ** 2).mean(dim=(1, 2))  # type: ignore[operator]
        return found

    def metrics(self, model: nn.Module, batch: Mapping[str, torch.Tensor]) -> Mapping[str, float]:
        return {}
