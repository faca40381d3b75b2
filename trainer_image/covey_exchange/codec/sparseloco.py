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

import numpy as np

from covey_exchange.codec import codebook, half
from covey_exchange.codec.codebook import CODEBOOK_BYTES
from covey_exchange.codec.errors import PositionOutOfRange
from covey_exchange.codec.kernels import NUMPY, Kernels
from covey_exchange.codec.layout import MAGIC, Layout
from covey_exchange.codec.spec import CodecSpec
from covey_exchange.codec.streams import check_zeros, signed
from covey_exchange.codec.update import Sparse, Update
from covey_exchange.manifest import Array, Manifest


@dataclass(frozen=True)
class SparseLoCo:
    """The codec for one model."""

    spec: CodecSpec
    manifest: Manifest
    kernels: Kernels = NUMPY

    @cached_property
    def layout(self) -> Layout:
        """The place of each tensor."""
        return Layout.of(self.manifest, self.spec)

    @property
    def max_bytes(self) -> int:
        """The length that no update exceeds."""
        return self.layout.streams.max_bytes

    def compress(self, values: Mapping[str, Array]) -> tuple[bytes, Update]:
        """The blob of finite float32 tensors, and what it stands for."""
        streams = self.layout.streams
        head = bytearray(MAGIC)
        signs, highs = np.zeros(streams.kept, dtype=bool), np.zeros(streams.kept, dtype=bool)
        gaps = np.zeros(streams.kept, dtype=np.int64)
        sent: dict[str, Sparse | Array] = {}
        for slot in self.layout.slots:
            name, shape, flat = slot.spec.name, slot.spec.shape, values[slot.spec.name].reshape(-1)
            if slot.grid is None:
                data, kept = half.write(flat)
                head += data
                sent[name] = kept.reshape(shape)
                continue
            part = slice(slot.first, slot.first + slot.kept)
            positions = self.kernels.select(flat, slot.grid)
            gaps[part] = self.kernels.to_gaps(positions, slot.grid)
            kept = flat[positions]
            magnitudes = np.abs(kept)
            book = codebook.fit(magnitudes)
            highs[part] = magnitudes > book.cut
            levels = codebook.levels(book, highs[part])
            signs[part] = (kept < 0) & (levels > 0)
            head += codebook.write(book)
            sent[name] = Sparse(positions, signed(levels, signs[part]), shape)
        return b"".join((bytes(head), *streams.write(signs, highs, gaps, self.kernels))), sent

    def decode(self, payload: bytes | memoryview, site: str) -> Update:
        """Inverse of `compress`; raises a `DecodeError` for anything that `compress` cannot have made."""
        layout = self.layout
        layout.streams.check_length(payload, MAGIC, site)
        signs, highs, gaps = layout.streams.read(payload, layout.tensor_of, site, self.kernels)
        decoded: dict[str, Sparse | Array] = {}
        for slot in layout.slots:
            tensor, grid = slot.spec, slot.grid
            if grid is None:
                end = slot.offset + tensor.elements * half.HALF_BYTES
                decoded[tensor.name] = half.read(payload[slot.offset : end], tensor, site)
                continue
            part = slice(slot.first, slot.first + slot.kept)
            positions, left = self.kernels.from_gaps(gaps[part], grid)
            if left >= 0:
                raise PositionOutOfRange(
                    site, tensor.name, f"chunk {left} has {grid.extent(left)} elements, a position beyond them is kept"
                )
            book = payload[slot.offset : slot.offset + CODEBOOK_BYTES]
            levels = codebook.read(book, highs[part], site, tensor.name)
            sparse = Sparse(positions, signed(levels, signs[part]), tensor.shape)
            check_zeros(sparse, signs[part], grid.chunk, grid.kept_full or grid.kept_tail, site, tensor.name)
            decoded[tensor.name] = sparse
        return decoded
