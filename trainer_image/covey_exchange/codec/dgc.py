"""Deep Gradient Compression (arXiv:1712.01887) of pseudo-gradients: the largest values of the whole model, 2 bits each.

What is selected from is the accumulated momentum (`Residual`): u <- m u + clip(delta), v <- decay v + u; when a round
is accepted, what was sent leaves v, and u becomes zero there (momentum factor masking). The share that is kept falls
during the warm-up rounds (`CodecSpec.at_round`).

The kept elements are the largest of all tensors together, so that even at 0.1 % no small tensor costs a codebook of its
own, and layers share the budget as their updates need it. The blob is: magic; the tensors of less than 64 elements in
half precision, in the manifest's order; one codebook of two levels; then the four streams of `streams.py`, in which all
other tensors, flattened and joined in the manifest's order, are one chunk. It is canonical by the same rules as
SparseLoCo's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import numpy as np

from covey_exchange.codec import codebook, half, rice
from covey_exchange.codec.codebook import CODEBOOK_BYTES
from covey_exchange.codec.errors import PositionOutOfRange
from covey_exchange.codec.grid import Grid
from covey_exchange.codec.kernels import NUMPY, Integers, Kernels
from covey_exchange.codec.spec import CodecSpec
from covey_exchange.codec.streams import Streams, check_zeros, signed
from covey_exchange.codec.update import Sparse, Update
from covey_exchange.manifest import Array, Manifest, TensorSpec

MAGIC = b"CVG\x01"
DENSE_BELOW_ELEMENTS = 64


@dataclass(frozen=True)
class Dgc:
    """The codec for one model in one round."""

    spec: CodecSpec
    manifest: Manifest
    kernels: Kernels = NUMPY

    @cached_property
    def dense(self) -> tuple[TensorSpec, ...]:
        """Tensors in half precision."""
        return tuple(tensor for tensor in self.manifest if tensor.elements < DENSE_BELOW_ELEMENTS)

    @cached_property
    def sparse(self) -> tuple[TensorSpec, ...]:
        """Tensors of which the largest values are kept."""
        return tuple(tensor for tensor in self.manifest if tensor.elements >= DENSE_BELOW_ELEMENTS)

    @cached_property
    def starts(self) -> list[int]:
        """Where each sparse tensor begins among the joined ones; then where the last one ends."""
        return [0, *accumulate(tensor.elements for tensor in self.sparse)]

    @cached_property
    def grid(self) -> Grid:
        """All sparse tensors as one chunk."""
        elements = self.starts[-1]
        return Grid(elements, 1, self.spec.kept(elements), 0, 0) if elements else Grid(1, 0, 0, 0, 0)

    @cached_property
    def streams(self) -> Streams:
        """The place of the bit streams."""
        bits = rice.parameter(self.spec.density)
        dense_bytes = sum(tensor.elements for tensor in self.dense) * half.HALF_BYTES
        book_bytes = CODEBOOK_BYTES if self.sparse else 0
        head_bytes = len(MAGIC) + dense_bytes + book_bytes
        return Streams(head_bytes, self.grid.kept, bits, self.grid.unary_bits_max(bits))

    @property
    def max_bytes(self) -> int:
        """The length that no update exceeds."""
        return self.streams.max_bytes

    def compress(self, values: Mapping[str, Array]) -> tuple[bytes, Update]:
        """The blob of finite float32 tensors, and what it stands for."""
        head = bytearray(MAGIC)
        sent: dict[str, Sparse | Array] = {}
        for tensor in self.dense:
            data, kept = half.write(values[tensor.name].reshape(-1))
            head += data
            sent[tensor.name] = kept.reshape(tensor.shape)
        signs, highs, gaps = np.zeros(0, dtype=bool), np.zeros(0, dtype=bool), np.zeros(0, dtype=np.int64)
        if self.sparse:
            flats = [values[tensor.name].reshape(-1) for tensor in self.sparse]
            positions = self.kernels.largest(flats, self.grid.kept)
            chosen = np.concatenate([flat[where] for flat, where in zip(flats, positions, strict=True)])
            magnitudes = np.abs(chosen)
            book = codebook.fit(magnitudes)
            highs = magnitudes > book.cut
            levels = codebook.levels(book, highs)
            signs = (chosen < 0) & (levels > 0)
            head += codebook.write(book)
            joined = np.concatenate([where + start for where, start in zip(positions, self.starts, strict=False)])
            gaps = self.kernels.to_gaps(joined, self.grid)
            sent |= self._split(joined, signed(levels, signs))
        return b"".join((bytes(head), *self.streams.write(signs, highs, gaps, self.kernels))), sent

    def decode(self, payload: bytes | memoryview, site: str) -> Update:
        """Inverse of `compress`; raises a `DecodeError` for anything that `compress` cannot have made."""
        self.streams.check_length(payload, MAGIC, site)
        signs, highs, gaps = self.streams.read(payload, lambda _: None, site, self.kernels)
        decoded: dict[str, Sparse | Array] = {}
        offset = len(MAGIC)
        for tensor in self.dense:
            end = offset + tensor.elements * half.HALF_BYTES
            decoded[tensor.name] = half.read(payload[offset:end], tensor, site)
            offset = end
        if not self.sparse:
            return decoded
        joined, left = self.kernels.from_gaps(gaps, self.grid)
        if left >= 0:
            problem = f"a position beyond the model's {self.grid.chunk} sparse elements is kept"
            raise PositionOutOfRange(site, self.sparse[-1].name, problem)
        levels = codebook.read(payload[offset : offset + CODEBOOK_BYTES], highs, site, None)
        values = signed(levels, signs)
        check_zeros(Sparse(joined, values, (self.grid.chunk,)), signs, self.grid.chunk, self.grid.kept, site, None)
        return decoded | self._split(joined, values)

    def _split(self, joined: Integers, values: Array) -> dict[str, Sparse | Array]:
        bounds = np.searchsorted(joined, self.starts)
        return {
            tensor.name: Sparse(joined[a:b] - start, values[a:b], tensor.shape)
            for tensor, start, a, b in zip(self.sparse, self.starts, bounds, bounds[1:], strict=False)
        }
