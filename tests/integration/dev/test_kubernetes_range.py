"""Both ends of the range of Kubernetes that Covey supports: what is tested is what is promised."""

from pathlib import Path

import pytest
import yaml
from covey_dev import golang
from covey_dev.apiserver import ApiServer
from minors import BOTH_ENDS, OLDEST

ROOT = Path(__file__).parents[3]


@pytest.mark.apiserver
@BOTH_ENDS
def test_the_api_server_is_of_the_version_that_is_asked_for(bare_api_server: ApiServer, request: pytest.FixtureRequest):
    oldest = request.node.callspec.params["bare_api_server"] == OLDEST
    version = yaml.safe_load(bare_api_server.kubectl("version", "--output=yaml"))["serverVersion"]["gitVersion"]
    assert version == f"v{golang.OLDEST_KUBERNETES_VERSION if oldest else golang.KUBERNETES_VERSION}"


def test_the_chart_and_the_page_promise_what_is_tested():
    oldest, newest = (
        version.rpartition(".")[0] for version in (golang.OLDEST_KUBERNETES_VERSION, golang.KUBERNETES_VERSION)
    )
    chart = yaml.safe_load((ROOT / "charts/covey/Chart.yaml").read_text())
    assert chart["kubeVersion"] == f">= {oldest}.0-0"
    page = " ".join((ROOT / "docs/how-to/install.md").read_text().split())
    assert f"Kubernetes {oldest} or newer" in page
    assert f"against the API servers of {oldest} and {newest}" in page
