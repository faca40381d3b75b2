"""Builds the job of federated averaging by FLARE's own recipe and submits it.

python submit.py JOB_FOLDER ADMIN_KIT ROUNDS SITES [QUANTISER]
"""

from __future__ import annotations

import sys

from network import Network
from nvflare.app_opt.pt.quantization.dequantizer import ModelDequantizer
from nvflare.app_opt.pt.quantization.quantizer import ModelQuantizer
from nvflare.app_opt.pt.recipes.fedavg import FedAvgRecipe
from nvflare.client.config import ExchangeFormat
from nvflare.fuel.flare_api.flare_api import new_secure_session


def main(folder: str, kit: str, rounds: int, sites: int, quantiser: str = "") -> None:
    recipe = FedAvgRecipe(
        name="bench",
        model=Network(),
        min_clients=sites,
        num_rounds=rounds,
        train_script="client.py",
        server_expected_format=ExchangeFormat.NUMPY,
    )
    for file in ("payload.py", "network.py"):
        recipe.add_server_file(file)
        recipe.add_client_file(file)
    if quantiser:
        recipe.add_server_output_filter(ModelQuantizer(quantization_type=quantiser), tasks=["train"])
        recipe.add_client_input_filter(ModelDequantizer(), tasks=["train"])
        recipe.add_client_output_filter(ModelQuantizer(quantization_type=quantiser), tasks=["train"])
        recipe.add_server_input_filter(ModelDequantizer(), tasks=["train"])
    recipe.export(folder)
    session = new_secure_session("admin@covey.example", kit, timeout=120)
    session.submit_job(f"{folder}/bench")
    session.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), *sys.argv[5:])
