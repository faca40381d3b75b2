"""How a flat tensor is cut into chunks, and how many elements each of them keeps."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Grid:
    """Full chunks, then at most one shorter one.

    Attributes:
        chunk: elements of a full chunk.
        full: number of full chunks, each keeping `kept_full` elements.
        kept_full: 1 <= kept_full <= chunk, if there are full chunks.
        tail: elements of the last, shorter chunk (0: none), keeping `kept_tail`.
        kept_tail: 1 <= kept_tail <= tail, if there is a tail.
    """

    chunk: int
    full: int
    kept_full: int
    tail: int
    kept_tail: int

    @property
    def kept(self) -> int:
        """Kept elements of the tensor."""
        return self.full * self.kept_full + self.kept_tail

    @property
    def boundary(self) -> int:
        """Elements in full chunks: where the tail begins."""
        return self.full * self.chunk

    def extent(self, chunk: int) -> int:
        """Elements of the chunk with this number."""
        return self.chunk if chunk < self.full else self.tail

    def unary_bits_max(self, rice_bits: int) -> int:
        """The most bits that the unary parts of the gaps can take: those of a chunk add up to at most what it skips."""
        zeros = self.full * ((self.chunk - self.kept_full) >> rice_bits) + ((self.tail - self.kept_tail) >> rice_bits)
        return self.kept + zeros
