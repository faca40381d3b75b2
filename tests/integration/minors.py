"""The minor versions of Kubernetes that tests run against."""

import pytest

OLDEST = "oldest"

# For tests that must hold on both ends of the supported range. `None` is the API server of all other tests.
BOTH_ENDS = pytest.mark.parametrize("bare_api_server", [None, OLDEST], ids=["newest", OLDEST], indirect=True)
