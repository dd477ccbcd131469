"""One phantom patient in memory: labels, anatomy and the series that show it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from voco2d.data.phantom.args import PhantomArgs
from voco2d.data.phantom.bowel import paint_colon, paint_small_bowel, paint_stomach
from voco2d.data.phantom.canvas import Canvas, Deformation
from voco2d.data.phantom.injuries import SIGN, paint_injuries
from voco2d.data.phantom.labels import Grades, draw_grades
from voco2d.data.phantom.organs import (
    LEFT_KIDNEY,
    RIGHT_KIDNEY,
    paint_kidney,
    paint_liver,
    paint_small_organs,
    paint_spleen,
)
from voco2d.data.phantom.physique import Enhancement, Phase, Physique
from voco2d.data.phantom.scan import Scan, draw_scan, expose
from voco2d.data.phantom.scan_faults import blacken, draw_faults
from voco2d.data.phantom.skeleton import paint_skeleton
from voco2d.data.phantom.torso import paint_chest, paint_muscles, paint_table, paint_wall
from voco2d.data.phantom.vessels import AORTA, paint_vessels
from voco2d.types import HuVolume, Millimetres3

_LABELS, _BODY, _ANATOMY, _INJURY, _SCANS, _NOISE, _FAULTS = range(7)
_FIRST_PATIENT = 10_001
_SERIES_A_PATIENT = 2
_SIGN_MM2 = 40.0
"""A slice shows an injury from this area on."""


@dataclass(frozen=True)
class PhantomSeries:
    """One series of a phantom patient.

    Args:
        patient_id: The patient's number.
        series_id: The series' number.
        scan: How it was acquired.
        hu: (Z, H, W) Hounsfield units as stored in the files; downwards, to the back, to the patient's left.
        organs: (Z, H, W) 1 liver, 2 spleen, 3 left kidney, 4 right kidney, 5 bowel.
        signs: (Z, H, W) 0, or 1 + the index of the target of which the voxel shows the injury.
        grades: Target name -> class index.
        shown: Target name -> slices (indices of Z) that show its injury.
        aortic_hu: Mean Hounsfield units in the aorta.
    """

    patient_id: int
    series_id: int
    scan: Scan
    hu: HuVolume
    organs: UInt8[np.ndarray, "Z H W"]
    signs: UInt8[np.ndarray, "Z H W"]
    grades: Grades
    shown: Mapping[str, tuple[int, ...]]
    aortic_hu: float

    @property
    def spacing_mm(self) -> Millimetres3:
        """Distance of voxel centres along (Z, H, W), millimetres."""
        return self.scan.spacing_mm

    @property
    def instance_numbers(self) -> tuple[int, ...]:
        """Instance number of each slice, in the order of Z."""
        numbers = range(self.scan.first_instance, self.scan.first_instance + len(self.hu))
        return tuple(reversed(numbers)) if self.scan.upward else tuple(numbers)


def patient_number(patient: int) -> int:
    """Return the id of the patient with this index."""
    return _FIRST_PATIENT + patient


def patient_grades(seed: int, patient: int, args: PhantomArgs) -> Grades:
    """Return a patient's grades without painting anything."""
    return draw_grades(_stream(seed, patient, _LABELS), args.enriched)


def make_series(
    seed: int, patient: int, args: PhantomArgs | None = None, grades: Grades | None = None
) -> list[PhantomSeries]:
    """Draw a patient and paint the one or two series of the visit.

    Args:
        seed: Seed of the cohort.
        patient: Index of the patient, from 0; the result depends on nothing but these and `args`.
        args: Settings.
        grades: Injuries to paint instead of the drawn ones; the rest of the patient stays as it is.
    """
    args = args or PhantomArgs()
    grades = patient_grades(seed, patient, args) if grades is None else grades
    rng = _stream(seed, patient, _SCANS)
    physique = Physique.draw(_stream(seed, patient, _BODY))
    two = rng.random() < args.two_series_share
    first: Phase = "arterial" if rng.random() < 0.3 else "portal"
    phases: tuple[Phase, ...] = ("arterial", "portal") if two else (first,)
    numbers = rng.permutation(_SERIES_A_PATIENT) + 1000 + _SERIES_A_PATIENT * patient
    faults = _stream(seed, patient, _FAULTS)
    scans = [draw_faults(faults, args, draw_scan(rng, args, physique, phase), physique.scale[0]) for phase in phases]
    return [
        _paint_series(seed, patient, args, grades, physique, scan, int(number), index)
        for index, (scan, number) in enumerate(zip(scans, numbers, strict=False))
    ]


