"""Smooth random fields: cubic B-splines on a coarse lattice in patient coordinates, the same on every scan grid."""

import numpy as np
from jaxtyping import Float, Float32

Axis = Float32[np.ndarray, "_"]

LOW_MM = (-200.0, -190.0, -260.0)
HIGH_MM = (520.0, 190.0, 260.0)
"""Corners (S, Y, X) of the box in which fields are defined, standard-patient millimetres; beyond it they are held."""

_UNIT_DEVIATION = 0.479**-1.5
"""A cubic B-spline of white noise has a mean variance of 0.479 an axis; this brings it back to 1."""


class SmoothField:
    """A random scalar field of mean 0 and deviation `amplitude` that varies over about `step_mm`.

    Args:
        rng: Source of the lattice values; how much is drawn does not depend on the grid it is read on.
        step_mm: Lattice step, standard-patient millimetres.
        amplitude: Standard deviation of the values.
    """

    def __init__(self, rng: np.random.Generator, step_mm: float, amplitude: float) -> None:
        self._step = step_mm
        counts = [int(np.ceil((high - low) / step_mm)) + 3 for low, high in zip(LOW_MM, HIGH_MM, strict=True)]
        self._lattice = rng.standard_normal(counts, dtype=np.float32) * np.float32(amplitude * _UNIT_DEVIATION)

    def __call__(self, s: Axis, y: Axis, x: Axis) -> Float32[np.ndarray, "Z H W"]:
        """Evaluate on the grid spanned by three axes, standard-patient millimetres."""
        weights = [
            _weights(axis, low, self._step, count)
            for axis, low, count in zip((s, y, x), LOW_MM, self._lattice.shape, strict=True)
        ]
        along_s = np.tensordot(weights[0], self._lattice, axes=(1, 0))  # (Z, lattice, lattice)
        along_y = np.matmul(weights[1], along_s)  # (Z, H, lattice)
        values: Float32[np.ndarray, "Z H W"] = np.matmul(along_y, weights[2].T)  # (Z, H, W)
        return values


def _weights(axis: Axis, low: float, step: float, count: int) -> Float32[np.ndarray, "n lattice"]:
    place = np.clip((axis.astype(np.float64) - low) / step, 0, count - 3 - 1e-6)
    cell = np.floor(place).astype(np.int64)
    t = place - cell
    taps: Float[np.ndarray, "4 n"] = np.stack(
        [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]
    )
    matrix = np.zeros((len(axis), count), np.float32)
    for offset in range(4):
        matrix[np.arange(len(axis)), cell + offset] = taps[offset] / 6
    return matrix
