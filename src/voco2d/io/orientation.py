"""Turns arrays into the patient's axes, and affines into spacing, direction and origin.

An axis code has one letter an array axis: the direction in which its index increases (R right, L left, A anterior,
P posterior, S superior, I inferior; nibabel's `aff2axcodes`). A volume here is "IPL".
"""

import itertools
from typing import TypeAlias

import numpy as np
from jaxtyping import Float, Shaped

from voco2d.types import Millimetres3

Affine: TypeAlias = Float[np.ndarray, "4 4"]
"""Map from voxel index to patient millimetres, LPS unless it is said to be RAS."""

PATIENT_AXES = "IPL"
"""Axis code of every `Volume`: superior to inferior, anterior to posterior, right to left."""

_LPS_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_LPS_UNITS = {
    "L": (1.0, 0.0, 0.0),
    "R": (-1.0, 0.0, 0.0),
    "P": (0.0, 1.0, 0.0),
    "A": (0.0, -1.0, 0.0),
    "S": (0.0, 0.0, 1.0),
    "I": (0.0, 0.0, -1.0),
}
_PAIRS = ({"L", "R"}, {"A", "P"}, {"S", "I"})


def is_axis_code(code: str) -> bool:
    """Say whether `code` names each body axis once, for example "RAS" or "IPL"."""
    return len(code) == 3 and all(len(pair & set(code)) == 1 for pair in _PAIRS)


def axes_affine(code: str, spacing_mm: Millimetres3) -> Affine:
    """(4, 4) LPS affine of an array whose axes run as `code` says, with voxel [0, 0, 0] at the origin.

    Args:
        code: A code for which `is_axis_code` holds.
        spacing_mm: Distance of voxel centres along the three array axes, millimetres.
    """
    affine = np.eye(4)
    for axis, letter in enumerate(code):
        affine[:3, axis] = np.multiply(_LPS_UNITS[letter], spacing_mm[axis])
    return affine


def swap_lps_ras(affine: Affine) -> Affine:
    """Turn a (4, 4) RAS affine into an LPS affine, or back."""
    return np.asarray(_LPS_RAS @ affine)


def to_patient_axes(
    array: Shaped[np.ndarray, "a b c"], affine_lps: Affine
) -> tuple[Shaped[np.ndarray, "Z H W"], Affine]:
    """Flip and transpose `array` into the axes closest to `PATIENT_AXES`; nothing is interpolated.

    Args:
        array: Voxels in any axis order.
        affine_lps: (4, 4) map from its voxel index to LPS millimetres; invertible.

    Returns:
        A view of the array, and the affine that maps the view's indices to the same points as before.
    """
    order, signs = _closest_axes(affine_lps)
    turned = np.transpose(array, order)
    affine = affine_lps[:, [*order, 3]]
    for axis, sign in enumerate(signs):
        if sign < 0:
            turned = np.flip(turned, axis)
            affine[:, 3] += affine[:, axis] * (turned.shape[axis] - 1)
            affine[:, axis] *= -1
    return turned, affine


def split_affine(affine_lps: Affine) -> tuple[Millimetres3, Float[np.ndarray, "3 3"], Millimetres3]:
    """Spacing in mm, (3, 3) unit direction columns and origin in mm of a (4, 4) LPS affine."""
    spacing = np.linalg.norm(affine_lps[:3, :3], axis=0)
    direction = affine_lps[:3, :3] / spacing
    return _three(spacing), direction, _three(affine_lps[:3, 3])


def obliquity_deg(affine_lps: Affine) -> float:
    """Largest angle between an array axis and the body axis closest to it, degrees, 0 to 55."""
    _, direction, _ = split_affine(affine_lps)
    nearest = np.abs(direction).max(axis=0).min()
    return float(np.degrees(np.arccos(np.clip(nearest, 0.0, 1.0))))


def _three(values: np.ndarray) -> Millimetres3:
    return float(values[0]), float(values[1]), float(values[2])


def _closest_axes(affine_lps: Affine) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """For each of `PATIENT_AXES` the array axis closest to it, and +1, or -1 where it runs the other way."""
    _, direction, _ = split_affine(affine_lps)
    cosines = np.array([_LPS_UNITS[letter] for letter in PATIENT_AXES]) @ direction
    orders = itertools.permutations(range(3))
    order = max(orders, key=lambda axes: sum(abs(cosines[row, axis]) for row, axis in enumerate(axes)))
    return order, tuple(float(np.sign(cosines[row, axis])) for row, axis in enumerate(order))
