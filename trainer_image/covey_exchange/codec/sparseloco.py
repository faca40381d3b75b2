"""SparseLoCo (arXiv:2508.15706): chunk-wise top-k of the error feedback with 2-bit values.

The blob is: magic; for each tensor in the manifest's order its codebook (low and high level, float32) or, if it is
small, its values in half precision; then four bit streams over the kept elements of all sparse tensors: signs,
magnitude bits, and the gaps between kept positions in Rice code (low parts, unary parts). All is little-endian; every
size but that of the last stream follows from the manifest.

There is one blob for an update and one update for a blob:
  - bits of padding are zero, and the last byte has a one;
  - levels are finite, not subnormal, not negative, and low <= high; two different levels are both used; of two equal
    ones only the low is; half-precision values are finite and not -0;
  - values that are zero have a positive sign and sit at the first positions of their chunk that are not otherwise kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from covey_exchange.codec import codebook, rice
from covey_exchange.codec.errors import NonCanonical, NonFinite, PositionOutOfRange, TrailingBytes, WrongLength
from covey_exchange.codec.layout import CODEBOOK_BYTES, HALF_BYTES, MAGIC, Layout, Slot
from covey_exchange.codec.spec import CodecSpec
from covey_exchange.codec.update import Sparse, Update
from covey_exchange.manifest import Array, Manifest

HALF_MAX = np.float32(np.finfo(np.float16).max)
ROWS_AT_ONCE = 1024  # chunks in one selection step: bounds the working memory

Flags = NDArray[np.bool_]
Positions = NDArray[np.int64]


@dataclass(frozen=True)
class SparseLoCo:
    """The codec for one model."""

    spec: CodecSpec
    manifest: Manifest

    @cached_property
    def layout(self) -> Layout:
        """The place of each tensor."""
        return Layout.of(self.manifest, self.spec)

    @property
    def max_bytes(self) -> int:
        """The length that no update exceeds."""
        return self.layout.max_bytes

    def compress(self, values: Mapping[str, Array]) -> tuple[bytes, Update]:
        """The blob of finite float32 tensors, and what it stands for."""
        layout = self.layout
        head = bytearray(MAGIC)
        signs, highs = np.zeros(layout.kept, dtype=bool), np.zeros(layout.kept, dtype=bool)
        gaps = np.zeros(layout.kept, dtype=np.int64)
        sent: dict[str, Sparse | Array] = {}
        for slot in layout.slots:
            name, flat = slot.spec.name, values[slot.spec.name].reshape(-1)
            if not slot.kept:
                half = np.clip(flat, -HALF_MAX, HALF_MAX).astype("<f2") + np.float16(0)
                head += half.astype("<f2").tobytes()
                sent[name] = half.astype(np.float32).reshape(slot.spec.shape)
                continue
            part = slice(slot.first, slot.first + slot.kept)
            positions = _select(flat, slot, layout.chunk)
            gaps[part] = _to_gaps(positions, slot, layout.chunk)
            kept = flat[positions]
            magnitudes = np.abs(kept)
            book = codebook.fit(magnitudes)
            highs[part] = magnitudes > book.cut
            level = codebook.levels(book, highs[part])
            signs[part] = (kept < 0) & (level > 0)
            head += np.array([book.low, book.high], dtype="<f4").tobytes()
            sent[name] = Sparse(positions, np.where(signs[part], -level, level), slot.spec.shape)
        streams = (
            np.packbits(signs),
            np.packbits(highs),
            rice.pack_low(gaps, layout.rice_bits),
            rice.pack_high(gaps, layout.rice_bits),
        )
        return b"".join((bytes(head), *(stream.tobytes() for stream in streams))), sent

    def decode(self, payload: bytes, site: str) -> Update:
        """Inverse of `compress`; raises a `DecodeError` for anything that `compress` cannot have made."""
        layout = self.layout
        if len(payload) < layout.min_bytes:
            raise WrongLength(site, None, f"{len(payload)} bytes, at least {layout.min_bytes} are needed")
        if len(payload) > layout.max_bytes:
            raise TrailingBytes(site, None, f"{len(payload)} bytes, at most {layout.max_bytes} are possible")
        if payload[: len(MAGIC)] != MAGIC:
            raise NonCanonical(site, None, f"begins with {payload[: len(MAGIC)].hex()}, not {MAGIC.hex()}")
        signs, highs, low, unary = _split(payload, layout, site)
        gaps = rice.join(low, _ends(unary, layout, site), layout.rice_bits)
        decoded: dict[str, Sparse | Array] = {}
        for slot in layout.slots:
            if slot.kept:
                part = slice(slot.first, slot.first + slot.kept)
                positions, ranks = _from_gaps(gaps[part], slot, layout.chunk, site)
                level = _levels(payload, slot, highs[part], site)
                _check_zeros(level, signs[part], positions % layout.chunk, ranks, slot, site)
                decoded[slot.spec.name] = Sparse(positions, np.where(signs[part], -level, level), slot.spec.shape)
            else:
                decoded[slot.spec.name] = _half_values(payload, slot, site)
        return decoded


def _select(flat: Array, slot: Slot, chunk: int) -> Positions:
    """Positions of each chunk's `kept` largest magnitudes, ascending; of equal ones the first."""
    full_elements = slot.full * chunk
    found = []
    for row in range(0, slot.full, ROWS_AT_ONCE):
        rows = min(ROWS_AT_ONCE, slot.full - row)
        start = row * chunk
        block = np.abs(flat[start : start + rows * chunk]).reshape(rows, chunk)
        found.append(np.flatnonzero(_largest(block, slot.kept_full)) + start)
    if slot.tail:
        block = np.abs(flat[full_elements:]).reshape(1, slot.tail)
        found.append(np.flatnonzero(_largest(block, slot.kept_tail)) + full_elements)
    return np.concatenate(found)


