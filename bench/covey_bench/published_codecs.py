"""Bytes of the same update in the codecs that others publish; framing, file headers and signatures not counted."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from covey_exchange.manifest import Manifest

CHUNK = 4096


def _sparse(bits_per_kept: Fraction, tensor_bytes: int = 0) -> Callable[[Manifest, Fraction], int]:
    def size(manifest: Manifest, density: Fraction) -> int:
        kept = sum(max(1, int(t.elements * density)) for t in manifest)
        return int(kept * bits_per_kept / 8) + tensor_bytes * len(manifest)

    return size


def _dense(bits: int, block: int = 0, tensor_bytes: int = 0) -> Callable[[Manifest, Fraction], int]:
    def size(manifest: Manifest, density: Fraction) -> int:
        del density
        blocks = sum(-(-t.elements // block) for t in manifest) if block else 0
        return manifest.parameters * bits // 8 + 4 * blocks + tensor_bytes * len(manifest)

    return size


# What each publishes: bits of an index and a value; what each tensor or block carries besides.
PEERS: dict[str, Callable[[Manifest, Fraction], int]] = {
    "topk_int32_fp32": _sparse(Fraction(64)),
    "topk_int32_fp16": _sparse(Fraction(48)),
    "templar_12bit_index_uint8_value": _sparse(Fraction(20), tensor_bytes=4 * 4),  # as its repository stores them
    "templar_12bit_index_2bit_value": _sparse(Fraction(14), tensor_bytes=4 * 4),  # as its paper counts them
    "flower_fp32": _dense(32),
    "int8_per_tensor": _dense(8, tensor_bytes=4 * 256),  # uniform 8 bit with a table of bin means (INTELLECT-1)
    "flare_blockwise8": _dense(8, block=CHUNK, tensor_bytes=4 * 256),
    "flare_float4": _dense(4, block=64, tensor_bytes=4 * 16),
}
