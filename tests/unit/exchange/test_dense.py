"""Codecs that send every value: with 32, 16 or 8 bits."""

from __future__ import annotations

import numpy as np
import pytest
from covey_exchange.codec import (
    CodecSpec,
    DecodeError,
    NonCanonical,
    NonFinite,
    Residual,
    TrailingBytes,
    WrongLength,
    decode,
    densify,
    encode,
)
from covey_exchange.codec.int8 import MAGIC
from covey_exchange.manifest import Manifest, TensorSpec

SITE = "0x00000000000000000000000000000000000000A1"
MANIFEST = Manifest((TensorSpec("bias", (10,)), TensorSpec("weight", (5000,))))
INT8 = CodecSpec("Dense", value_bits=8)
HALF = CodecSpec("Dense", value_bits=16)


def update() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    weight = rng.normal(size=5000).astype(np.float32)
    weight[4096:] *= 1000  # the second chunk has a scale of its own
    return {"bias": rng.normal(size=10).astype(np.float32), "weight": weight}


@pytest.mark.parametrize(("spec", "error"), [(HALF, 2**-11), (INT8, 1 / 254)])
def test_the_error_is_that_of_the_bits_and_stays_at_the_site(spec: CodecSpec, error: float) -> None:
    residual, values = Residual(MANIFEST), update()
    sent = densify(decode(encode(values, residual, spec, MANIFEST), spec, MANIFEST, SITE))
    residual.settle(accepted=True)
    for chunk in (slice(0, 4096), slice(4096, None)):
        original, got = values["weight"][chunk], sent["weight"][chunk]
        assert np.abs(original - got).max() <= error * np.abs(original).max() * 1.001
    assert np.array_equal(residual.values["weight"], values["weight"] - sent["weight"])


@pytest.mark.parametrize(("spec", "ratio"), [(HALF, 2), (INT8, 3.97)])
def test_ratio_to_float32(spec: CodecSpec, ratio: float) -> None:
    payload = encode(update(), Residual(MANIFEST), spec, MANIFEST)
    assert 4 * MANIFEST.parameters / len(payload) == pytest.approx(ratio, rel=0.01)


@pytest.mark.parametrize("spec", [HALF, INT8])
@pytest.mark.parametrize("value", [3.4028235e38, 1e-45, -1e-40, 1.5e-36, -0.0])
def test_extreme_values_have_one_encoding_too(spec: CodecSpec, value: float) -> None:
    values = {"bias": np.full(10, value, np.float32), "weight": np.full(5000, value, np.float32)}
    payload = encode(values, Residual(MANIFEST), spec, MANIFEST)
    decoded = densify(decode(payload, spec, MANIFEST, SITE))
    assert np.isfinite(decoded["weight"]).all()
    assert encode(decoded, Residual(MANIFEST), spec, MANIFEST) == payload


SCALES = len(MAGIC) + 20
VALUES = SCALES + 8


@pytest.mark.parametrize(
    ("offset", "replacement", "kind", "tensor"),
    [
        (0, b"XXXX", NonCanonical, None),
        (4, np.array([np.inf], "<f2").tobytes(), NonFinite, "bias"),
        (SCALES, np.array([np.nan], "<f4").tobytes(), NonFinite, "weight"),
        (SCALES, np.array([-1.0], "<f4").tobytes(), NonCanonical, "weight"),
        (SCALES, np.array([-0.0], "<f4").tobytes(), NonCanonical, "weight"),
        (SCALES, np.array([0.0], "<f4").tobytes(), NonCanonical, "weight"),
        (SCALES, np.array([1 / 3], "<f4").tobytes(), NonCanonical, "weight"),
        (SCALES, np.array([3e38], "<f4").tobytes(), NonCanonical, "weight"),
        (VALUES, bytes(4096), NonCanonical, "weight"),
        (VALUES, b"\x80", NonCanonical, "weight"),
    ],
)
def test_what_is_wrong_is_named(offset: int, replacement: bytes, kind: type[DecodeError], tensor: str | None) -> None:
    payload = bytearray(encode(update(), Residual(MANIFEST), INT8, MANIFEST))
    payload[offset : offset + len(replacement)] = replacement
    with pytest.raises(kind) as error:
        decode(bytes(payload), INT8, MANIFEST, SITE)
    assert (error.value.site, error.value.tensor) == (SITE, tensor)


@pytest.mark.parametrize("spec", [HALF, INT8])
def test_there_is_one_length(spec: CodecSpec) -> None:
    payload = encode(update(), Residual(MANIFEST), spec, MANIFEST)
    with pytest.raises(WrongLength):
        decode(payload[:-1], spec, MANIFEST, SITE)
    with pytest.raises(TrailingBytes):
        decode(payload + b"\0", spec, MANIFEST, SITE)
