"""`make bench-codec`: bytes of four real updates, and the time and memory that encoding takes.

python -m covey_bench.codec [--billion]     with --billion also at 1,074 M parameters (9 GB of memory)
"""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
from covey_chain.types import UpdateHeader
from covey_exchange import segments
from covey_exchange.codec import NUMPY, CodecSpec, Kernels, Residual, codec_for, encode
from covey_exchange.codec.kernels import for_model
from covey_exchange.frames import pack
from covey_exchange.manifest import Array, Manifest, TensorSpec
from covey_exchange.messages import Envelope, to_wire
from covey_exchange.payload import to_leaves
from covey_exchange.proto.wire_pb2 import Frame, Offer, Segment, Sent

from covey_bench import report
from covey_bench.published_codecs import PEERS
from covey_bench.report import Figure
from covey_bench.updates import all_updates

M67 = 2**26
BILLION = 2**30
REPEAT = 9
SITE = "0x00000000000000000000000000000000000000A1"
SPECS = {
    "sparseloco_1_64": CodecSpec(),
    "dgc_5pct": CodecSpec("DGC", Fraction(1, 20)),
    "dgc_1pct": CodecSpec("DGC", Fraction(1, 100)),
    "dgc_0_1pct": CodecSpec("DGC", Fraction(1, 1000)),
    "dense_fp16": CodecSpec("Dense", value_bits=16),
    "dense_int8": CodecSpec("Dense", value_bits=8),
}
GOALS = {"sparseloco_1_64": 199.0, "dgc_0_1pct": 2000.0}


def wire_bytes(payload: bytes) -> int:
    """All that one site sends of an update to the next: frames, signed header, leaves and segments, without TLS."""
    header = UpdateHeader(bytes(32), 1000, 0, SITE, bytes(32), bytes(32), len(payload), bytes(32), 10_000)
    offer = Offer(header=to_wire(Envelope(header, bytes(65))), leaves=to_leaves(payload))
    announced = (Frame(segment=Segment(index=index)) for index in range(segments.count(len(payload))))
    frames = [Frame(offer=offer), *announced, Frame(sent=Sent())]
    return sum(len(pack(frame)) for frame in frames) + len(payload)


def ratios() -> list[Figure]:
    """Float32 bytes by bytes on the wire, for every codec and update; then the worst of each codec."""
    figures: list[Figure] = []
    worst: dict[str, float] = {}

    def add(codec: str, update: str, ratio: float) -> None:
        figures.append(Figure(f"ratio_fp32_{codec}_{update}", ratio, "x"))
        worst[codec] = min(ratio, worst.get(codec, ratio))

    for trained in all_updates():
        manifest = Manifest.from_arrays(trained.rounds[0])
        figures.append(Figure(f"parameters_{trained.name}", manifest.parameters, "values"))
        for name, spec in SPECS.items():
            residual = Residual(manifest)
            for update in trained.rounds:
                payload = encode(update, residual, spec, manifest)
                residual.settle(accepted=True)
            add(name, trained.name, 4 * manifest.parameters / wire_bytes(payload))
        for name, size in PEERS.items():
            add(name, trained.name, 4 * manifest.parameters / size(manifest, Fraction(1, 64)))
    for name, ratio in worst.items():
        figures.append(Figure(f"ratio_fp32_{name}_min", ratio, "x", GOALS.get(name)))
        if name in SPECS:
            figures.append(Figure(f"ratio_bf16_{name}_min", ratio / 2, "x"))
    return figures


