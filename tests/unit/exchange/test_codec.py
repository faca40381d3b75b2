"""What the codecs promise: canonical bytes, exact error feedback, and a decoder that trusts nothing."""

from __future__ import annotations

import tracemalloc
from contextlib import suppress
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from covey_exchange.codec import (
    CodecSpec,
    DecodeError,
    InvalidSpec,
    NonCanonical,
    NonFinite,
    NonFiniteUpdate,
    PositionOutOfRange,
    Residual,
    ResidualUnsettled,
    Sparse,
    TrailingBytes,
    WrongLength,
    codec_for,
    decode,
    densify,
    encode,
)
from covey_exchange.codec.layout import MAGIC
from covey_exchange.manifest import Array, Manifest, ManifestError, TensorSpec
from exchange_strategies import manifests, specs, updates
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SITE = "0x00000000000000000000000000000000000000A1"
BIG = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def same(first: dict[str, Array], second: dict[str, Array]) -> bool:
    """Bit for bit."""
    return all(first[name].tobytes() == second[name].tobytes() for name in first)


@st.composite
def encoded(draw: st.DrawFn) -> tuple[CodecSpec, Manifest, bytes]:
    spec, manifest = draw(specs), draw(manifests)
    return spec, manifest, encode(draw(updates(manifest)), Residual(manifest), spec, manifest)


@BIG
@given(st.data())
def test_decoding_gives_what_was_staged(data: st.DataObject) -> None:
    spec, manifest = data.draw(specs), data.draw(manifests)
    residual = Residual(manifest)
    payload = encode(data.draw(updates(manifest)), residual, spec, manifest)
    assert residual.staged is not None
    decoded = decode(payload, spec, manifest, SITE)
    assert same(densify(decoded), densify(residual.staged))
    assert len(payload) <= codec_for(spec, manifest).max_bytes


@BIG
@given(encoded())
def test_an_update_has_one_encoding(case: tuple[CodecSpec, Manifest, bytes]) -> None:
    """Encoding what was decoded gives the same bytes, so whatever decodes to an update is its one encoding."""
    spec, manifest, payload = case
    arrived = memoryview(payload).toreadonly()  # as the exchange gives it
    again, _ = codec_for(spec, manifest).compress(densify(decode(arrived, spec, manifest, SITE)))
    assert again == payload


