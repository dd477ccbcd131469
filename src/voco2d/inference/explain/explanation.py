"""What an explanation holds: for each target a curve along the scan, maps in the plane, and the key slices."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import nibabel
import numpy as np
from jaxtyping import Float, Float32

from voco2d.errors import ConfigError
from voco2d.inference.explain.evidence import (
    ATTENTION,
    HIDDEN_SLICES,
    INTEGRATED_GRADIENTS,
    MAX_POSITIONS,
    OCCLUSION,
)
from voco2d.inference.explain.source_grid import SourceGrid, SourceSlice
from voco2d.inference.results import DECIMALS, NOTICE
from voco2d.io.orientation import swap_lps_ras

RANKINGS: Final = (INTEGRATED_GRADIENTS, HIDDEN_SLICES)
"""Curves that key slices are ranked by, the first that there is; fixed before any of them was measured."""
NO_MAPS: Final = (
    "maps in the plane need gradients, which only the engine torch gives: explain the run that the package was "
    "exported from"
)

_METHODS: Final[Mapping[str, str]] = {
    OCCLUSION: "fall of the log-odds of {event} while three neighbouring slices are replaced by the mean slice",
    INTEGRATED_GRADIENTS: "share of a slice in the log-odds, on the way from a scan of mean slices to this one",
    MAX_POSITIONS: "what the features that take their maximum over slices here add to the log-odds",
    ATTENTION: "weight of the slice in the mean over slices, the same for all targets",
    HIDDEN_SLICES: "fall of the log-odds while three neighbouring slices of the scan are replaced by its mean slice",
}


@dataclass(frozen=True)
class KeySlice:
    """One of the slices that speak most for an injury.

    Args:
        rank: 1 is the first.
        slice: Which of the S slices that the networks saw, from 0.
        source: Where it lies in the scan.
        attribution: Its value on the curve that slices are ranked by, log-odds.
    """

    rank: int
    slice: int
    source: SourceSlice
    attribution: float


@dataclass(frozen=True)
class TargetExplanation:
    """Why one target was graded as it was.

    Args:
        name: Of the target.
        classes: Class → probability, as the series was answered; None where it was not assessed.
        curves: Method → (S) attributions, the mean over networks; positive speaks for an injury. Log-odds, but for
            `ATTENTION`, whose weights sum to 1.
        heat: (S, h, w) class activation maps of the crop, 0…1; the largest of the target is 1, or all are 0. None from
            an engine without gradients.
        key_slices: By rank, never neighbours. At least one, whatever the answer is.
    """

    name: str
    classes: Mapping[str, float] | None
    curves: Mapping[str, Float[np.ndarray, " S"]]
    heat: Float32[np.ndarray, "S h w"] | None
    key_slices: tuple[KeySlice, ...]

    @property
    def injury(self) -> float | None:
        """Probability of an injury of any grade, of other targets of any class but the first; None if not assessed."""
        return None if self.classes is None else 1 - next(iter(self.classes.values()))


@dataclass(frozen=True)
class SeriesExplanation:
    """Why the networks graded a series as they did; the same scan gives the same explanation.

    Args:
        series_id: Of the series; never for a log.
        networks: How many the curves and maps are the mean of.
        slices: (S) where the slices that the networks saw lie in the scan, from superior to inferior.
        targets: Name → its explanation.
        grid: How to get from maps and curves to the scan.
        event: What curves speak for, in words.
    """

    series_id: str
    networks: int
    slices: tuple[SourceSlice, ...]
    targets: Mapping[str, TargetExplanation]
    grid: SourceGrid
    event: str = "an injury"

    @property
    def ranked_by(self) -> str:
        """Method that key slices are ranked by, one of `RANKINGS`."""
        curves = next(iter(self.targets.values())).curves
        return next(method for method in RANKINGS if method in curves)

    @property
    def has_maps(self) -> bool:
        """Whether there are activation maps in the plane."""
        return all(told.heat is not None for told in self.targets.values())

    def source_curve(self, target: str, method: str | None = None) -> Float[np.ndarray, " Z"]:
        """Return a curve for each slice of the scan, by default the one of `ranked_by`; NaN where nothing was seen."""
        return self.grid.curve(self.targets[target].curves[method or self.ranked_by])

    def source_heat(self, target: str, index: int) -> Float32[np.ndarray, "H W"]:
        """Return the activation map of the `index`-th slice that the networks saw, 0…1, on the scan's pixels.

        Raises:
            ConfigError: The engine gives no maps.
        """
        return self.grid.plane(self._heat(target)[index])

    def source_overlay(self, target: str, index: int) -> Float32[np.ndarray, "H W"]:
        """Return slice `index` of the scan of what `heat_image` shows, on the scan's pixels, 0…1.

        Raises:
            ConfigError: The engine gives no maps.
        """
        weighted = self._weighted(target)
        if not self.grid.sees(index):
            return np.zeros(self.grid.shape[1:], dtype=np.float32)
        place = float(np.interp(index, self.grid.positions(), np.arange(len(weighted))))
        below = min(int(place), len(weighted) - 1)
        above = min(below + 1, len(weighted) - 1)
        share = np.float32(place - below)
        return self.grid.plane((1 - share) * weighted[below] + share * weighted[above])

    def heat_image(self, target: str) -> nibabel.Nifti1Image:
        """Return where in the scan most speaks for an injury, as a small NIfTI image for viewers to lay over it.

        Each activation map is weighted by its slice's positive attribution; the largest value is 1, or all are 0. Its
        voxels are prepared slices by cells of the map, its affine says where they lie.

        Raises:
            ConfigError: The engine gives no maps.
        """
        weighted = self._weighted(target)
        depth = self.grid.prepared[0]
        cells = weighted.reshape(len(weighted), -1)
        places = np.arange(depth)
        columns = [np.interp(places, self.grid.depths, cell) for cell in cells.T]
        heat = np.stack(columns, axis=1).reshape(depth, *weighted.shape[1:]).astype(np.float32)
        affine = swap_lps_ras(self.grid.heat_affine_lps((heat.shape[1], heat.shape[2])))
        image = nibabel.Nifti1Image(heat, affine)  # type: ignore[no-untyped-call]
        image.header.set_xyzt_units("mm")  # type: ignore[no-untyped-call]
        return image

    def _weighted(self, target: str) -> Float32[np.ndarray, "S h w"]:
        heat = self._heat(target)
        curve = np.clip(self.targets[target].curves[self.ranked_by], 0, None)
        weighted = heat * curve[:, None, None].astype(np.float32)
        highest = float(weighted.max())
        return np.asarray(weighted / np.float32(highest)) if highest > 0 else np.asarray(weighted)

    def _heat(self, target: str) -> Float32[np.ndarray, "S h w"]:
        heat = self.targets[target].heat
        if heat is None:
            raise ConfigError(NO_MAPS)
        return heat

    def to_tree(self) -> dict[str, Any]:
        """Return plain values; maps and pictures are left out."""
        return {
            "notice": NOTICE,
            "series_id": self.series_id,
            "networks": self.networks,
            "ranked_by": self.ranked_by,
            "maps": self.has_maps,
            "methods": {
                name: _METHODS[name].format(event=self.event) for name in next(iter(self.targets.values())).curves
            },
            "slices": [_slice_tree(place) for place in self.slices],
            "targets": {name: _target_tree(told) for name, told in self.targets.items()},
        }

    def to_json(self) -> str:
        """Write `to_tree` as JSON."""
        return json.dumps(self.to_tree(), indent=2, allow_nan=False) + "\n"


def _slice_tree(place: SourceSlice) -> dict[str, Any]:
    return {
        "source_slice": place.index,
        "source_position": round(place.position, 3),
        "instance_number": place.instance_number,
        "sop_instance_uid": place.instance_uid or None,
        "position_mm": [round(value, 3) for value in place.position_mm],
    }


def _target_tree(told: TargetExplanation) -> dict[str, Any]:
    classes = None if told.classes is None else {name: round(value, DECIMALS) for name, value in told.classes.items()}
    return {
        "injury": None if told.injury is None else round(told.injury, DECIMALS),
        "classes": classes,
        "key_slices": [
            {
                "rank": key.rank,
                "slice": key.slice,
                "attribution": round(key.attribution, DECIMALS),
                **_slice_tree(key.source),
            }
            for key in told.key_slices
        ],
        "curves": {name: np.round(curve, DECIMALS).tolist() for name, curve in told.curves.items()},
    }
