"""One step at a site."""

from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from .mlp import Net, step

app = ClientApp()


@app.train()
def train(message, context):
    """Take the weights, do a step, give the weights back."""
    net = Net()
    net.load_state_dict(message.content["arrays"].to_torch_state_dict())
    metrics = MetricRecord({"loss": step(net), "num-examples": 8})
    return Message(content=RecordDict({"arrays": ArrayRecord(net.state_dict()), "metrics": metrics}), reply_to=message)
