"""Shape aliases shared by everyone; axis letters are the same everywhere.

B volumes, S slices, R random crops, K base crops, C channels, H W in-plane, D features, Z depth.
"""

from typing import TypeAlias

import numpy as np
from jaxtyping import Float, Int16

HuVolume: TypeAlias = Int16[np.ndarray, "Z H W"]
"""A volume in Hounsfield units; Z superior to inferior, H anterior to posterior, W patient's right to left."""

Millimetres3: TypeAlias = tuple[float, float, float]
"""Millimetres along (Z, H, W)."""

Shape3: TypeAlias = tuple[int, int, int]
"""Voxels along (Z, H, W)."""

Matrix: TypeAlias = Float[np.ndarray, "rows columns"]
