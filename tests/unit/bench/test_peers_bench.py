"""What the comparison with peers makes of marks and counters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from covey_bench.peers import payload
from covey_bench.peers.figures import figures
from covey_bench.peers.trial import Rounds, Sample, begins, rounds_of
from covey_exchange.manifest import Manifest


def test_the_payload_is_a_model_of_97_megabytes() -> None:
    assert 4 * payload.parameters() == pytest.approx(96.8e6, rel=0.001)
    first, again, other = payload.delta(0), payload.delta(0), payload.delta(1)
    assert Manifest.from_arrays(first) == Manifest.from_arrays(payload.initial())
    name = "2.weight"
    assert np.array_equal(first[name], again[name])
    assert not np.array_equal(first[name], other[name])
    assert np.count_nonzero(first[name]) > 0.999 * first[name].size


def test_a_peer_trains_by_adding_what_its_site_adds_in_covey(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payload, "WIDTHS", (5, 3, 2))
    payload.keep_deltas(tmp_path, 2)
    for variable, value in ((payload.SITE, "1"), (payload.DELTAS, str(tmp_path)), (payload.MARKS, str(tmp_path))):
        monkeypatch.setenv(variable, value)
    base = payload.initial()
    moved = payload.Trainer().train(base, 3)
    assert moved.keys() == base.keys()
    for name, value in payload.delta(1).items():
        np.testing.assert_array_equal(moved[name], base[name] - value)
    assert (tmp_path / "1").read_text().startswith("3 ")


def test_a_round_lasts_from_the_last_site_to_the_last_site(tmp_path: Path) -> None:
    marks = {0: [10, 21, 30, 45], 1: [11, 20, 31, 41], 2: [9, 19, 33]}
    for site, times in marks.items():
        (tmp_path / str(site)).write_text("".join(f"{n} {t}\n" for n, t in enumerate(times, start=1)))
    assert begins(tmp_path, 4) == [11, 21, 33], "site 2 has not begun its fourth round"


def test_warm_up_counts_neither_as_time_nor_as_bytes() -> None:
    """Place 0 is the server. 1 MB a second leaves site 1, 2 MB arrive; nothing moves at site 2. 1.5 cores work."""
    samples = [Sample(t, 1.5 * t, [(9 * t, 9 * t), (10**6 * t, 2 * 10**6 * t), (0, 0)]) for t in range(0, 101, 5)]
    found = rounds_of([3, 20, 31, 41, 53], samples, sites=(1, 2))
    assert found.seconds == [10, 12]
    assert found.median_seconds == 11
    assert found.sent_bytes == pytest.approx(11e6 / 2)
    assert found.received_bytes == pytest.approx(22e6 / 2)
    assert found.busy_seconds == pytest.approx(1.5 * 11)
    assert found.busy_share(2) == pytest.approx(0.75)


def test_ratios_say_how_many_rounds_of_covey_go_into_one() -> None:
    results = {
        ("covey", "100mbit"): Rounds([0.5, 0.6, 0.7], 1e6, 1e6, 1.0),
        ("flower", "100mbit"): Rounds([30.0, 27.0, 33.0], 99e6, 101e6, 1.0),
        ("flare", "100mbit"): Rounds([15.0], 99e6, 101e6, 1.0),
        ("covey_dense", "100mbit"): Rounds([20.0], 194e6, 194e6, 1.0),
    }
    found = {figure.name: figure for figure in figures(results)}
    assert found["speedup_over_flower_100mbit"].value == pytest.approx(50)
    assert found["speedup_over_flower_100mbit"].met
    assert found["speedup_over_flare_100mbit"].met is False
    assert found["dense_over_flare_100mbit"].value == pytest.approx(0.75)
    assert found["bytes_ratio_flower"].value == pytest.approx(100)
    assert found["flower_100mbit_seconds"].value == 30
    assert "speedup_over_flower_veth" not in found, "what was not measured has no figure"