def _paint_series(
    seed: int,
    patient: int,
    args: PhantomArgs,
    grades: Grades,
    physique: Physique,
    scan: Scan,
    number: int,
    index: int,
) -> PhantomSeries:
    canvas = _paint_patient(seed, patient, args, grades, physique, scan)
    noise_rng = np.random.default_rng([seed, patient, _NOISE, index])
    hu = expose(canvas.hu, scan, noise_rng)
    aortic_hu = _aortic_hu(canvas, hu)
    blacken(hu, scan)
    area = scan.spacing_mm[1] * scan.spacing_mm[2]
    shown = {
        name: tuple(int(z) for z in np.flatnonzero((canvas.signs == value).sum(axis=(1, 2)) * area >= _SIGN_MM2))
        for name, value in SIGN.items()
    }
    return PhantomSeries(
        patient_id=patient_number(patient),
        series_id=number,
        scan=scan,
        hu=hu,
        organs=canvas.organs,
        signs=canvas.signs,
        grades=grades,
        shown=shown,
        aortic_hu=aortic_hu,
    )


def _paint_patient(
    seed: int, patient: int, args: PhantomArgs, grades: Grades, physique: Physique, scan: Scan
) -> Canvas:
    s, y, x = ((axis / scale).astype(np.float32) for axis, scale in zip(scan.axes_mm, physique.scale, strict=True))
    body_rng, *organ_rngs = _stream(seed, patient, _ANATOMY).spawn(10)
    canvas = Canvas(s, y, x, Deformation.draw(body_rng))
    tissue = Enhancement(physique, scan.phase)
    paint_wall(canvas, tissue, s[:, None, None])
    paint_chest(canvas, tissue)
    paint_muscles(canvas, tissue)
    paint_skeleton(canvas, tissue)
    paint_vessels(canvas, tissue, organ_rngs[0])
    paint_colon(canvas, tissue, organ_rngs[1])
    loops = paint_small_bowel(canvas, tissue, organ_rngs[2])
    paint_stomach(canvas, tissue, organ_rngs[3])
    paint_small_organs(canvas, tissue, organ_rngs[4])
    kidneys = [
        paint_kidney(canvas, tissue, rng, label)
        for rng, label in zip(organ_rngs[5:7], (LEFT_KIDNEY, RIGHT_KIDNEY), strict=True)
    ]
    organs = {
        "kidney": kidneys,
        "liver": [paint_liver(canvas, tissue, organ_rngs[7], kidneys[1:])],
        "spleen": [paint_spleen(canvas, tissue, organ_rngs[8], kidneys[:1])],
    }
    paint_injuries(canvas, tissue, _stream(seed, patient, _INJURY), grades, organs, loops, args.sign_scale)
    paint_table(canvas, y[None, :, None], x[None, None, :])
    return canvas


def _aortic_hu(canvas: Canvas, hu: HuVolume) -> float:
    s, y, x = AORTA[2]
    distance = (canvas.s - s) ** 2 + (canvas.y - y) ** 2 + (canvas.x - x) ** 2
    nearest = np.unravel_index(int(distance.argmin()), distance.shape)
    z, row, column = (int(place) for place in nearest)
    return round(float(hu[z, max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2].mean()), 2)


def _stream(seed: int, patient: int, purpose: int) -> np.random.Generator:
    return np.random.default_rng([seed, patient, purpose])
