"""Ratios with their goals, and the seconds and bytes that they come from."""

from __future__ import annotations

from collections.abc import Mapping

from covey_bench import cpu
from covey_bench.peers.trial import Rounds
from covey_bench.report import Figure

Results = dict[tuple[str, str], Rounds]  # by system and network

# Name of the figure: peer, what of Covey, network, goal.
SPEEDUPS: Mapping[str, tuple[str, str, str, float]] = {
    "speedup_over_flower_100mbit": ("flower", "covey", "100mbit", 40),
    "speedup_over_flare_100mbit": ("flare", "covey", "100mbit", 30),
    "speedup_over_flare_4bit_100mbit": ("flare_4bit", "covey", "100mbit", 10),
    "speedup_over_flower_veth": ("flower", "covey", "veth", 20),
    "speedup_over_flare_veth": ("flare", "covey", "veth", 8),
    "dense_over_flare_100mbit": ("flare", "covey_dense", "100mbit", 1),
}
BYTES = {"bytes_ratio_flower": "flower", "bytes_ratio_flare": "flare"}


def figures(results: Results) -> list[Figure]:
    """All figures whose systems have been measured: first how many times Covey's rounds go into the peers'."""
    found = []
    for name, (peer, ours, network, goal) in SPEEDUPS.items():
        if (peer, network) in results and (ours, network) in results:
            ratio = results[peer, network].median_seconds / results[ours, network].median_seconds
            found.append(Figure(name, ratio, "x", goal))
    for name, peer in BYTES.items():
        if (peer, "100mbit") in results and ("covey", "100mbit") in results:
            ratio = results[peer, "100mbit"].moved_bytes / results["covey", "100mbit"].moved_bytes
            found.append(Figure(name, ratio, "x"))
    for (system, network), rounds in results.items():
        label = f"{system}_{network}"
        found += [
            Figure(f"{label}_seconds", rounds.median_seconds, "s", None, "lower"),
            Figure(f"{label}_seconds_fastest", min(rounds.seconds), "s", None, "lower"),
            Figure(f"{label}_seconds_slowest", max(rounds.seconds), "s", None, "lower"),
            Figure(f"{label}_megabytes_sent_a_site", rounds.sent_bytes / 1e6, "MB", None, "lower"),
            Figure(f"{label}_megabytes_received_a_site", rounds.received_bytes / 1e6, "MB", None, "lower"),
            Figure(f"{label}_cpu_seconds", rounds.busy_seconds, "s", None, "lower"),
            Figure(f"{label}_share_of_cores", rounds.busy_share(cpu.cores()), "", None, "lower"),
        ]
    return found
