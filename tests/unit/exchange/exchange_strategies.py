"""Models and updates for property tests."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from covey_exchange.codec import CodecSpec
from covey_exchange.codec.spec import DECAY
from covey_exchange.manifest import Manifest, TensorSpec
from hypothesis import strategies as st

DENSITIES = [Fraction(1, 1000), Fraction(1, 64), Fraction(1, 20), Fraction(1, 3), Fraction(2, 3), Fraction(1)]

specs = st.one_of(
    st.builds(CodecSpec, st.just("Dense"), value_bits=st.sampled_from([32, 16, 8])),
    st.builds(
        CodecSpec,
        st.just("DGC"),
        st.sampled_from(DENSITIES),
        momentum=st.sampled_from([Fraction(0), Fraction(9, 10)]),
        decay=st.sampled_from([Fraction(1), DECAY]),
    ),
    st.builds(
        CodecSpec,
        st.just("SparseLoCo"),
        st.sampled_from(DENSITIES),
        st.just(2),
        st.sampled_from([1, 7, 64, 100, 4096]),
    ),
)

shapes = st.sampled_from([(), (3,), (63,), (64,), (65,), (8, 16), (5, 13, 3), (300,), (4096,), (4100,), (64, 130)])

manifests = st.lists(shapes, min_size=1, max_size=4).map(
    lambda extents: Manifest(tuple(TensorSpec(f"layer{i}.weight", shape) for i, shape in enumerate(extents)))
)


@st.composite
def updates(draw: st.DrawFn, manifest: Manifest) -> dict[str, np.ndarray]:
    """Tensors of very different kinds: light and heavy tails, mostly zero, few distinct values, all equal, tiny."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    result = {}
    for tensor in manifest:
        n = tensor.elements
        kind = draw(st.sampled_from(["normal", "heavy", "sparse", "few", "equal", "zero", "tiny", "huge"]))
        values = {
            "normal": rng.normal(size=n),
            "heavy": rng.normal(size=n) * rng.lognormal(sigma=2, size=n),
            "sparse": rng.normal(size=n) * (rng.random(n) < 0.01),
            "few": rng.integers(-2, 3, size=n) * 0.25,
            "equal": np.full(n, -0.5),
            "zero": np.zeros(n) * rng.choice([-1, 1], size=n),
            "tiny": rng.normal(size=n) * 1e-41,
            "huge": rng.normal(size=n) * 1e37,
        }[kind]
        result[tensor.name] = values.astype(np.float32).reshape(tensor.shape)
    return result
