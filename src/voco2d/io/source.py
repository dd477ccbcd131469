"""What is to be read, what was passed over and why, and how to read: words that discovery and readers share."""

from dataclasses import dataclass
from pathlib import Path

from voco2d.errors import ConfigError
from voco2d.io.hounsfield import WINDOWED_HU
from voco2d.io.orientation import is_axis_code
from voco2d.io.volume import MIN_SLICES


@dataclass(frozen=True)
class Source:
    """One volume to be read.

    Args:
        kind: Format, a key of `voco2d.io.readers.READERS`.
        path: What a user would name: the series folder or the file. A DICOM series that shares its folder with
            other series is named by its first file.
        files: The files that hold it, sorted.
        patient_id: Identifier that comes before the one in the file; `None` takes the file's.
        series_id: Likewise for the series.
        part: Which part of a split DICOM series this is, and of how many, both counted from 1; (1, 1) is a whole one.
        stack: Of the stacks that `files` hold, the one to read: 0 is the largest. Only a multi-frame file needs it,
            since other stacks are kept apart by their files.
        study_id: As `patient_id`, for the study.
    """

    kind: str
    path: Path
    files: tuple[Path, ...]
    patient_id: str | None = None
    series_id: str | None = None
    part: tuple[int, int] = (1, 1)
    stack: int = 0
    study_id: str | None = None


@dataclass(frozen=True)
class Rejection:
    """One file or series that was not read.

    Args:
        path: Where it lies.
        reason: Why, in a few words without any identifier.
    """

    path: str
    reason: str


@dataclass(frozen=True)
class ReadArgs:
    """How to read.

    Args:
        identity_axes: Directions in which the three array axes of a NIfTI file increase when its header stores no
            geometry (identity affine, or neither qform nor sform): one letter an axis, of R or L, A or P, S or I.
            "RAS" is what such a header says; many public conversions are truly something else, for example "ARI".
        windowed_hu: Low and high HU of the window that 8-bit values (0 to 255) are taken for, where no file says it.
        min_slices: Fewest slices of a volume, at least 2.
        correct_tilt: Shear the slices of a scan with a tilted gantry onto a rectangular grid.
        fill_gaps: Interpolate slices where some are missing or their distances are uneven; otherwise the stack is
            taken as it is and the gaps are noted.
    """

    identity_axes: str = "RAS"
    windowed_hu: tuple[float, float] = WINDOWED_HU
    min_slices: int = MIN_SLICES
    correct_tilt: bool = True
    fill_gaps: bool = False

    def __post_init__(self) -> None:
        if not is_axis_code(self.identity_axes):
            raise ConfigError(
                f"identity_axes is {self.identity_axes!r}; give one letter an axis, of R or L, A or P, S or I, e.g. RAS"
            )
        if not self.windowed_hu[0] < self.windowed_hu[1]:
            raise ConfigError(f"windowed_hu is {self.windowed_hu}; the first must be below the second")
        if self.min_slices < 2:
            raise ConfigError(f"min_slices is {self.min_slices}; a volume needs at least 2 slices to have a spacing")
