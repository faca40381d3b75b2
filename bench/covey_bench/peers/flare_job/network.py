"""The payload as a PyTorch module, which FLARE's server keeps."""

from __future__ import annotations

from itertools import pairwise

import payload
import torch
from torch import nn


class Network(nn.Sequential):
    def __init__(self) -> None:
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(payload.WIDTHS):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        super().__init__(*layers[:-1])
        self.load_state_dict({name: torch.from_numpy(array) for name, array in payload.initial().items()})
