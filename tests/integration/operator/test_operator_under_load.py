"""The benchmark of the operator, small: its own API server, chain and operators, and figures that can be true."""

from __future__ import annotations

import pytest
from covey_bench.operator import measure
from covey_bench.operator_site import Size

pytestmark = [pytest.mark.apiserver, pytest.mark.chain]


async def test_the_benchmark_measures_what_it_names():
    size = Size(tasks=4, pods=3, sample=2, pace_seconds=0.5, idle_seconds=5)
    figures, details = await measure(size, print)
    found = {figure.name: figure for figure in figures}
    assert found["idle_writes_5s"].value == 0
    assert 0 <= found["started_to_pods_p50_s"].value <= found["apply_to_pods_p99_s"].value
    assert found["apply_to_pods_p50_s"].value > 0
    assert found["rss_peak_mb_4_tasks"].value >= found["rss_mb_4_tasks"].value > 20
    assert found["rss_mb_4_tasks"].goal is None, "goals of the full size are not those of a trial"
    assert found["startup_seconds_4_tasks"].value > 0
    assert found["takeover_seconds"].value > 1, "a Lease lasts for a while"
    parts = details["CPU seconds while the sample came"]
    assert set(parts) == {"operator", "API server, etcd, controllers", "chain", "benchmark"}
    assert all(spent > 0 for spent in parts.values())
    assert sum(parts.values()) <= 1.1 * size.sample * found["sample_cpu_seconds_per_task"].value, "and others work too"
    assert 0 < found["sample_share_of_cores"].value < 1.1
    made = details["requests, loaded"]
    assert made["create pods"] == (size.tasks - size.sample) * size.pods, "each pod is made once"
    assert not any(asked.split()[0] in ("create", "patch", "delete") for asked in details["requests, idle"])
