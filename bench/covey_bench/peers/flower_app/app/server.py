"""Flower's server app: federated averaging of all sites, without evaluation, which would send the model once more."""

from __future__ import annotations

import time

import torch
from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from . import payload

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    sites = int(context.run_config["sites"])
    while len(list(grid.get_node_ids())) < sites:
        time.sleep(0.5)
    model = ArrayRecord({name: torch.from_numpy(array) for name, array in payload.initial().items()})
    strategy = FedAvg(fraction_evaluate=0.0, min_train_nodes=sites, min_available_nodes=sites)
    strategy.start(grid=grid, initial_arrays=model, num_rounds=int(context.run_config["rounds"]))