def _largest(block: Array, kept: int) -> Flags:
    """Row-wise: which elements are the `kept` largest, the first ones among equals."""
    threshold = np.partition(block, block.shape[1] - kept, axis=1)[:, -kept, None]
    chosen: Flags = block >= threshold
    crowded = np.flatnonzero(np.count_nonzero(chosen, axis=1) > kept)
    if len(crowded):
        above = block[crowded] > threshold[crowded]
        ties = block[crowded] == threshold[crowded]
        room = kept - np.count_nonzero(above, axis=1)
        chosen[crowded] = above | (ties & (np.cumsum(ties, axis=1) <= room[:, None]))
    return chosen


def _rows(slot: Slot) -> list[tuple[slice, int, int]]:
    """The kept elements of a tensor as up to two matrices: (which, rows, kept per row); full chunks, then the tail."""
    boundary = slot.full * slot.kept_full
    both = [(slice(0, boundary), slot.full, slot.kept_full), (slice(boundary, slot.kept), 1, slot.kept_tail)]
    return [(which, rows, kept) for which, rows, kept in both if rows and kept]


def _to_gaps(positions: Positions, slot: Slot, chunk: int) -> Positions:
    """Elements skipped before each kept one, counted within its chunk."""
    local = positions % chunk
    parts = [
        np.diff(local[which].reshape(rows, kept), axis=1, prepend=-1).reshape(-1) - 1
        for which, rows, kept in _rows(slot)
    ]
    return np.concatenate(parts)


def _from_gaps(gaps: Positions, slot: Slot, chunk: int, site: str) -> tuple[Positions, Positions]:
    """Positions in the flattened tensor, and the rank of each within its chunk."""
    positions, ranks = np.empty_like(gaps), np.empty_like(gaps)
    for which, rows, kept in _rows(slot):
        local = np.cumsum(gaps[which].reshape(rows, kept) + 1, axis=1) - 1
        first_chunk = 0 if which.start == 0 and slot.full else slot.full
        extent = chunk if first_chunk < slot.full else slot.tail
        beyond = np.flatnonzero(local[:, -1] >= extent)
        if len(beyond):
            where = f"chunk {first_chunk + int(beyond[0])}"
            reached = int(local[beyond[0], -1])
            raise PositionOutOfRange(site, slot.spec.name, f"{where} has {extent} elements, position {reached} is kept")
        starts = (first_chunk + np.arange(rows, dtype=np.int64)) * chunk
        positions[which] = (local + starts[:, None]).reshape(-1)
        ranks[which] = np.tile(np.arange(kept, dtype=np.int64), rows)
    return positions, ranks