@BIG
@given(encoded(), st.data())
def test_a_changed_bit_is_refused_or_changes_the_update(
    case: tuple[CodecSpec, Manifest, bytes], data: st.DataObject
) -> None:
    spec, manifest, payload = case
    original = densify(decode(payload, spec, manifest, SITE))
    for bit in data.draw(st.lists(st.integers(0, len(payload) * 8 - 1), min_size=1, max_size=24)):
        changed = bytearray(payload)
        changed[bit // 8] ^= 0x80 >> bit % 8
        try:
            decoded = densify(decode(bytes(changed), spec, manifest, SITE))
        except DecodeError:
            continue
        assert not all(np.array_equal(decoded[name], original[name]) for name in original)


@BIG
@given(encoded(), st.data())
def test_corrupted_bytes_end_in_nothing_but_a_decode_error(
    case: tuple[CodecSpec, Manifest, bytes], data: st.DataObject
) -> None:
    spec, manifest, payload = case
    cut = data.draw(st.integers(0, len(payload)))
    rest = data.draw(st.binary(max_size=64))
    for corrupted in (payload[:cut] + rest, rest, payload[:cut] + rest + payload[cut + len(rest) :]):
        with suppress(DecodeError):
            decode(corrupted, spec, manifest, SITE)


@BIG
@given(st.data(), st.lists(st.booleans(), min_size=1, max_size=4))
def test_nothing_is_lost_to_compression(data: st.DataObject, decisions: list[bool]) -> None:
    """After every round: e = decay * e + delta if discarded, and that minus what was sent if accepted; with momentum
    the same of u = momentum * u + delta, which is zero where something was sent."""
    spec, manifest = data.draw(specs), data.draw(manifests)
    residual = Residual(manifest)
    u = {name: np.zeros_like(value) for name, value in residual.values.items()}
    decay = np.float32(float(spec.feedback.decay))
    for accepted in decisions:
        added = {name: np.clip(v, -1e30, 1e30) for name, v in data.draw(updates(manifest)).items()}
        update = added
        if spec.feedback.momentum is not None:
            m = np.float32(float(spec.momentum))
            added = u = {name: np.asarray(u[name] * m + update[name]) for name in update}
        before = {name: e * decay + added[name] for name, e in residual.values.items()}
        decoded = decode(encode(update, residual, spec, manifest), spec, manifest, SITE)
        sent = densify(decoded)
        assert same(residual.values, before)
        residual.settle(accepted)
        expected = {name: before[name] - sent[name] for name in before} if accepted else before
        assert all(np.array_equal(residual.values[name], expected[name]) for name in expected)
        if residual.momentum is not None and accepted:
            for name, part in decoded.items():
                u[name].reshape(-1)[part.indices if isinstance(part, Sparse) else slice(None)] = 0
        assert residual.momentum is None or same(residual.momentum, u)


def test_exactly_k_of_each_chunk_are_kept_and_they_are_the_largest() -> None:
    manifest = Manifest((TensorSpec("w", (10_000,)),))
    values = np.random.default_rng(0).normal(size=10_000).astype(np.float32)
    spec = CodecSpec()
    part = decode(encode({"w": values}, Residual(manifest), spec, manifest), spec, manifest, SITE)["w"]
    assert isinstance(part, Sparse)
    for start, stop, kept in ((0, 4096, 64), (4096, 8192, 64), (8192, 10_000, 28)):
        inside = part.indices[(part.indices >= start) & (part.indices < stop)]
        largest = np.argsort(-np.abs(values[start:stop]))[:kept] + start
        assert set(inside) == set(largest)


def test_a_sixty_fourth_of_a_large_model_is_199_times_smaller_than_float32() -> None:
    manifest = Manifest((TensorSpec("norm", (63,)), TensorSpec("w", (1024, 1024))))
    rng = np.random.default_rng(1)
    update = {t.name: rng.standard_t(4, size=t.shape).astype(np.float32) for t in manifest}
    payload = encode(update, Residual(manifest), CodecSpec(), manifest)
    assert manifest.parameters * 4 / len(payload) >= 199
    assert manifest.parameters * 4 / codec_for(CodecSpec(), manifest).max_bytes >= 199


def test_two_levels_are_better_than_one() -> None:
    manifest = Manifest((TensorSpec("w", (256, 256)),))
    values = np.random.default_rng(2).laplace(size=(256, 256)).astype(np.float32)
    spec = CodecSpec()
    part = decode(encode({"w": values}, Residual(manifest), spec, manifest), spec, manifest, SITE)["w"]
    assert isinstance(part, Sparse)
    kept = values.reshape(-1)[part.indices]
    error = np.sum((kept - part.values) ** 2) / np.sum(kept**2)
    one_level = np.sum((np.abs(kept) - np.abs(kept).mean()) ** 2) / np.sum(kept**2)
    assert error < one_level / 2


def test_small_tensors_travel_in_half_precision() -> None:
    manifest = Manifest((TensorSpec("bias", (10,)),))
    update = {"bias": np.linspace(-1, 1, 10, dtype=np.float32)}
    decoded = decode(encode(update, Residual(manifest), CodecSpec(), manifest), CodecSpec(), manifest, SITE)
    assert np.array_equal(densify(decoded)["bias"], update["bias"].astype(np.float16))


def sparse_case() -> tuple[CodecSpec, Manifest, bytearray]:
    manifest = Manifest((TensorSpec("a.bias", (5,)), TensorSpec("b.weight", (4096,)), TensorSpec("c.weight", (100,))))
    rng = np.random.default_rng(3)
    update = {t.name: rng.normal(size=t.shape).astype(np.float32) for t in manifest}
    return CodecSpec(), manifest, bytearray(encode(update, Residual(manifest), CodecSpec(), manifest))


def test_every_single_bit_counts() -> None:
    """All bits of one blob in turn, those of the padding included."""
    spec, manifest, payload = sparse_case()
    original = densify(decode(bytes(payload), spec, manifest, SITE))
    for bit in range(len(payload) * 8):
        payload[bit // 8] ^= 0x80 >> bit % 8
        with suppress(DecodeError):
            decoded = densify(decode(bytes(payload), spec, manifest, SITE))
            assert not all(np.array_equal(decoded[name], original[name]) for name in original), bit
        payload[bit // 8] ^= 0x80 >> bit % 8


def floats(*values: float) -> bytes:
    return np.array(values, dtype="<f4").tobytes()


HEAD = len(MAGIC) + 10  # magic and the five half-precision values of a.bias


@pytest.mark.parametrize(
    ("offset", "replacement", "kind", "tensor"),
    [
        (0, b"XXXX", NonCanonical, None),
        (4, np.array([np.nan], "<f2").tobytes(), NonFinite, "a.bias"),
        (6, np.array([-0.0], "<f2").tobytes(), NonCanonical, "a.bias"),
        (HEAD, floats(np.inf), NonFinite, "b.weight"),
        (HEAD, floats(-1.0), NonCanonical, "b.weight"),
        (HEAD, floats(1e-40), NonCanonical, "b.weight"),
        (HEAD, floats(9.0, 8.0), NonCanonical, "b.weight"),
        (HEAD, floats(8.0, 8.0), NonCanonical, "b.weight"),
        (HEAD + 8, floats(1.0, 2.0), NonCanonical, "c.weight"),
    ],
)
def test_what_is_wrong_is_named(offset: int, replacement: bytes, kind: type[DecodeError], tensor: str | None) -> None:
    spec, manifest, payload = sparse_case()
    payload[offset : offset + len(replacement)] = replacement
    with pytest.raises(kind) as error:
        decode(bytes(payload), spec, manifest, SITE)
    assert (error.value.site, error.value.tensor) == (SITE, tensor)
    assert SITE in str(error.value)


def test_short_and_long_payloads_are_refused_before_they_are_read() -> None:
    spec, manifest, payload = sparse_case()
    codec = codec_for(spec, manifest)
    with pytest.raises(WrongLength):
        decode(b"", spec, manifest, SITE)
    with pytest.raises(TrailingBytes):
        decode(bytes(payload).ljust(codec.max_bytes + 1, b"\0"), spec, manifest, SITE)
    with pytest.raises(TrailingBytes):
        decode(bytes(payload) + b"\0", spec, manifest, SITE)
    with pytest.raises(WrongLength) as error:
        decode(bytes(payload[:-1]), spec, manifest, SITE)
    assert error.value.tensor == "b.weight"


@pytest.mark.parametrize("codec", ["SparseLoCo", "DGC"])
@pytest.mark.parametrize("byte", [0x00, 0x01, 0xFF])
def test_hostile_bytes_take_no_more_memory_than_a_good_update(codec: str, byte: int) -> None:
    """About 60 bytes for each kept element and 10 for each of the payload; nothing of the size of the model."""
    manifest = Manifest((TensorSpec("w", (4096, 4096)),))
    spec = CodecSpec(codec, density=Fraction(1, 1000))
    good = encode({"w": np.ones((4096, 4096), np.float32)}, Residual(manifest), spec, manifest)
    longest = codec_for(spec, manifest).max_bytes
    decode(good, spec, manifest, SITE)  # compiles the kernels, once, which is not what is measured
    for payload in (good, bytes([byte]) * longest, good[:4] + bytes([byte]) * (longest - 4), good + bytes([byte])):
        tracemalloc.start()
        with suppress(DecodeError):
            decode(payload, spec, manifest, SITE)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 60 * manifest.parameters / 1000 + 10 * longest < 4 * manifest.parameters / 20


def test_a_position_beyond_its_chunk_is_refused() -> None:
    manifest = Manifest((TensorSpec("w", (128,)),))
    spec = CodecSpec(density=Fraction(1, 64), chunk=64)
    values = np.zeros(128, dtype=np.float32)
    values[[63, 64]] = 1.0
    payload = bytearray(encode({"w": values}, Residual(manifest), spec, manifest))
    # Two gaps, 63 and 0: low parts 31 and 0, unary parts 1 and 0. Adding the zero of the first to the second makes 31
    # and 32 of them; a further one leads out of the chunk.
    assert payload[-1] == 0b01100000
    payload[-1] = 0b00110000
    with pytest.raises(PositionOutOfRange) as error:
        decode(bytes(payload), spec, manifest, SITE)
    assert error.value.tensor == "w"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_local_update_must_be_finite_and_leaves_the_residual_alone(value: float) -> None:
    manifest = Manifest((TensorSpec("w", (100,)),))
    residual = Residual(manifest)
    update = np.ones(100, dtype=np.float32)
    update[7] = value
    with pytest.raises(NonFiniteUpdate) as error:
        encode({"w": update}, residual, CodecSpec(), manifest)
    assert (error.value.tensor, error.value.index) == ("w", 7)
    assert residual.staged is None
    assert not residual.values["w"].any()


@BIG
@given(st.data())
def test_an_update_that_is_given_away_is_encoded_as_one_that_is_lent(data: st.DataObject) -> None:
    spec, manifest = data.draw(specs), data.draw(manifests)
    lent, given_away = Residual(manifest), Residual(manifest)
    for _ in range(3):
        update = data.draw(updates(manifest))
        before = {name: array.copy() for name, array in update.items()}
        payload = encode(update, lent, spec, manifest)
        assert same(update, before)
        assert encode(before, given_away, spec, manifest, owned=True) == payload
        accepted = data.draw(st.booleans())
        lent.settle(accepted)
        given_away.settle(accepted)
        assert same(lent.values, given_away.values)
        assert same(lent.momentum or {}, given_away.momentum or {})
        assert all(given_away.values[tensor.name].shape == tensor.shape for tensor in manifest)


@pytest.mark.parametrize("codec", [CodecSpec(), CodecSpec("DGC", momentum=Fraction(9, 10))])
def test_an_update_that_is_given_away_and_is_not_finite_leaves_the_residual_alone(codec: CodecSpec) -> None:
    manifest = Manifest((TensorSpec("a", (100,)), TensorSpec("b", (5000,))))
    residual = Residual(manifest)
    encode({t.name: np.ones(t.shape, np.float32) for t in manifest}, residual, codec, manifest, owned=True)
    residual.settle(False)
    values = {name: array.copy() for name, array in residual.values.items()}
    momentum = {name: array.copy() for name, array in (residual.momentum or {}).items()}
    update = {t.name: np.ones(t.shape, np.float32) for t in manifest}
    update["b"][4999] = np.inf
    with pytest.raises(NonFiniteUpdate):
        encode(update, residual, codec, manifest, owned=True)
    assert same(residual.values, values)
    assert same(residual.momentum or {}, momentum)


def test_a_local_update_must_fit_the_manifest() -> None:
    manifest = Manifest((TensorSpec("w", (100,)),))
    with pytest.raises(ManifestError):
        encode({"w": np.zeros(99, np.float32)}, Residual(manifest), CodecSpec(), manifest)


def test_an_update_is_settled_before_the_next() -> None:
    manifest = Manifest((TensorSpec("w", (100,)),))
    residual = Residual(manifest)
    update = {"w": np.ones(100, np.float32)}
    encode(update, residual, CodecSpec(), manifest)
    with pytest.raises(ResidualUnsettled):
        encode(update, residual, CodecSpec(), manifest)
    residual.settle(True)
    with pytest.raises(ResidualUnsettled):
        residual.settle(True)


@pytest.mark.parametrize(
    "wrong",
    [{"codec": "Zip"}, {"density": Fraction(0)}, {"density": Fraction(3, 2)}, {"value_bits": 4}, {"chunk": 0}],
)
def test_a_spec_out_of_range_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidSpec):
        CodecSpec(**wrong)


def test_specs_have_different_digests() -> None:
    several = [CodecSpec(), CodecSpec(density=Fraction(1, 32)), CodecSpec(chunk=64), CodecSpec("Dense", value_bits=32)]
    assert len({spec.digest for spec in several}) == 4
