"""Loaded as sitecustomize where there is no GPU: FLARE's 4-bit filters call `.cuda()` whatever the machine has.

Tensor.cuda() does nothing, and bitsandbytes works on the CPU; it gives 1-D tensors back as (1, n), which FLARE would
refuse.
"""

import importlib.abc
import sys

FILTERS = tuple(f"nvflare.app_opt.pt.quantization.{name}" for name in ("quantizer", "dequantizer"))


class Hook(importlib.abc.MetaPathFinder):
    """Patches torch and bitsandbytes when a filter is first imported."""

    def find_spec(self, name, path, target=None):
        """Find nothing; only notice the import."""
        if name in FILTERS:
            import bitsandbytes.functional as functional
            import torch

            torch.Tensor.cuda = lambda self, *arguments, **options: self
            if not hasattr(functional, "with_batch"):
                functional.with_batch = functional.dequantize_4bit
                functional.dequantize_4bit = lambda data, state, *arguments, **options: functional.with_batch(
                    data, state, *arguments, **options
                ).reshape(state.shape)


sys.meta_path.insert(0, Hook())
