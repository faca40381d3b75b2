"""Where everything of a SparseLoCo update lies: a function of the manifest and the spec alone, never of the data."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property

from covey_exchange.codec import rice
from covey_exchange.codec.spec import CodecSpec
from covey_exchange.manifest import Manifest, TensorSpec

MAGIC = b"CVS\x01"
DENSE_BELOW_ELEMENTS = 64
CODEBOOK_BYTES = 8
VALUE_BITS = 2
HALF_BYTES = 2


@dataclass(frozen=True)
class Slot:
    """One tensor's place in the blob.

    Attributes:
        spec: name and shape.
        offset: of its codebook (sparse) or half-precision values (dense), in bytes from the start of the blob.
        first: number of kept elements before this tensor.
        full: chunks of full length, each keeping `kept_full` elements.
        tail: elements in the last, shorter chunk (0: none), keeping `kept_tail`.
        unary_bits: the most bits that the unary parts of its gaps can take.
    """

    spec: TensorSpec
    offset: int
    first: int
    full: int
    kept_full: int
    tail: int
    kept_tail: int
    unary_bits: int

    @property
    def kept(self) -> int:
        """Kept elements of the tensor; 0 if it travels dense."""
        return self.full * self.kept_full + self.kept_tail


@dataclass(frozen=True)
class Layout:
    """All slots in the manifest's order, and the sizes of the streams behind them."""

    slots: tuple[Slot, ...]
    chunk: int
    rice_bits: int
    head_bytes: int
    kept: int

    @classmethod
    def of(cls, manifest: Manifest, spec: CodecSpec) -> Layout:
        """Lay out an update; tensors of less than 64 elements, or not smaller when sparse, are dense."""
        rice_bits = rice.parameter(spec.density)
        slots: list[Slot] = []
        offset, first = len(MAGIC), 0
        for tensor in manifest:
            slot = _sparse_slot(tensor, spec, rice_bits, offset, first)
            sparse_bits = CODEBOOK_BYTES * 8 + slot.kept * (VALUE_BITS + rice_bits) + slot.unary_bits
            half_bits = tensor.elements * HALF_BYTES * 8
            if tensor.elements < DENSE_BELOW_ELEMENTS or sparse_bits >= half_bits:
                slot = Slot(tensor, offset, first, 0, 0, 0, 0, 0)
                offset += tensor.elements * HALF_BYTES
            else:
                offset += CODEBOOK_BYTES
            slots.append(slot)
            first += slot.kept
        return cls(tuple(slots), spec.chunk, rice_bits, offset, first)

    @cached_property
    def stream_bytes(self) -> tuple[int, int, int]:
        """Bytes of the signs, the magnitude bits and the low parts of the gaps."""
        flags = rice.packed_bytes(self.kept)
        return flags, flags, rice.packed_bytes(self.kept * self.rice_bits)

    @cached_property
    def fixed_bytes(self) -> int:
        """Bytes before the unary stream, which ends the blob."""
        return self.head_bytes + sum(self.stream_bytes)

    @cached_property
    def min_bytes(self) -> int:
        """The shortest blob: every unary part is a single bit."""
        return self.fixed_bytes + rice.packed_bytes(self.kept)

    @cached_property
    def max_bytes(self) -> int:
        """The longest blob: in every chunk the last kept element is the chunk's last."""
        return self.fixed_bytes + rice.packed_bytes(sum(slot.unary_bits for slot in self.slots))

    def tensor_of(self, kept_index: int) -> str:
        """Name of the tensor that the kept element with this number belongs to."""
        firsts = [slot.first for slot in self.slots]
        return self.slots[bisect_right(firsts, kept_index) - 1].spec.name


def _sparse_slot(tensor: TensorSpec, spec: CodecSpec, rice_bits: int, offset: int, first: int) -> Slot:
    full, tail = divmod(tensor.elements, spec.chunk)
    kept_full = spec.kept(spec.chunk) if full else 0
    kept_tail = spec.kept(tail) if tail else 0
    # The gaps of a chunk add up to at most the elements that are not kept.
    zeros = full * ((spec.chunk - kept_full) >> rice_bits) + ((tail - kept_tail) >> rice_bits)
    unary_bits = full * kept_full + kept_tail + zeros
    return Slot(tensor, offset, first, full, kept_full, tail, kept_tail, unary_bits)
