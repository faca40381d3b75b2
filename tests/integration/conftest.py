"""One real API server for the integration tests of a run, and Covey's definitions in it.

It is of the newest Kubernetes; tests marked with `minors.BOTH_ENDS` run once more with one of the oldest.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from covey_dev.apiserver import ApiServer
from minors import OLDEST

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def bare_api_server(request: pytest.FixtureRequest) -> Iterator[ApiServer]:
    """An API server that knows nothing of Covey, and logs every request."""
    with ApiServer(audit=True, oldest=getattr(request, "param", None) == OLDEST) as server:
        yield server


@pytest.fixture(scope="session")
def api_server(bare_api_server: ApiServer) -> ApiServer:
    """An API server with Covey's CustomResourceDefinitions established."""
    definitions = [f"--filename={path}" for path in sorted((REPOSITORY / "crds").glob("covey.dev_*.yaml"))]
    bare_api_server.kubectl("apply", "--server-side", *definitions)
    bare_api_server.kubectl("wait", "--for=condition=Established", "--timeout=30s", *definitions)
    return bare_api_server
