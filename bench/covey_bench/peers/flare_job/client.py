"""FLARE's client script: takes the model and gives back a changed one (Client API, in the client's process)."""

from __future__ import annotations

import nvflare.client as flare
import torch
from payload import Trainer


def main() -> None:
    trainer = Trainer()
    flare.init()
    while flare.is_running():
        model = flare.receive()
        if model is None:
            break
        weights = {name: torch.as_tensor(value).numpy() for name, value in model.params.items()}
        moved = trainer.train(weights, model.current_round + 1)
        flare.send(flare.FLModel(params={name: torch.from_numpy(array) for name, array in moved.items()}))


if __name__ == "__main__":
    main()
