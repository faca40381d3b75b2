"""The codec's selection in torch: on a GPU, or wherever the pseudo-gradient is; the same positions as everywhere.

Injected where an update is encoded next to the model (`encode(..., kernels=Torch("cuda"))`). The validator, which has
neither torch nor a GPU, uses the kernels of `covey_exchange`. Only what touches every element runs here; the few
positions that are kept go on in NumPy.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from covey_exchange.codec.kernels import Bytes, Grid, Integers, NumPy
from covey_exchange.manifest import Array

ELEMENTS_AT_ONCE = 2**26  # in one selection step: bounds the device's memory

GPU_CHUNKS = frozenset({1024, 2048, 4096, 8192})  # in one pass (`gpu_select`): its blocks are powers of two

_ABSOLUTE = 0x7FFFFFFF


class Torch:
    """See `covey_exchange.codec.kernels.Kernels`.

    Magnitudes are compared as integers (the bits of a float32 without its sign), so that no device flushes subnormals.

    Args:
        device: where to select.
    """

    def __init__(self, device: torch.device | str) -> None:
        self.device = torch.device(device)
        self._rest = NumPy()

    def accumulate(self, kept: Array, added: Array, decay: np.float32, out: Array) -> int:
        """Write decay * kept + added to `out`; the first index at which it is not finite, or -1."""
        total = self._sum(kept, added, decay)
        torch.from_numpy(out).copy_(total)
        bad = torch.nonzero(~torch.isfinite(total))
        return int(bad[0, 0]) if len(bad) else -1

    def select(self, flat: Array, grid: Grid) -> Integers:
        """Largest magnitudes of each chunk."""
        out = np.empty(grid.kept, np.int64)
        rows_at_once = max(1, ELEMENTS_AT_ONCE // grid.chunk)
        for first in range(0, grid.full, rows_at_once):
            last = min(first + rows_at_once, grid.full)
            start = first * grid.chunk
            found = self._rows(flat[start : last * grid.chunk], last - first, grid.kept_full)
            out[first * grid.kept_full : last * grid.kept_full] = found + start
        if grid.tail:
            out[grid.full * grid.kept_full :] = self._rows(flat[grid.boundary :], 1, grid.kept_tail) + grid.boundary
        return out

    def largest(self, parts: Sequence[Array], kept: int) -> list[Integers]:
        """Largest magnitudes of all parts together; on the device, one part at a time."""
        tops = [torch.topk(self._keys(part), min(kept, part.size), sorted=False).values for part in parts]
        threshold = torch.topk(torch.cat(tops), kept, sorted=False).values.min()
        room = kept - sum(int((top > threshold).sum()) for top in tops)
        found: list[Integers] = []
        for part in parts:
            keys = self._keys(part)
            ties = torch.nonzero(keys == threshold).reshape(-1)[:room]
            room -= len(ties)
            chosen = keys > threshold
            chosen[ties] = True
            found.append(torch.nonzero(chosen).reshape(-1).cpu().numpy())
        return found

    def to_gaps(self, positions: Integers, grid: Grid) -> Integers:
        """As NumPy."""
        return self._rest.to_gaps(positions, grid)

    def from_gaps(self, gaps: Integers, grid: Grid) -> tuple[Integers, int]:
        """As NumPy."""
        return self._rest.from_gaps(gaps, grid)

    def pack(self, gaps: Integers, bits: int) -> tuple[Bytes, Bytes]:
        """As NumPy."""
        return self._rest.pack(gaps, bits)

    def unpack(self, low: Bytes, unary: Bytes, count: int, bits: int) -> Integers:
        """As NumPy."""
        return self._rest.unpack(low, unary, count, bits)

    def _rows(self, flat: Array, rows: int, kept: int) -> Integers:
        if self.device.type == "cuda" and flat.size // rows in GPU_CHUNKS:
            from covey_trainer import gpu_select  # Triton is there where torch is built for CUDA

            found: Integers = gpu_select.select(self._to_device(flat), flat.size // rows, kept).cpu().numpy()
            return found
        keys = self._keys(flat).reshape(rows, -1)
        threshold = torch.topk(keys, kept, dim=1, sorted=False).values.min(dim=1, keepdim=True).values
        above, ties = keys > threshold, keys == threshold
        room = kept - above.sum(dim=1, keepdim=True)
        chosen = above | (ties & (ties.cumsum(dim=1) <= room))
        positions: Integers = torch.nonzero(chosen.reshape(-1)).reshape(-1).cpu().numpy()
        return positions

    def _sum(self, kept: Array, added: Array, decay: np.float32) -> torch.Tensor:
        """In two roundings."""
        return torch.mul(self._to_device(kept), float(decay)).add_(self._to_device(added))

    def _keys(self, flat: Array) -> torch.Tensor:
        return self._to_device(flat).view(torch.int32) & _ABSOLUTE

    def _to_device(self, flat: Array) -> torch.Tensor:
        return torch.from_numpy(flat).to(self.device)
