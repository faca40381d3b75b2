"""Versions that are stamped into programs are those of the sources that they are built from."""

import re

import pytest
from covey_dev import golang, paths


@pytest.mark.parametrize(
    ("folder", "module", "version"),
    [
        ("kube", "k8s.io/kubernetes", golang.KUBERNETES_VERSION),
        ("kube", "helm.sh/helm/v4", golang.HELM_VERSION),
        ("kube-oldest", "k8s.io/kubernetes", golang.OLDEST_KUBERNETES_VERSION),
    ],
)
def test_a_stamp_is_the_version_that_is_pinned(folder, module, version):
    pinned = re.findall(rf"^\s*{re.escape(module)} v(\S+)", (paths.DEV / folder / "go.mod").read_text(), re.M)
    assert pinned == [version]
