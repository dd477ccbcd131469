"""The flags of a series: short words that a table can be filtered by, from the reader's notes and the measures."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final

NOTE_FLAGS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "short": "short",
        "gap": "gaps",
        "uneven": "uneven",
        "resampled": "resampled",
        "tilt": "tilt",
        "oblique": "oblique",
        "duplicates": "duplicates",
        "rejected": "rejected",
        "split": "split",
        "no rescale": "no_rescale",
        "no geometry": "no_geometry",
        "conflict": "conflict",
        "windowed": "windowed",
        "inverted": "inverted",
        "padding": "padding",
        "empty slices": "empty_slices",
        "partial slices": "partial_slices",
        "quality": "not_measured",
    }
)
"""First words of a note → flag. Notes that say how a file was made (`multiframe`, `organ box`) are no flags."""

EXPLANATIONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "short": "fewer than 20 slices or less than 60 mm",
        "gaps": "slices are missing",
        "uneven": "slice distances differ",
        "resampled": "slices were interpolated onto an even grid",
        "tilt": "scanned with a tilted gantry",
        "oblique": "slices are not axial",
        "duplicates": "several slices at one position",
        "rejected": "some files of the series were not used",
        "split": "one of several stacks of its series",
        "no_rescale": "no rescale values, stored values taken as HU",
        "no_geometry": "no geometry stored, axes and spacing assumed",
        "conflict": "the header contradicts itself",
        "windowed": "values were limited to a window before",
        "inverted": "stored with inverted grey values",
        "padding": "padding values were set to air",
        "empty_slices": "slices without body were dropped",
        "partial_slices": "partly black slices were dropped or kept",
        "mirrored_suspect": "the liver lies on the left",
        "not_abdomen": "little or no abdomen in view",
        "incomplete_coverage": "does not reach from the lung bases to the pelvis",
        "low_body": "the body fills little of its box",
        "cut_body": "the field of view cuts the body off at the sides",
        "metal": "much metal",
        "odd_hu": "air, fat or soft tissue lie at unusual HU",
        "noisy": "much noise in soft tissue",
        "not_measured": "measures or picture could not be made",
    }
)
"""What each flag says, in a few words, in the order of the page."""

SHORT_SLICES: Final = 20
SHORT_MM: Final = 60.0
LOW_BODY: Final = 0.3
CUT_BODY: Final = 0.5
METAL_SHARE: Final = 0.0005
NOISY_HU: Final = 35.0
FAT_PEAK_HU: Final = (-125.0, -65.0)
SOFT_PEAK_HU: Final = (0.0, 150.0)
AIR_HU: Final = -900.0
MIN_TISSUE_SHARE: Final = 0.3
FULL_BODY: Final = 0.9


def note_flags(notes: Iterable[str]) -> set[str]:
    """Return the flags of notes of the form "word: …"; unknown words are no flags."""
    words = (note.partition(":")[0].strip() for note in notes)
    return {NOTE_FLAGS[word] for word in words if word in NOTE_FLAGS}


def is_organ_crop(notes: Iterable[str]) -> bool:
    """Whether a volume was cut to a box around organs, so that its borders say nothing about the scan."""
    return any(note.startswith("organ box") for note in notes)


def find_flags(row: Mapping[str, Any], notes: Iterable[str]) -> str:
    """Return all flags of a series, sorted, joined by ";".

    Args:
        row: Measures of `voco2d.quality.measure`, and `n_slices`, `coverage_mm` and `is_limited`.
        notes: Of the volume and of its preparation.
    """
    words = tuple(notes)
    from_notes = note_flags(words)
    is_crop = is_organ_crop(words)
    is_windowed = "windowed" in from_notes or bool(row["is_limited"])
    measured = {
        "short": row["n_slices"] < SHORT_SLICES or row["coverage_mm"] < SHORT_MM,
        "mirrored_suspect": row["liver_side"] == "left",
        "not_abdomen": row["is_abdomen"] == "no",
        "incomplete_coverage": row["coverage_state"] == "partial",
        "low_body": row["body_share"] < LOW_BODY,
        "cut_body": not is_crop and row["cut_share"] > CUT_BODY,
        "metal": row["metal_share"] > METAL_SHARE,
        "noisy": _above(row["noise_hu"], NOISY_HU),
        "windowed": is_windowed,
        "odd_hu": not is_windowed and _odd_hu(row),
    }
    return ";".join(sorted(from_notes | {flag for flag, is_set in measured.items() if is_set}))


def _odd_hu(row: Mapping[str, Any]) -> bool:
    """Whether a tissue lies where no scanner puts it: a wrong rescale, a window or other units."""
    fat, soft = row["fat_peak_hu"], row["soft_peak_hu"]
    if _outside(fat, FAT_PEAK_HU) or _outside(soft, SOFT_PEAK_HU):
        return True
    if row["fat_share"] + row["soft_share"] < MIN_TISSUE_SHARE:
        return True
    return bool(row["body_share"] < FULL_BODY and row["hu_p01"] > AIR_HU)


def _outside(value: float | None, limits: tuple[float, float]) -> bool:
    return value is not None and not limits[0] <= value <= limits[1]


def _above(value: float | None, limit: float) -> bool:
    return value is not None and value > limit
