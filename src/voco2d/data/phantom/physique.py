"""A patient's build and the enhancement of blood and organs by contrast phase."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

Phase = Literal["arterial", "portal"]

_ENHANCEMENT_HU: Mapping[Phase, Mapping[str, float]] = {
    "arterial": {
        "artery": 310, "vein": 95, "portal_vein": 120, "liver": 78, "spleen": 128, "cortex": 190, "medulla": 85,
        "bowel_wall": 95, "pancreas": 105, "muscle": 56, "myocardium": 95, "blush": 330,
    },
    "portal": {
        "artery": 165, "vein": 150, "portal_vein": 175, "liver": 114, "spleen": 124, "cortex": 185, "medulla": 160,
        "bowel_wall": 98, "pancreas": 98, "muscle": 62, "myocardium": 110, "blush": 290,
    },
}  # fmt: skip


@dataclass(frozen=True)
class Physique:
    """One patient's build.

    Args:
        scale: Size along (S, Y, X) over the standard patient's.
        fat_mm: Thickness of the subcutaneous fat at the waist, standard-patient millimetres.
        muscle_mm: Thickness of the muscles of the body wall.
        contrast: Factor on every enhancement of this patient, around 1.
        bone_hu: Hounsfield units of spongy bone.
    """

    scale: tuple[float, float, float]
    fat_mm: float
    muscle_mm: float
    contrast: float
    bone_hu: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Physique":
        """Draw one patient's build; fat and girth go together."""
        girth = float(np.clip(rng.normal(0, 1), -1.7, 2.2))
        height = float(np.clip(rng.normal(1.0, 0.05), 0.9, 1.12))
        y, x = (1.0 + 0.075 * girth + rng.normal(0, 0.025) for _ in range(2))
        return cls(
            scale=(height, float(y), float(x)),
            fat_mm=float(np.clip(16 + 8 * girth + rng.normal(0, 3), 4, 38)),
            muscle_mm=float(rng.uniform(9, 15)),
            contrast=float(np.clip(rng.normal(1.0, 0.06), 0.88, 1.12)),
            bone_hu=float(rng.uniform(140, 230)),
        )


@dataclass(frozen=True)
class Enhancement:
    """Hounsfield units of blood and organs in one series.

    Args:
        physique: Whose.
        phase: When.
    """

    physique: Physique
    phase: Phase

    def __getitem__(self, tissue: str) -> float:
        """Return a tissue's Hounsfield units."""
        return 40 + (_ENHANCEMENT_HU[self.phase][tissue] - 40) * self.physique.contrast
