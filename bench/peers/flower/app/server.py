"""Stock FedAvg; notes when rounds begin."""

import time

from flwr.app import ArrayRecord
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg

from .mlp import Net, mark

app = ServerApp()


class Noting(FedAvg):
    """FedAvg that notes its rounds."""

    def configure_train(self, server_round, arrays, config, grid):
        """Note the beginning."""
        mark("begin")
        return super().configure_train(server_round, arrays, config, grid)


@app.main()
def main(grid, context):
    """All rounds. Federated evaluation is off: the default would send the model a second time."""
    sites = context.run_config["sites"]
    while len(list(grid.get_node_ids())) < sites:
        time.sleep(0.5)
    strategy = Noting(fraction_evaluate=0.0, min_train_nodes=sites, min_available_nodes=sites)
    arrays = ArrayRecord(Net().state_dict())
    strategy.start(grid=grid, initial_arrays=arrays, num_rounds=context.run_config["rounds"])
    mark("begin")
    mark("done")
