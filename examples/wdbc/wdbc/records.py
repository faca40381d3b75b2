"""Schema `wdbc-v1`: a member's records are one file `records.npz` with two arrays.

* `x`: float32 [n, 30], the measurements of cell nuclei in the data set's published order and units;
* `y`: integer [n], 1 for malignant and 0 for benign.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from covey_trainer.errors import DataInvalid
from numpy.typing import NDArray

FILE = "records.npz"
FEATURES = 30

# Minimum and maximum of each feature as the data set's public description lists them. Every member scales by the same
# published numbers, so that nothing about its own records goes into the model's input.
_RANGES = np.array(
    [
        *[(6.981, 28.11), (9.71, 39.28), (43.79, 188.5), (143.5, 2501.0), (0.053, 0.163)],
        *[(0.019, 0.345), (0.0, 0.427), (0.0, 0.201), (0.106, 0.304), (0.05, 0.097)],
        *[(0.112, 2.873), (0.36, 4.885), (0.757, 21.98), (6.802, 542.2), (0.002, 0.031)],
        *[(0.002, 0.135), (0.0, 0.396), (0.0, 0.053), (0.008, 0.079), (0.001, 0.03)],
        *[(7.93, 36.04), (12.02, 49.54), (50.41, 251.2), (185.2, 4254.0), (0.071, 0.223)],
        *[(0.027, 1.058), (0.0, 1.252), (0.0, 0.291), (0.156, 0.664), (0.055, 0.208)],
    ],
    dtype=np.float64,
)


def read(directory: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Records of a folder, scaled for training.

    Returns:
        (x float32 [n, 30] in [-2, 2], y float32 [n] of 0 and 1).

    Raises:
        DataInvalid: no readable `records.npz`, or arrays that do not follow `wdbc-v1`; names the array.
    """
    path = directory / FILE
    try:
        with np.load(path, allow_pickle=False) as stored:
            x, y = _array(stored, "x"), _array(stored, "y")
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise _invalid(f"{FILE} cannot be read ({error})") from error
    if x.ndim != 2 or x.shape[1] != FEATURES:
        raise _invalid(f"x has shape {x.shape}, not [n, {FEATURES}]")
    if y.shape != x.shape[:1]:
        raise _invalid(f"y has shape {y.shape}, but x holds {x.shape[0]} records")
    if not np.issubdtype(x.dtype, np.floating):
        raise _invalid(f"x is {x.dtype}, not float32")
    finite = np.isfinite(x).all(axis=1)
    if not finite.all():
        raise _invalid(f"x is not finite in record {int(np.argmin(finite))}")
    if not np.isin(y, (0, 1)).all():
        raise _invalid("y holds other labels than 0 (benign) and 1 (malignant)")
    return scale(x), y.astype(np.float32)


def scale(x: NDArray[Any]) -> NDArray[np.float32]:
    """Measurements [n, 30] to [-2, 2]; the square root spreads the crowded lower ends of the ranges."""
    low, high = _RANGES.T
    return (4 * np.sqrt(np.clip((x - low) / (high - low), 0, 1)) - 2).astype(np.float32)


def _array(stored: Any, name: str) -> NDArray[Any]:  # noqa: ANN401
    if name not in stored:
        raise _invalid(f'{FILE} has no array "{name}"')
    return np.asarray(stored[name])


def _invalid(problem: str) -> DataInvalid:
    return DataInvalid(
        f"The data set does not follow schema wdbc-v1: {problem}.",
        "Mend the records, or correct claimName and path of the Subnet's data set.",
    )
