"""Lets FLARE's quantiser, which asks for a GPU, run on the CPU; on the path of its processes only when it is measured.

It moves tensors with `Tensor.cuda()` whatever they are quantised with; bitsandbytes can do it on the CPU, but gives
tensors of one dimension back as one row, upon which FLARE ends the job.
"""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

QUANTISERS = "nvflare.app_opt.pt.quantization."


class _BeforeQuantisers(MetaPathFinder):
    """Only with the first quantiser: FLARE's other processes need not load torch."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name.startswith(QUANTISERS) and self in sys.meta_path:
            sys.meta_path.remove(self)
            _run_on_the_cpu()
        return None


def _run_on_the_cpu() -> None:
    import bitsandbytes.functional
    import torch

    plain = bitsandbytes.functional.dequantize_4bit

    def dequantize(values: torch.Tensor, state: object, *rest: object, **named: object) -> torch.Tensor:
        found: torch.Tensor = plain(values, state, *rest, **named)
        return found.reshape(state.shape)

    bitsandbytes.functional.dequantize_4bit = dequantize
    torch.Tensor.cuda = lambda self, *_rest, **_named: self


sys.meta_path.insert(0, _BeforeQuantisers())
