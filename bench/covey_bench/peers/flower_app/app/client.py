"""Flower's client app: takes the model as PyTorch tensors and gives back a changed one."""

from __future__ import annotations

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from .payload import Trainer

app = ClientApp()


@app.train()
def train(message: Message, _context: Context) -> Message:
    number = int(message.content["config"]["server-round"])
    weights = {name: tensor.numpy() for name, tensor in message.content["arrays"].to_torch_state_dict().items()}
    moved = Trainer().train(weights, number)
    arrays = ArrayRecord({name: torch.from_numpy(array) for name, array in moved.items()})
    return Message(RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": 400})}), reply_to=message)
