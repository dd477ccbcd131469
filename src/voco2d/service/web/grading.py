"""Grades one upload and draws what the page shows of it."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from json import loads
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from voco2d.inference.outcome import failure_reason
from voco2d.inference.predictor import Predictor
from voco2d.inference.result_files import RunTimes, report_text
from voco2d.inference.results import NOTICE, SeriesResult, group_studies
from voco2d.io.discover import discover
from voco2d.io.readers import read_source
from voco2d.io.source import Rejection, Source
from voco2d.io.volume import Volume
from voco2d.service.web.evidence import Evidence, Explain, Explained
from voco2d.service.web.pictures import (
    nifti_bytes,
    overlay_bytes,
    overview_slices,
    slice_picture,
    thinning,
    write_bytes,
)

Advance = Callable[[float, str], None]
"""Takes how much is done, 0 to 1, and what is being done."""


class NothingToGradeError(Exception):
    """An upload holds no CT series; the reason names no file."""


@dataclass
class _Found:
    series: list[SeriesResult] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)
    volumes: list[dict[str, Any]] = field(default_factory=list)


def grade_upload(
    predictor: Predictor, explain: Explain | None, scan: Path, out: Path, advance: Advance
) -> dict[str, Any]:
    """Grade all series below a folder, one after the other, and write volumes, overlays and key images.

    Args:
        predictor: Loaded once.
        explain: Gives the evidence of each target, or None: volumes are then shown alone.
        scan: Folder of what was uploaded.
        out: Folder for files; made where it is missing.
        advance: Told after each step.

    Returns:
        Plain values: `studies`, as `StudyResult.to_tree` gives them; `volumes`, what can be shown and its files;
        `skipped`, reason → files; `report`, how it came about.

    Raises:
        NothingToGradeError: There is no CT series.
        OSError: Files could not be written.
    """
    started = RunTimes.now()
    sources, strays = discover([scan])
    found = _Found(rejections=list(strays))
    for index, source in enumerate(sources):
        _grade_series(predictor, explain, source, out, found, _part(advance, index, len(sources)))
    if not found.series:
        raise NothingToGradeError(found.rejections[0].reason if found.rejections else "no CT series in it")
    studies = group_studies(found.series, predictor.scalers, predictor.targets)
    places = {id(entry): (i, j) for i, study in enumerate(studies) for j, entry in enumerate(study.series)}
    for entry, volume in zip(found.series, found.volumes, strict=True):
        volume["study"], volume["series"] = places[id(entry)]
    times = RunTimes(started, RunTimes.now(), 0.0)
    return {
        "notice": NOTICE,
        "studies": [study.to_tree() for study in studies],
        "volumes": found.volumes,
        "skipped": dict(Counter(rejection.reason for rejection in found.rejections)),
        "report": loads(report_text(predictor, studies, found.rejections, times)),
    }


def result_files(result: Mapping[str, Any]) -> set[str]:
    """Return the names of all files that a result offers."""
    names: set[str] = set()
    for volume in result["volumes"]:
        names |= {volume["file"], *volume["overlays"].values(), *(image["file"] for image in volume["images"])}
    return names


def _grade_series(
    predictor: Predictor, explain: Explain | None, source: Source, out: Path, found: _Found, advance: Advance
) -> None:
    """Read, grade, explain and draw one series; it is read once for all."""
    advance(0.0, "reading")
    try:
        volume, rejected = read_source(source, predictor.read_args)
    except Exception as error:  # whatever a damaged file made a decoder raise, other series are still graded
        found.rejections.append(Rejection("", failure_reason(error)))
        return
    found.rejections += rejected
    advance(0.3, "grading")
    if explain is None:
        explained = Explained(predictor.predict(volume))
    else:
        explained = explain(predictor, volume, lambda: advance(0.6, "explaining"))
    entry = explained.study.series[0]
    advance(0.8, "drawing")
    shown = _draw(volume, explained.evidence if entry.is_assessed else {}, out, len(found.volumes))
    found.volumes.append({**shown, "unexplained": explained.error if entry.is_assessed else ""})
    found.series.append(entry)


def _draw(volume: Volume, evidence: Mapping[str, Evidence], out: Path, number: int) -> dict[str, Any]:
    """Write the files of a volume and describe them."""
    step = thinning(volume.hu.shape)
    name = f"volume-{number}.nii.gz"
    write_bytes(out / name, nifti_bytes(volume.hu, volume.affine_lps, step))
    overlays: dict[str, str] = {}
    images: list[dict[str, Any]] = []
    for target, about in evidence.items():
        if about.overlay is not None:
            overlays[target] = f"overlay-{number}-{target}.nii.gz"
            write_bytes(out / overlays[target], overlay_bytes(about.overlay))
        images += _key_images(volume, target, about, out, number)
    for place, index in () if evidence else overview_slices(volume.hu.shape[0]):
        file = f"image-{number}-{place}.jpg"
        write_bytes(out / file, slice_picture(volume, index))
        images.append({"file": file, "target": None, "slice": index})
    return {
        "file": name,
        "slices": volume.hu.shape[0],
        "slice_step": step[0],
        "shown_slices": -(-volume.hu.shape[0] // step[0]),
        "slice_distance_mm": round(volume.spacing_mm[0], 4),
        "overlays": overlays,
        "images": images,
        "key_slices": {target: list(about.key_slices) for target, about in evidence.items()},
        "slice_scores": {target: _plain(about.slice_scores) for target, about in evidence.items()},
    }


def _key_images(volume: Volume, target: str, about: Evidence, out: Path, number: int) -> list[dict[str, Any]]:
    """Write the pictures of a target's key slices; where there are none, the slice that says most."""
    images = []
    for rank, (index, picture) in enumerate(zip(about.key_slices, about.pictures, strict=False), start=1):
        file = f"image-{number}-{target}-{rank}.png"
        write_bytes(out / file, picture)
        images.append({"file": file, "target": target, "slice": index})
    if not images:
        file = f"image-{number}-{target}.jpg"
        write_bytes(out / file, slice_picture(volume, about.key_slices[0]))
        images.append({"file": file, "target": target, "slice": about.key_slices[0]})
    return images


def _plain(scores: Float[np.ndarray, " Z"]) -> list[float | None]:
    """Return plain values of four digits, however small they are, None where nothing was looked at."""
    return [float(f"{score + 0.0:.4g}") if np.isfinite(score) else None for score in scores]


def _part(advance: Advance, index: int, count: int) -> Advance:
    """Turn the progress of one series into that of all."""

    def of_series(share: float, stage: str) -> None:
        words = f"{stage} series {index + 1} of {count}" if count > 1 else f"{stage} the series"
        advance((index + share) / count, words)

    return of_series
