"""`ray start` with a flag that Ray 2.60 does not hand on: `python -m covey_trainer.ray_node start …`.

The raylet gives its dashboard agent 15 seconds to write down the port that it listens on, and dies if it does not
(ray-project/ray, issue 65983). On a busy node the agent takes longer to import. The raylet need not wait for a port
that it is told, but `ray start` tells it only the agent's other ports.
"""

from __future__ import annotations

from typing import Any

from ray._private import ray_constants, services
from ray.scripts.scripts import main as ray

from covey_trainer.settings import DASHBOARD_AGENT_PORT


def tell_raylet_the_agents_port() -> None:
    """Have every raylet of this process started with `--dashboard_agent_listen_port`."""
    start = services.start_ray_process

    def start_with_port(command: list[str], process_type: str, *rest: Any, **options: Any) -> Any:  # noqa: ANN401
        if process_type == ray_constants.PROCESS_TYPE_RAYLET:
            command = [*command, f"--dashboard_agent_listen_port={DASHBOARD_AGENT_PORT}"]
        return start(command, process_type, *rest, **options)

    services.start_ray_process = start_with_port


if __name__ == "__main__":
    tell_raylet_the_agents_port()
    ray()  # type: ignore[no-untyped-call]
