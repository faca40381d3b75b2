"""FLARE's client script: receive, one step, send (Client API, in process)."""

import nvflare.client as flare
import torch
from mlp import Net, step


def main():
    """Until the job ends."""
    net = Net()
    flare.init()
    while flare.is_running():
        received = flare.receive()
        if received is None:
            break
        shapes = {name: parameter.shape for name, parameter in net.named_parameters()}
        net.load_state_dict({k: torch.as_tensor(v).reshape(shapes[k]) for k, v in received.params.items()})
        loss = step(net)
        params = {name: value.detach().clone() for name, value in net.state_dict().items()}
        flare.send(flare.FLModel(params=params, metrics={"loss": loss}))


if __name__ == "__main__":
    main()
