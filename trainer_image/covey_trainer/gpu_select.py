"""Error feedback and selection on a GPU in one pass over memory (Triton; comes with torch's builds for CUDA).

A program loads one chunk into registers, adds the pseudo-gradient, finds the k-th largest magnitude by bisection on the
bits of its float32 numbers, and writes residual and kept positions: every element is read once and written once.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

_WARPS = 4


@triton.jit  # type: ignore[untyped-decorator]
def _kernel(  # type: ignore[no-untyped-def]
    kept_ptr,
    added_ptr,
    out_ptr,
    positions_ptr,
    bad_ptr,
    decay,
    CHUNK: tl.constexpr,
    KEPT: tl.constexpr,
    ADD: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    at = row * CHUNK + tl.arange(0, CHUNK)
    value = tl.load(kept_ptr + at)
    if ADD:
        value = value * decay + tl.load(added_ptr + at)
        tl.store(out_ptr + at, value)
    key = value.to(tl.int32, bitcast=True) & 0x7FFFFFFF
    key = tl.minimum(key, 0x7F800000)  # NaN counts as infinity: `top + 1` must not overflow, or too many are chosen
    top = tl.max(key, axis=0)
    if ADD:
        if top >= 0x7F800000:  # infinity or NaN
            tl.atomic_min(bad_ptr, tl.min(tl.where(key >= 0x7F800000, at, 0x7FFFFFFFFFFFFFFF), axis=0))

    # At least KEPT keys reach `low`, fewer reach `high`. The largest are mostly within a power of two of each other.
    high = top + 1
    span = tl.full((), 1 << 23, tl.int32)
    low = tl.maximum(top - span, 0)
    reached = tl.sum((key >= low).to(tl.int32), axis=0)
    while reached < KEPT:
        high = low
        span = span * 2
        low = tl.where(span >= 1 << 30, 0, tl.maximum(top - span, 0))
        reached = tl.sum((key >= low).to(tl.int32), axis=0)
    while (reached != KEPT) & (high - low > 1):
        middle = low + (high - low) // 2
        count = tl.sum((key >= middle).to(tl.int32), axis=0)
        high = tl.where(count >= KEPT, high, middle)
        low = tl.where(count >= KEPT, middle, low)
        reached = tl.where(count >= KEPT, count, reached)

    chosen = (key >= low).to(tl.int32)
    if reached > KEPT:  # some are equal: the first of them
        above = (key > low).to(tl.int32)
        ties = (key == low).to(tl.int32)
        room = KEPT - tl.sum(above, axis=0)
        chosen = above | (ties & (tl.cumsum(ties, axis=0) <= room).to(tl.int32))
    place = tl.cumsum(chosen, axis=0) - 1
    tl.store(positions_ptr + row * KEPT + place, at, mask=chosen > 0)


def select(flat: torch.Tensor, chunk: int, kept: int) -> torch.Tensor:
    """Positions of each chunk's largest magnitudes, ascending; of equal ones the first.

    Args:
        flat: finite float32 on a GPU, shape (n * chunk,).
        chunk: one of `kernels.GPU_CHUNKS`.
        kept: 1 <= kept <= chunk.

    Returns:
        int64 on the same GPU, shape (n * kept,).
    """
    return _launch(flat, flat, flat, 0.0, chunk, kept, add=False)[0]


def absorb_and_select(
    kept_values: torch.Tensor, added: torch.Tensor, decay: float, chunk: int, kept: int, out: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Write decay * kept_values + added, in two roundings, to `out`; and select of it.

    Args:
        kept_values: float32 on a GPU, shape (n * chunk,).
        added: likewise.
        decay: a float32 number.
        chunk: one of `kernels.GPU_CHUNKS`.
        kept: 1 <= kept <= chunk.
        out: likewise; may be `kept_values`.

    Returns:
        Positions as `select`, and the first index that is not finite (int64 scalar; the largest int64 if all are).
        Nothing waits for the GPU.
    """
    return _launch(kept_values, added, out, decay, chunk, kept, add=True)


def _launch(
    kept_values: torch.Tensor,
    added: torch.Tensor,
    out: torch.Tensor,
    decay: float,
    chunk: int,
    kept: int,
    *,
    add: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    rows = kept_values.numel() // chunk
    positions = torch.empty(rows * kept, dtype=torch.int64, device=kept_values.device)
    bad = torch.full((), torch.iinfo(torch.int64).max, dtype=torch.int64, device=kept_values.device)
    with torch.cuda.device(kept_values.device):
        # Without fusion: an FMA rounds once where all other implementations round twice.
        _kernel[(rows,)](
            kept_values, added, out, positions, bad, decay, chunk, kept, add, num_warps=_WARPS, enable_fp_fusion=False
        )
    return positions, bad
