"""Every site computes the same next model, to the last bit."""

from __future__ import annotations

import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from covey_exchange import patch
from covey_exchange.codec import CodecSpec, DecodeError, Residual, decode, densify, encode
from covey_exchange.manifest import Array, Manifest, TensorSpec, model_digest
from covey_exchange.merge import Clip, RoundMerge, norm
from hypothesis import given, settings
from hypothesis import strategies as st

MANIFEST = Manifest((TensorSpec("bias", (7,)), TensorSpec("weight", (90, 100))))
SPEC = CodecSpec()


def tensors(seed: int, scale: float = 1.0) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    return {t.name: (rng.normal(size=t.shape) * scale).astype(np.float32) for t in MANIFEST}


def payload(seed: int, scale: float = 1.0, spec: CodecSpec = SPEC) -> bytes:
    return encode(tensors(seed, scale), Residual(MANIFEST), spec, MANIFEST)


def merged(count: int, spec: CodecSpec = SPEC, clip: Clip = Clip.MEDIAN_NORM) -> RoundMerge:
    payloads = [(f"site{i}", payload(i + 1, 10.0**i, spec)) for i in range(count)]
    return RoundMerge.of_payloads(tensors(0), payloads, spec, 0.7, clip)


@given(st.permutations(range(4)))
@settings(max_examples=10, deadline=None)
def test_the_order_of_arrival_changes_nothing(arrival: list[int]) -> None:
    arrived = {f"site{i}": payload(i + 1, 10.0**i) for i in arrival}
    certificate = [f"site{i}" for i in range(4)]
    merge = RoundMerge.of_payloads(
        tensors(0), [(site, arrived[site]) for site in certificate], SPEC, 0.7, Clip.MEDIAN_NORM
    )
    assert model_digest(merge.candidate()) == model_digest(merged(4).candidate())


def test_another_process_with_other_threads_computes_the_same_bits() -> None:
    program = (
        "from test_merge import Clip, merged, model_digest;"
        "m, u = merged(5), merged(5, clip=Clip.NONE);"
        "print(*(model_digest(x).hex() for x in (m.candidate(), m.without('site2'), u.candidate())))"
    )
    root = Path(__file__).parents[3]
    path = os.pathsep.join([str(Path(__file__).parent), str(root / "trainer_image"), str(root / "contracts")])
    prints = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONPATH": path, "NPY_DISABLE_CPU_FEATURES": features, "OMP_NUM_THREADS": threads},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for features, threads in (("", "1"), ("AVX2 FMA3", "2"), ("AVX512F AVX512CD AVX512_SKX", "7"))
    }
    here = merged(5)
    digests = (here.candidate(), here.without("site2"), merged(5, clip=Clip.NONE).candidate())
    assert prints == {" ".join(model_digest(model).hex() for model in digests) + "\n"}


