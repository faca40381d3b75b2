"""What the codec's benchmark counts: formulas of peers, framing, and the file that programs read."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from covey_bench import codec, report
from covey_bench.published_codecs import PEERS
from covey_bench.report import Figure
from covey_exchange.codec import CodecSpec, Residual, encode
from covey_exchange.manifest import Manifest, TensorSpec

MANIFEST = Manifest((TensorSpec("w", (4096, 64)),))


@pytest.mark.parametrize(
    ("peer", "ratio"),
    [
        ("topk_int32_fp32", 32),
        ("templar_12bit_index_2bit_value", 146),
        ("flower_fp32", 1),
        ("flare_blockwise8", 4),
        ("flare_float4", 7.1),
    ],
)
def test_peers_are_counted_as_they_publish(peer: str, ratio: float) -> None:
    assert 4 * MANIFEST.parameters / PEERS[peer](MANIFEST, Fraction(1, 64)) == pytest.approx(ratio, rel=0.02)


def test_framing_and_signed_header_count_as_bytes() -> None:
    update = {"w": np.random.default_rng(0).normal(size=(4096, 64)).astype(np.float32)}
    payload = encode(update, Residual(MANIFEST), CodecSpec(), MANIFEST)
    assert 250 < codec.wire_bytes(payload) - len(payload) < 400


def test_encoding_takes_little_memory_beyond_the_update() -> None:
    assert codec.peak("encode", 2**22) < 12


def test_figures_say_whether_their_goal_is_met(tmp_path: Path) -> None:
    figures = [Figure("a", 2, "x", 1), Figure("b", 2, "s", 1, "lower"), Figure("c", 2, "x")]
    found = json.loads(report.write("name", figures, tmp_path).read_text())
    assert [figure["met"] for figure in found["figures"]] == [True, False, None]
    assert found["figures"][0] == {"name": "a", "value": 2, "unit": "x", "goal": 1, "better": "higher", "met": True}
    assert set(found) == {"figures", "host", "commit"}
