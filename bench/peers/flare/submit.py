"""Builds the FedAvg job with FLARE's own recipe and submits it: submit.py JOB_DIR ADMIN_KIT ROUNDS SITES QUANTISER."""

import sys

job, kit, rounds, sites, quantiser = sys.argv[1:]
sys.path.insert(0, ".")

from mlp import Net  # noqa: E402
from nvflare.app_opt.pt.quantization.dequantizer import ModelDequantizer  # noqa: E402
from nvflare.app_opt.pt.quantization.quantizer import ModelQuantizer  # noqa: E402
from nvflare.app_opt.pt.recipes.fedavg import FedAvgRecipe  # noqa: E402
from nvflare.client.config import ExchangeFormat  # noqa: E402
from nvflare.fuel.flare_api.flare_api import new_secure_session  # noqa: E402

recipe = FedAvgRecipe(
    name="rounds",
    model=Net(),
    min_clients=int(sites),
    num_rounds=int(rounds),
    train_script="client.py",
    server_expected_format=ExchangeFormat.NUMPY,
)
recipe.add_server_file("mlp.py")
recipe.add_client_file("mlp.py")
if quantiser:
    for add, make in (
        (recipe.add_server_output_filter, lambda: ModelQuantizer(quantization_type=quantiser)),
        (recipe.add_client_input_filter, ModelDequantizer),
        (recipe.add_client_output_filter, lambda: ModelQuantizer(quantization_type=quantiser)),
        (recipe.add_server_input_filter, ModelDequantizer),
    ):
        add(make(), tasks=["train"])
recipe.export(job)
session = new_secure_session("admin@covey.dev", kit, timeout=45)
print("job", session.submit_job(f"{job}/rounds"), flush=True)
session.close()
