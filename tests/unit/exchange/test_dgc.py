"""Deep Gradient Compression of pseudo-gradients: Lin et al. 2018, with what was sent settled only when it counted."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from covey_exchange.codec import (
    CodecSpec,
    DecodeError,
    Feedback,
    InvalidSpec,
    NonCanonical,
    NonFiniteUpdate,
    PositionOutOfRange,
    Residual,
    ResidualCorrupt,
    Sparse,
    codec_for,
    decode,
    densify,
    encode,
    max_bytes,
)
from covey_exchange.codec.dgc import MAGIC
from covey_exchange.manifest import Array, Manifest, TensorSpec
from hypothesis import given
from hypothesis import strategies as st

SITE = "0x00000000000000000000000000000000000000A1"
MANIFEST = Manifest((TensorSpec("a", (100, 100)), TensorSpec("bias", (10,)), TensorSpec("c", (70, 100))))
SPEC = CodecSpec("DGC", Fraction(1, 1000), momentum=Fraction(9, 10))


def update(seed: int, scale: float = 1.0) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    return {t.name: (rng.normal(size=t.shape) * scale).astype(np.float32) for t in MANIFEST}


def test_the_largest_of_the_whole_model_are_kept() -> None:
    values = update(0)
    values["c"] *= 3
    decoded = decode(encode(values, Residual(MANIFEST), SPEC, MANIFEST), SPEC, MANIFEST, SITE)
    parts = {name: part for name, part in decoded.items() if isinstance(part, Sparse)}
    assert sum(part.indices.size for part in parts.values()) == 17  # of 17,000
    smallest = min(np.abs(values[name].reshape(-1)[part.indices]).min(initial=np.inf) for name, part in parts.items())
    for name, part in parts.items():
        rest = np.delete(np.abs(values[name].reshape(-1)), part.indices)
        assert rest.max() <= smallest
    assert np.array_equal(densify(decoded)["bias"], values["bias"].astype(np.float16))


def test_a_thousandth_of_a_large_model_is_2000_times_smaller_than_float32() -> None:
    manifest = Manifest((TensorSpec("norm", (63,)), TensorSpec("w", (1024, 1024)), TensorSpec("v", (64, 64))))
    rng = np.random.default_rng(1)
    values = {t.name: rng.standard_t(4, size=t.shape).astype(np.float32) for t in manifest}
    payload = encode(values, Residual(manifest), SPEC, manifest)
    assert manifest.parameters * 4 / len(payload) >= 2000


def test_momentum_correction_sends_what_momentum_would_have_done() -> None:
    """With everything kept at full density, the sums sent are those of momentum SGD without compression."""
    spec = CodecSpec("DGC", Fraction(1), decay=Fraction(1), momentum=Fraction(1, 2))
    residual = Residual(MANIFEST)
    u = {t.name: np.zeros(t.shape, np.float32) for t in MANIFEST}
    total = {t.name: np.zeros(t.shape, np.float32) for t in MANIFEST}
    for seed in range(3):
        delta = update(seed)
        u = {name: u[name] * np.float32(0.5) + delta[name] for name in u}
        total = {name: total[name] + u[name] for name in u}
        encode(delta, residual, spec, MANIFEST)
        residual.settle(accepted=False)
    assert all(np.allclose(residual.values[name], total[name], atol=1e-5) for name in total)


@pytest.mark.parametrize("decay", [Fraction(1), Fraction(1, 2)])
def test_what_was_not_sent_fades_by_the_task_s_decay(decay: Fraction) -> None:
    spec = CodecSpec("DGC", Fraction(1, 1000), decay=decay)
    nothing = {t.name: np.zeros(t.shape, np.float32) for t in MANIFEST}
    residual = Residual(MANIFEST)
    encode(update(0), residual, spec, MANIFEST)
    residual.settle(accepted=True)
    before = {name: value.copy() for name, value in residual.values.items()}
    residual.absorb(nothing, spec.feedback)
    assert all(np.array_equal(residual.values[name], before[name] * np.float32(decay)) for name in before)


def test_without_momentum_there_is_no_second_state() -> None:
    """And the error feedback has the same bits as with a u that is forgotten at once."""
    one, other = Residual(MANIFEST), Residual(MANIFEST)
    for seed in range(3):
        one.absorb(update(seed), CodecSpec("DGC").feedback)
        other.absorb(update(seed), Feedback(momentum=Fraction(0)))
        assert one.momentum is None
        assert all(one.values[name].tobytes() == other.values[name].tobytes() for name in one.values)


@pytest.mark.parametrize("accepted", [True, False])
def test_momentum_is_masked_where_something_was_sent_and_counted(accepted: bool) -> None:
    residual = Residual(MANIFEST)
    encode(update(0), residual, SPEC, MANIFEST)
    assert residual.momentum is not None
    assert residual.staged is not None
    before = {name: value.copy() for name, value in residual.momentum.items()}
    sent = residual.staged
    residual.settle(accepted)
    for name, part in sent.items():
        u, old = residual.momentum[name].reshape(-1), before[name].reshape(-1)
        masked = np.zeros(u.size, bool)
        masked[part.indices if isinstance(part, Sparse) else slice(None)] = accepted
        assert not u[masked].any()
        assert np.array_equal(u[~masked], old[~masked])


@pytest.mark.parametrize("accepted", [True, False])
def test_a_restart_in_the_middle_of_a_round_keeps_the_momentum(tmp_path: Path, accepted: bool) -> None:
    residual = Residual(MANIFEST)
    encode(update(0), residual, SPEC, MANIFEST)
    residual.save(tmp_path / "e")
    restarted = Residual.load(tmp_path / "e", MANIFEST)
    for one in (residual, restarted):
        one.settle(accepted)
    assert encode(update(1), residual, SPEC, MANIFEST) == encode(update(1), restarted, SPEC, MANIFEST)
    assert residual.momentum is not None
    assert restarted.momentum is not None
    assert all(np.array_equal(residual.momentum[name], restarted.momentum[name]) for name in residual.momentum)


def test_a_late_update_goes_into_the_momentum_too(tmp_path: Path) -> None:
    late, sent = Residual(MANIFEST), Residual(MANIFEST)
    late.absorb(update(0), SPEC.feedback)
    encode(update(0), sent, SPEC, MANIFEST)
    sent.settle(accepted=False)
    assert encode(update(1), late, SPEC, MANIFEST) == encode(update(1), sent, SPEC, MANIFEST)


def test_a_local_update_is_clipped_to_its_norm() -> None:
    clipped = CodecSpec("DGC", max_norm=Fraction(2))
    for scale in (1e-3, 1.0, 1e30):
        residual = Residual(MANIFEST)
        residual.absorb(update(0, scale), clipped.feedback)
        length = np.sqrt(sum(float((e.astype(np.float64) ** 2).sum()) for e in residual.values.values()))
        expected = np.sqrt(sum(float((e.astype(np.float64) ** 2).sum()) for e in update(0, scale).values()))
        assert length == pytest.approx(min(2, expected), rel=1e-5)


@pytest.mark.parametrize("spec", [SPEC, CodecSpec("DGC", max_norm=Fraction(2))])
def test_an_infinite_value_is_named_and_changes_nothing(spec: CodecSpec) -> None:
    residual = Residual(MANIFEST)
    encode(update(0), residual, spec, MANIFEST)
    residual.settle(accepted=True)
    before = {name: value.copy() for name, value in (residual.momentum or {}).items()}
    values = {name: value.copy() for name, value in residual.values.items()}
    bad = update(1)
    bad["c"][1, 2] = np.inf
    with pytest.raises(NonFiniteUpdate) as error:
        encode(bad, residual, spec, MANIFEST)
    assert (error.value.tensor, error.value.index) == ("c", 102)
    assert all(np.array_equal((residual.momentum or {})[name], before[name]) for name in before)
    assert all(np.array_equal(residual.values[name], values[name]) for name in values)


def test_the_momentum_is_part_of_a_saved_residual(tmp_path: Path) -> None:
    residual = Residual(MANIFEST)
    residual.absorb(update(0), SPEC.feedback)
    residual.momentum = {"a": residual.values["a"]}
    residual.save(tmp_path / "e")
    with pytest.raises(ResidualCorrupt, match="incomplete"):
        Residual.load(tmp_path / "e", MANIFEST)


# --- warm-up ----------------------------------------------------------------------------------------------------------


def test_the_warm_up_is_that_of_the_paper() -> None:
    """75 %, 93.75 %, 98.4375 %, 99.6 % and 99.9 % sparsity (Lin et al. 2018, section 3.3)."""
    spec = CodecSpec("DGC", Fraction(1, 1000), warmup_rounds=4)
    densities = [float(spec.at_round(number).density) for number in (1, 2, 3, 4, 5, 6, 1000)]
    assert densities == pytest.approx([0.251, 0.0631, 0.01585, 0.00398, 0.001, 0.001, 0.001], rel=0.01)


@given(st.fractions(Fraction(1, 10**6), 1), st.integers(0, 100), st.integers(1, 120))
def test_the_density_of_a_round_is_exact_and_falls(density: Fraction, warmup: int, number: int) -> None:
    spec = CodecSpec("DGC", density, warmup_rounds=warmup)
    now = spec.at_round(number)
    assert now.at_round(number) == now
    assert density <= now.density + Fraction(1, 2**40)
    assert now.density <= 1
    assert float(now.density) == pytest.approx(float(density) ** min(1, number / (warmup + 1)), rel=1e-5)
    assert spec.at_round(number + 1).density <= now.density


def test_no_update_of_the_warm_up_is_longer_than_a_task_allows() -> None:
    spec = CodecSpec("DGC", Fraction(1, 1000), warmup_rounds=3)
    lengths = [len(encode(update(0), Residual(MANIFEST), spec.at_round(r), MANIFEST)) for r in range(1, 6)]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[3] == lengths[4] < lengths[0] / 20
    assert lengths[0] <= max_bytes(spec, MANIFEST)


def test_an_update_of_another_round_of_the_warm_up_is_refused() -> None:
    spec = CodecSpec("DGC", Fraction(1, 1000), warmup_rounds=3)
    payload = encode(update(0), Residual(MANIFEST), spec.at_round(1), MANIFEST)
    with pytest.raises(DecodeError, match=SITE):
        decode(payload, spec.at_round(2), MANIFEST, SITE)


# --- what a decoder refuses -------------------------------------------------------------------------------------------


def test_a_codebook_that_is_not_the_encoders_is_refused() -> None:
    payload = bytearray(encode(update(0), Residual(MANIFEST), SPEC, MANIFEST))
    book = len(MAGIC) + 20
    payload[book : book + 8] = np.array([2.0, 1.0], "<f4").tobytes()
    with pytest.raises(NonCanonical):
        decode(bytes(payload), SPEC, MANIFEST, SITE)


def test_a_position_beyond_the_model_is_refused() -> None:
    manifest = Manifest((TensorSpec("w", (128,)),))
    spec = CodecSpec("DGC", Fraction(1, 64))
    values = np.zeros(128, dtype=np.float32)
    values[[100, 127]] = 1.0
    payload = bytearray(encode({"w": values}, Residual(manifest), spec, manifest))
    # Gaps 100 and 26, low parts of 5 bits: 00100 11010; unary 0001 1. One zero more for the second: 127 becomes 159.
    assert payload[-1] == 0b00011000
    payload[-1] = 0b00010100
    with pytest.raises(PositionOutOfRange) as error:
        decode(bytes(payload), spec, manifest, SITE)
    assert error.value.tensor == "w"


def test_a_model_of_small_tensors_alone_has_no_codebook() -> None:
    manifest = Manifest((TensorSpec("a", (3,)), TensorSpec("b", ())))
    values = {"a": np.array([1, 2, 3], np.float32), "b": np.array(4, np.float32)}
    payload = encode(values, Residual(manifest), SPEC, manifest)
    assert len(payload) == len(MAGIC) + 8 == codec_for(SPEC, manifest).max_bytes
    assert densify(decode(payload, SPEC, manifest, SITE))["b"] == 4


@pytest.mark.parametrize(
    "wrong",
    [
        {"decay": Fraction(0)},
        {"decay": Fraction(3, 2)},
        {"momentum": Fraction(1)},
        {"momentum": Fraction(-1, 2)},
        {"max_norm": Fraction(0)},
        {"warmup_rounds": 101},
        {"warmup_rounds": -1},
        {"codec": "SparseLoCo", "momentum": Fraction(1, 2)},
        {"codec": "SparseLoCo", "decay": Fraction(1)},
        {"codec": "Dense", "value_bits": 32, "warmup_rounds": 1},
        {"codec": "Dense", "value_bits": 4},
    ],
)
def test_a_spec_out_of_range_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidSpec):
        CodecSpec(**{"codec": "DGC", **wrong})  # type: ignore[arg-type]