def speed(parameters: int, label: str, repeat: int = REPEAT) -> list[Figure]:
    """Best of several encodings and decodings, next to torch.topk of the same values in chunks of the same size."""
    import torch

    torch.set_num_threads(2)
    manifest = Manifest((TensorSpec("w", (parameters // 4096, 4096)),))
    rng = np.random.default_rng(0)
    values = rng.standard_normal((parameters // 4096, 4096), dtype=np.float32)
    residual = Residual(manifest)
    residual.values["w"].fill(0.01)  # its pages exist
    compiled = for_model(parameters)
    assert compiled is not NUMPY, "numba is missing"

    def encoding(spec: CodecSpec, kernels: Kernels) -> Callable[[Array], object]:
        def once(update: Array) -> object:
            payload = encode({"w": update}, residual, spec, manifest, kernels, owned=True)
            residual.settle(accepted=False)
            return payload

        return once

    spec = SPECS["sparseloco_1_64"]
    payload, codec = encoding(spec, compiled)(values.copy()), codec_for(spec, manifest, compiled)
    assert isinstance(payload, bytes)
    tensor = torch.from_numpy(values)  # the largest instead of the largest magnitudes: as much work
    calls: dict[str, Callable[[Array], object]] = {
        "encode": encoding(spec, compiled),
        "topk": lambda _: torch.topk(tensor, 64, dim=1, sorted=False),
        "numpy": encoding(spec, NUMPY),
        "decode": lambda _: codec.decode(payload, SITE),
    }
    if parameters < BILLION:  # momentum would need another 8 GB
        calls["dgc"] = encoding(CodecSpec("DGC", Fraction(1, 1000), momentum=Fraction(1, 2)), compiled)
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(repeat):  # in turn, so that what else runs on the machine disturbs all alike
        for name, call in calls.items():
            update = values.copy()  # it becomes the error feedback, as a validator's does
            start = time.perf_counter()
            call(update)
            best[name] = min(best[name], time.perf_counter() - start)
    goal = 0.25 if parameters == M67 else None
    figures = [
        Figure(f"encode_{label}_seconds", best["encode"], "s", goal, "lower"),
        Figure(f"torch_topk_{label}_seconds", best["topk"], "s", None, "lower"),
        Figure(f"encode_{label}_over_torch_topk", best["encode"] / best["topk"], "x", 1.0, "lower"),
        Figure(f"encode_{label}_numpy_seconds", best["numpy"], "s", None, "lower"),
        Figure(f"decode_{label}_seconds", best["decode"], "s", None, "lower"),
    ]
    if "dgc" in best:
        figures.append(Figure(f"encode_{label}_dgc_0_1pct_seconds", best["dgc"], "s", None, "lower"))
    return figures


def memory(parameters: int, label: str) -> list[Figure]:
    """What one encoding and one decoding take beyond update and residual, each in a process of its own."""
    figures = []
    for what in ("encode", "encode_dgc", "decode") if parameters < BILLION else ("encode", "decode"):
        done = subprocess.run(
            [sys.executable, "-m", "covey_bench.codec", "--peak", what, str(parameters)],
            capture_output=True,
            text=True,
            check=True,
        )
        figures.append(Figure(f"{what}_{label}_peak_bytes_per_parameter", json.loads(done.stdout), "B", None, "lower"))
    return figures


def peak(what: str, parameters: int) -> float:
    """Bytes per parameter that this process needed at most, beyond what it had before."""
    manifest = Manifest((TensorSpec("w", (parameters // 4096, 4096)),))
    values = {"w": np.random.default_rng(0).standard_normal((parameters // 4096, 4096), dtype=np.float32)}
    residual, kernels = Residual(manifest), for_model(parameters)
    residual.values["w"].fill(0.01)
    spec = CodecSpec("DGC", Fraction(1, 1000)) if what == "encode_dgc" else CodecSpec()
    small = Manifest((TensorSpec("w", (512, 4096)),))
    warm = encode({"w": values["w"][:512]}, Residual(small), spec, small, kernels)  # the compiler's memory is not ours
    codec_for(spec, small, kernels).decode(warm, SITE)
    payload = b""
    if what == "decode":
        payload = encode(values, residual, spec, manifest, kernels)
        residual.settle(accepted=False)
    ctypes.CDLL(None).malloc_trim(0)  # what was freed is not there to be used again
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    if what == "decode":
        codec_for(spec, manifest, kernels).decode(payload, SITE)
    else:
        encode(values, residual, spec, manifest, kernels, owned=True)
    return (_status("VmHWM") - before) / parameters


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(field))


def main(arguments: list[str]) -> int:
    """Run all, print the table, write the file; 1 if a goal is missed."""
    if arguments[:1] == ["--peak"]:
        print(json.dumps(peak(arguments[1], int(arguments[2]))))
        return 0
    figures = ratios() + speed(M67, "67m") + memory(M67, "67m")
    if "--billion" in arguments:
        figures += speed(BILLION, "1b", repeat=3) + memory(BILLION, "1b")
    report.show("codec", figures)
    print(f"written: {report.write('codec', figures).relative_to(report.OUT.parents[1])}")
    return int(any(figure.met is False for figure in figures))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