@pytest.mark.parametrize("spec", [SPEC, CodecSpec("Dense", value_bits=32)])
def test_the_candidate_is_the_base_minus_the_clipped_mean(spec: CodecSpec) -> None:
    base = tensors(0)
    decoded = [densify(decode(payload(i + 1, 10.0**i, spec), spec, MANIFEST, "s")) for i in range(3)]
    norms = [np.sqrt(sum(np.sum(v.astype(np.float64) ** 2) for v in update.values())) for update in decoded]
    clipped = [
        {k: v * min(1.0, np.median(norms) / n) for k, v in u.items()} for u, n in zip(decoded, norms, strict=True)
    ]
    candidate = merged(3, spec).candidate()
    for name in base:
        expected = base[name] - 0.7 * sum(update[name] for update in clipped) / 3
        np.testing.assert_allclose(candidate[name], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("spec", [SPEC, CodecSpec("Dense", value_bits=32)])
def test_without_clipping_the_updates_count_as_they_are_sent(spec: CodecSpec) -> None:
    base = tensors(0)
    decoded = [densify(decode(payload(i + 1, 10.0**i, spec), spec, MANIFEST, "s")) for i in range(3)]
    merge = merged(3, spec, Clip.NONE)
    candidate, others = merge.candidate(), merge.without("site2")
    for name in base:
        total = np.zeros_like(base[name])
        for update in decoded:
            total += update[name]
        assert np.array_equal(candidate[name], base[name] - total / np.float32(3) * np.float32(0.7))
        pair = decoded[0][name] + decoded[1][name]
        assert np.array_equal(others[name], base[name] - pair / np.float32(3) * np.float32(0.7))
    assert set(merge.keep_fractions.values()) == {1.0}
    assert model_digest(candidate) != model_digest(merged(3, spec).candidate())


def test_no_site_weighs_more_than_the_median() -> None:
    merge = merged(5)
    norms = sorted(merge.norms.values())
    clipped = {site: merge.norms[site] * merge.keep_fractions[site] for site in merge.sites}
    assert max(clipped.values()) == pytest.approx(norms[2])
    assert merge.keep_fractions["site0"] == 1.0
    assert merge.keep_fractions["site4"] < 1.0


@pytest.mark.parametrize(
    "spec", [SPEC, CodecSpec("DGC", density=Fraction(1, 50)), CodecSpec("Dense", value_bits=32)], ids=lambda s: s.codec
)
@pytest.mark.parametrize("count", [1, 2, 4])
def test_a_model_without_one_site_is_the_candidate_with_a_patch(spec: CodecSpec, count: int) -> None:
    merge = merged(count, spec)
    candidate = merge.candidate()
    for site in merge.sites:
        expected, made = merge.without(site), patch.apply(candidate, patch.of_parts(merge.difference_without(site)))
        assert model_digest(made) == model_digest(expected)
        for name in expected:
            assert made[name].tobytes() == expected[name].tobytes()
    assert model_digest(candidate) == model_digest(merge.candidate()), "the candidate stays as it was"
    with pytest.raises(KeyError, match="nobody"):
        merge.difference_without("nobody")


def test_leaving_one_out_takes_away_what_it_contributed_and_nothing_else() -> None:
    merge = merged(3)
    bounded = [site for site in merge.sites if site != "site1"]
    others = {
        site: {k: v * np.float32(merge.keep_fractions[site]) for k, v in densify(part).items()}
        for site, part in ((s, decode(payload(int(s[-1]) + 1, 10.0 ** int(s[-1])), SPEC, MANIFEST, s)) for s in bounded)
    }
    base = tensors(0)
    for name, value in merge.without("site1").items():
        total = others["site0"][name] + others["site2"][name]
        assert np.array_equal(value, base[name] - total / np.float32(3) * np.float32(0.7))


def test_without_the_only_update_the_base_remains() -> None:
    merge = merged(1)
    assert model_digest(merge.without("site0")) == model_digest(tensors(0))
    with pytest.raises(KeyError):
        merge.without("site9")


def test_leaving_out_an_update_of_zeros_makes_no_difference() -> None:
    blob = encode({t.name: np.zeros(t.shape, np.float32) for t in MANIFEST}, Residual(MANIFEST), SPEC, MANIFEST)
    payloads = [("busy", payload(1)), ("idle", blob), ("keen", payload(2))]
    merge = RoundMerge.of_payloads(tensors(0), payloads, SPEC, 0.7, Clip.MEDIAN_NORM)
    assert model_digest(merge.without("idle")) == model_digest(merge.candidate())


def test_an_update_of_zeros_moves_nothing() -> None:
    zeros = {t.name: np.zeros(t.shape, np.float32) for t in MANIFEST}
    blob = encode(zeros, Residual(MANIFEST), SPEC, MANIFEST)
    merge = RoundMerge.of_payloads(tensors(0), [("a", blob), ("b", blob)], SPEC, 0.7, Clip.MEDIAN_NORM)
    assert model_digest(merge.candidate()) == model_digest(tensors(0))


def test_the_norm_is_in_float64() -> None:
    assert norm({"w": np.full(10_000, 1e30, dtype=np.float32)}) == pytest.approx(1e32)


def test_a_payload_that_is_no_update_names_its_site() -> None:
    with pytest.raises(DecodeError) as error:
        RoundMerge.of_payloads(tensors(0), [("good", payload(1)), ("bad", b"noise")], SPEC, 0.7, Clip.MEDIAN_NORM)
    assert error.value.site == "bad"


def test_the_parts_of_all_sites_add_up_to_the_step() -> None:
    merge, base = merged(4), tensors(0)
    step = {name: base[name] - value for name, value in merge.candidate().items()}
    total = {name: np.sum([densify(part)[name] for part in merge.parts().values()], axis=0) for name in step}
    for name, value in step.items():
        np.testing.assert_allclose(total[name], value, atol=1e-6)
    assert list(merge.parts()) == merge.sites


def test_a_site_that_may_have_several_medians_is_clipped_to_as_many() -> None:
    payloads = [(f"site{i}", payload(i + 1, 10.0**i)) for i in range(3)]
    merge = RoundMerge.of_payloads(tensors(0), payloads, SPEC, 0.7, Clip.MEDIAN_NORM, {"site2": 3})
    middle = merge.norms["site1"]
    assert merge.keep_fractions["site2"] == pytest.approx(3 * middle / merge.norms["site2"])
    assert merge.keep_fractions["site0"] == merge.keep_fractions["site1"] == 1
    weight = norm(merge.parts()["site2"]) / norm(merge.parts()["site1"])
    assert weight == pytest.approx(3, rel=1e-5)
