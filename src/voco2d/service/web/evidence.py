"""What an explanation offers the page, and the seam to whoever explains."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from jaxtyping import Float

from voco2d.inference.predictor import Predictor
from voco2d.inference.results import StudyResult
from voco2d.io.volume import Volume
from voco2d.types import Matrix


@dataclass(frozen=True)
class Overlay:
    """Where in a scan most speaks for an injury.

    Args:
        voxels: (Z, H, W) 0…1, on a grid of its own.
        affine_lps: (4, 4) map from its voxel index (z, h, w) to LPS millimetres.
    """

    voxels: Float[np.ndarray, "Z H W"]
    affine_lps: Matrix


@dataclass(frozen=True)
class Evidence:
    """Why one target was graded as it was.

    Args:
        key_slices: Slices of the volume, from 0, the one that speaks most for an injury first; at least one.
        slice_scores: (Z) one a slice of the volume, higher is more; NaN where nothing was looked at.
        overlay: Or None.
        pictures: PNG of each key slice, or none at all.
    """

    key_slices: tuple[int, ...]
    slice_scores: Float[np.ndarray, " Z"]
    overlay: Overlay | None = None
    pictures: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class Explained:
    """An answer and why it was given.

    Args:
        study: The answer, the same as without an explanation.
        evidence: Target → evidence; targets may be missing.
        error: Why there is no evidence, or empty.
    """

    study: StudyResult
    evidence: Mapping[str, Evidence] = field(default_factory=dict)
    error: str = ""


Explain: TypeAlias = Callable[[Predictor, Volume, Callable[[], None]], Explained]
"""Grades and explains a volume; calls what it is given once the answer is there and the explanation begins."""
