"""Where everything of a SparseLoCo update lies: a function of the manifest and the spec alone, never of the data."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property

from covey_exchange.codec import rice
from covey_exchange.codec.codebook import CODEBOOK_BYTES
from covey_exchange.codec.grid import Grid
from covey_exchange.codec.half import HALF_BYTES
from covey_exchange.codec.spec import CodecSpec
from covey_exchange.codec.streams import VALUE_BITS, Streams
from covey_exchange.manifest import Manifest, TensorSpec

MAGIC = b"CVS\x01"
DENSE_BELOW_ELEMENTS = 64


@dataclass(frozen=True)
class Slot:
    """One tensor's place in the blob.

    Attributes:
        spec: name and shape.
        offset: of its codebook (sparse) or half-precision values (dense), in bytes from the start of the blob.
        first: number of kept elements before this tensor.
        grid: its chunks; None if it travels dense.
    """

    spec: TensorSpec
    offset: int
    first: int
    grid: Grid | None

    @property
    def kept(self) -> int:
        """Kept elements of the tensor; 0 if it travels dense."""
        return self.grid.kept if self.grid else 0


@dataclass(frozen=True)
class Layout:
    """All slots in the manifest's order, and the streams behind them."""

    slots: tuple[Slot, ...]
    streams: Streams

    @classmethod
    def of(cls, manifest: Manifest, spec: CodecSpec) -> Layout:
        """Lay out an update; tensors of less than 64 elements, or not smaller when sparse, are dense."""
        rice_bits = rice.parameter(spec.density)
        slots: list[Slot] = []
        offset, first, unary_bits = len(MAGIC), 0, 0
        for tensor in manifest:
            grid = spec.grid(tensor.elements)
            sparse_bits = CODEBOOK_BYTES * 8 + grid.kept * (VALUE_BITS + rice_bits) + grid.unary_bits_max(rice_bits)
            half_bits = tensor.elements * HALF_BYTES * 8
            if tensor.elements < DENSE_BELOW_ELEMENTS or sparse_bits >= half_bits:
                slots.append(Slot(tensor, offset, first, None))
                offset += tensor.elements * HALF_BYTES
            else:
                slots.append(Slot(tensor, offset, first, grid))
                offset += CODEBOOK_BYTES
                first += grid.kept
                unary_bits += grid.unary_bits_max(rice_bits)
        return cls(tuple(slots), Streams(offset, first, rice_bits, unary_bits))

    @cached_property
    def _firsts(self) -> list[int]:
        return [slot.first for slot in self.slots]

    def tensor_of(self, kept_index: int) -> str:
        """Name of the tensor that the kept element with this number belongs to."""
        return self.slots[bisect_right(self._firsts, kept_index) - 1].spec.name