def _split(payload: bytes, layout: Layout, site: str) -> tuple[Flags, Flags, Positions, rice.Bytes]:
    """The four streams; the first three unpacked and their padding checked."""
    data = np.frombuffer(payload, dtype=np.uint8)
    bounds = np.cumsum((layout.head_bytes, *layout.stream_bytes))
    signs, highs, low = (data[start:end] for start, end in pairwise(bounds))
    for stream, bits, name in (
        (signs, layout.kept, "signs"),
        (highs, layout.kept, "magnitude bits"),
        (low, layout.kept * layout.rice_bits, "gaps"),
    ):
        if bits % 8 and int(stream[-1]) & ((1 << (8 - bits % 8)) - 1):
            raise NonCanonical(site, None, f"the padding after the {name} is not zero")
    return (
        np.unpackbits(signs, count=layout.kept).astype(bool),
        np.unpackbits(highs, count=layout.kept).astype(bool),
        rice.unpack_low(low, layout.kept, layout.rice_bits),
        data[int(bounds[-1]) :],
    )


def _ends(unary: rice.Bytes, layout: Layout, site: str) -> Positions:
    ends = rice.unary_ends(unary)
    if len(ends) < layout.kept:
        raise WrongLength(site, layout.tensor_of(len(ends)), f"{len(ends)} of {layout.kept} kept elements have a gap")
    if len(ends) > layout.kept:
        raise TrailingBytes(site, None, f"{len(ends)} gaps for {layout.kept} kept elements")
    if len(unary) and not unary[-1]:
        raise TrailingBytes(site, None, "ends with an empty byte")
    return ends


def _levels(payload: bytes, slot: Slot, highs: Flags, site: str) -> Array:
    """The magnitude of each kept element of a tensor, after checking its codebook."""
    low, high = np.frombuffer(payload, dtype="<f4", count=CODEBOOK_BYTES // 4, offset=slot.offset).astype(np.float32)
    name = slot.spec.name
    if not (np.isfinite(low) and np.isfinite(high)):
        raise NonFinite(site, name, f"levels {low} and {high}")
    for level in (low, high):
        if np.signbit(level) or 0 < level < codebook.SMALLEST_NORMAL:
            raise NonCanonical(site, name, f"level {level} is negative or subnormal")
    if low > high:
        raise NonCanonical(site, name, f"low level {low} above high level {high}")
    if low == high and bool(highs.any()):
        raise NonCanonical(site, name, "a high level that equals the low one is used")
    if low < high and (bool(highs.all()) or not bool(highs.any())):
        raise NonCanonical(site, name, "one of two levels is not used")
    return codebook.levels(codebook.Codebook(low, high, low), highs)


def _check_zeros(level: Array, signs: Flags, local: Positions, ranks: Positions, slot: Slot, site: str) -> None:
    zero = level == 0
    if bool((zero & signs).any()):
        raise NonCanonical(site, slot.spec.name, "a zero has a negative sign")
    if bool((zero & (local != ranks)).any()):
        raise NonCanonical(site, slot.spec.name, "a zero is not at the first free position of its chunk")


def _half_values(payload: bytes, slot: Slot, site: str) -> Array:
    end = slot.offset + slot.spec.elements * HALF_BYTES
    half = np.frombuffer(payload[slot.offset : end], dtype="<f2")
    if not np.isfinite(half).all():
        raise NonFinite(site, slot.spec.name, f"element {int(np.flatnonzero(~np.isfinite(half))[0])}")
    if bool(((half == 0) & np.signbit(half)).any()):
        raise NonCanonical(site, slot.spec.name, "a zero has a negative sign")
    return half.astype(np.float32).reshape(slot.spec.shape)
