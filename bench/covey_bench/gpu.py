"""`make bench-gpu`: error feedback and selection on a CUDA GPU, against what its memory allows.

The bound is the time to read and write the residual once, at the bandwidth that a device-to-device copy reaches on the
same card in the same run.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable

import numpy as np
import torch
from covey_exchange.codec import CodecSpec
from covey_exchange.codec.kernels import NUMPY
from covey_trainer.kernels import Torch

from covey_bench import report
from covey_bench.report import Figure

SIZES = {"67m": 2**26, "1b": 2**30}
CHUNK, KEPT, DECAY = 4096, 64, 0.95
REPEAT = 30
ELEMENT_BYTES = 4


def milliseconds(call: Callable[[], object], repeat: int = REPEAT) -> float:
    """Median time of a call on the GPU, after three to warm up."""
    times: list[float] = []
    for turn in range(repeat + 3):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        start.record()
        call()
        end.record()
        end.synchronize()
        if turn >= 3:
            times.append(start.elapsed_time(end))
    return statistics.median(times)


def measure(label: str, parameters: int) -> list[Figure]:
    """One size, on the device; for the small one also with the way there and back, through the codec's interface."""
    from covey_trainer.gpu_select import absorb_and_select

    kept = torch.full((parameters,), 0.01, device="cuda")
    added = torch.randn(parameters, device="cuda")
    other = torch.empty_like(kept)
    copy = milliseconds(lambda: other.copy_(kept))
    fused = milliseconds(lambda: absorb_and_select(kept, added, DECAY, CHUNK, KEPT, kept))
    topk = milliseconds(lambda: torch.topk(added.view(-1, CHUNK), KEPT, dim=1, sorted=False))
    figures = [
        Figure(f"gpu_copy_{label}_terabytes_per_second", 2 * ELEMENT_BYTES * parameters / copy / 1e9, "TB/s"),
        Figure(f"gpu_absorb_select_{label}_ms", fused, "ms", None, "lower"),
        Figure(f"gpu_absorb_select_{label}_over_bandwidth", fused / copy, "x", 4.0, "lower"),
        Figure(f"gpu_torch_topk_{label}_ms", topk, "ms", None, "lower"),
    ]
    if parameters == SIZES["67m"]:
        host = np.random.default_rng(0).standard_normal(parameters, dtype=np.float32)
        grid = CodecSpec().grid(parameters)
        on_gpu = Torch("cuda")
        assert np.array_equal(on_gpu.select(host, grid), NUMPY.select(host, grid))
        figures.append(
            Figure(
                f"gpu_select_{label}_from_host_ms",
                milliseconds(lambda: on_gpu.select(host, grid), 5),
                "ms",
                None,
                "lower",
            )
        )
    return figures


def main() -> int:
    """Measure, print, write; 1 if a goal is missed, 2 without a GPU."""
    if not torch.cuda.is_available():
        print("no CUDA GPU: nothing was measured")
        return 2
    figures = [figure for label, parameters in SIZES.items() for figure in measure(label, parameters)]
    report.show(f"codec on {torch.cuda.get_device_name()}", figures)
    print(f"written: {report.write('gpu', figures)}")
    return int(any(figure.met is False for figure in figures))


if __name__ == "__main__":
    sys.exit(main())
