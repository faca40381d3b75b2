"""Coverage-guided fuzzing of the decoders: any bytes give a typed error that names the site, or the one encoding.

    python tests/fuzz/fuzz_decoder.py -max_total_time=60 CORPUS     fuzz; the options are libFuzzer's
    python tests/fuzz/fuzz_decoder.py FILE                          replay a finding
    python tests/fuzz/fuzz_decoder.py --seeds CORPUS                write valid updates to begin with

The first byte of an input selects codec and model, the rest is the update.
"""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["covey_exchange.codec"]):
    import numpy as np
    from covey_exchange.codec import Codec, CodecSpec, DecodeError, Residual, codec_for, densify, encode
    from covey_exchange.manifest import Array, Manifest, TensorSpec
from covey_exchange.codec.kernels.compiled import Compiled

SITE = "0x00000000000000000000000000000000000000A1"
MODELS = [
    Manifest((TensorSpec("bias", (5,)), TensorSpec("weight", (9, 30)), TensorSpec("wide", (130,)))),
    Manifest((TensorSpec("scale", ()), TensorSpec("shift", (3,)))),
    Manifest((TensorSpec("weight", (64,)),)),
]
SPECS = [
    CodecSpec(density=Fraction(1, 16), chunk=64),
    CodecSpec(density=Fraction(1, 64), chunk=4096),
    CodecSpec(density=Fraction(1, 3), chunk=7),
    CodecSpec("DGC", Fraction(1, 20)),
    CodecSpec("DGC", Fraction(1, 1000)),
    CodecSpec("Dense", value_bits=32),
    CodecSpec("Dense", value_bits=16),
    CodecSpec("Dense", value_bits=8),
]
CASES = [(spec, model) for spec in SPECS for model in MODELS]
CODECS: list[tuple[Codec, Codec]] = [
    (codec_for(spec, model), codec_for(spec, model, Compiled(threads=1))) for spec, model in CASES
]


def check(data: bytes) -> None:
    """One input."""
    if not data:
        return
    codec, compiled = CODECS[data[0] % len(CASES)]
    payload = data[1:]
    found, other = outcome(codec, payload), outcome(compiled, payload)
    if isinstance(found, DecodeError):
        assert (found.site, SITE in str(found)) == (SITE, True)
        assert (type(other), str(other)) == (type(found), str(found)), "the compiled kernels do not refuse the same"
        return
    assert not isinstance(other, DecodeError), "the compiled kernels refuse what is accepted"
    assert codec.compress(found)[0] == payload, "a second encoding of one update was accepted"
    assert all(np.array_equal(found[name], other[name]) for name in found), "the compiled kernels decode differently"


def outcome(codec: Codec, payload: bytes) -> dict[str, Array] | DecodeError:
    try:
        return densify(codec.decode(payload, SITE))
    except DecodeError as error:
        return error


def write_seeds(corpus: Path) -> None:
    """Valid updates of every case, ordinary ones and such with many zeros."""
    corpus.mkdir(parents=True, exist_ok=True)
    for number, (spec, model) in enumerate(CASES):
        for seed, share in enumerate((1.0, 0.02)):
            rng = np.random.default_rng(seed)
            update = {
                t.name: np.asarray(rng.normal(size=t.shape) * (rng.random(t.shape) < share), dtype=np.float32)
                for t in model
            }
            payload = encode(update, Residual(model), spec, model)
            (corpus / f"seed-{number}-{seed}").write_bytes(bytes([number]) + payload)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--seeds"]:
        write_seeds(Path(sys.argv[2]))
    else:
        atheris.Setup(sys.argv, check)
        atheris.Fuzz()
