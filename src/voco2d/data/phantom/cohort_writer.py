"""A phantom cohort on disk, in the layout of the RSNA 2023 competition's data."""

import csv
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from voco2d.data.phantom.args import PhantomArgs
from voco2d.data.phantom.dicom_writer import write_dicom_series
from voco2d.data.phantom.labels import label_row
from voco2d.data.phantom.mask_writer import write_masks
from voco2d.data.phantom.series import PhantomSeries, make_series, patient_grades, patient_number
from voco2d.errors import UsageError, Voco2dError
from voco2d.progress import Progress
from voco2d.targets import CLASS_COLUMNS, TARGETS
from voco2d.workers import available_cores, run_jobs

_FORMAT = 2
_INJURY_NAMES: Mapping[str, str] = {"bowel": "Bowel", "extravasation": "Active_Extravasation"}
_PENDING = ".pending"
_SETTINGS = "phantom.json"


@dataclass(frozen=True)
class CohortSummary:
    """What was written.

    Args:
        out: The cohort's folder.
        patients: Patients in it.
        series: Series in it.
        slices: DICOM files in it.
        continued: Patients that an earlier, interrupted call had already written.
    """

    out: Path
    patients: int
    series: int
    slices: int
    continued: int


def write_cohort(out: Path, patients: int, seed: int, args: PhantomArgs | None = None) -> CohortSummary:
    """Write a cohort of phantom patients; the same seed gives the same bytes, whatever the number of workers.

    Under `out`: `train_images/<patient>/<series>/<instance>.dcm`, `segmentations/<series>.nii`, `train.csv`,
    `train_series_meta.csv`, `image_level_labels.csv`, `sample_submission.csv` and `phantom.json`
    (the settings). An interrupted call with the same settings is continued.

    Args:
        out: A folder that is new or empty, or holds an interrupted cohort of the same settings.
        patients: How many, at least 1.
        seed: Seed of the cohort, at least 0.
        args: Settings.

    Raises:
        UsageError: A number is out of range, or the folder holds something else.
        Voco2dError: A file can't be written, for example because the disk is full; what is there is kept and continued.
    """
    args = args or PhantomArgs()
    if patients < 1 or seed < 0:
        raise UsageError(f"patients={patients}, seed={seed}: patients must be at least 1 and the seed at least 0")
    settings = _settings(patients, seed, args)
    try:
        return _continue(out, patients, seed, args, settings)
    except OSError as error:
        reason = error.strerror or str(error)
        raise Voco2dError(f"{out}: {reason}; mend that and call again with the same settings to continue") from error


def _continue(out: Path, patients: int, seed: int, args: PhantomArgs, settings: Mapping[str, Any]) -> CohortSummary:
    done = _claim(out, settings)
    drawn = range(args.first_patient, args.first_patient + patients)
    todo = [patient for patient in drawn if patient not in done]
    with Progress("phantom patients", patients, done=len(done)) as progress:
        workers = min(args.workers or available_cores(), max(len(todo), 1))
        for _ in run_jobs(partial(_write_patient, out, seed, args), todo, workers):
            progress.advance()
    records = [_read_json(_record_path(out, patient)) for patient in drawn]
    series = [entry for record in records for entry in record["series"]]
    _write_tables(out, [label_row(patient_grades(seed, patient, args)) for patient in drawn], records)
    _write_json(out / _SETTINGS, {**settings, "complete": True})
    shutil.rmtree(out / _PENDING)
    return CohortSummary(out, patients, len(series), sum(entry["slices"] for entry in series), len(done))


def _settings(patients: int, seed: int, args: PhantomArgs) -> dict[str, Any]:
    drawn = {key: value for key, value in asdict(args).items() if key != "workers"}
    return {"format": _FORMAT, "patients": patients, "seed": seed, "args": drawn, "complete": False}


def _claim(out: Path, settings: Mapping[str, Any]) -> set[int]:
    """Make the folder ours; return the patients that are already there."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out}: is a file; name a new folder for the cohort")
    if out.is_dir() and any(out.iterdir()):
        try:
            found = _read_json(out / _SETTINGS)
        except (OSError, ValueError):
            raise UsageError(f"{out}: is not empty and holds no phantom cohort; name a new folder") from None
        if found != settings:
            state = "a finished cohort" if found.get("complete") else "an interrupted cohort of other settings"
            raise UsageError(f"{out}: holds {state}; name a new folder or delete it")
    else:
        out.mkdir(parents=True, exist_ok=True)
        _write_json(out / _SETTINGS, settings)
    (out / _PENDING).mkdir(exist_ok=True)
    return {int(path.stem) for path in (out / _PENDING).glob("*.json")}


def _write_patient(out: Path, seed: int, args: PhantomArgs, patient: int) -> None:
    """Write a patient's series, then the record that says so."""
    entries = [_write_series(out, args, series) for series in make_series(seed, patient, args)]
    _write_json(_record_path(out, patient), {"patient_id": patient_number(patient), "series": entries})


def _write_series(out: Path, args: PhantomArgs, series: PhantomSeries) -> dict[str, Any]:
    """Write files and masks of a series under temporary names, rename them, and return its table rows."""
    final = out / "train_images" / str(series.patient_id) / str(series.series_id)
    partial_folder = final.with_name(f".{final.name}.partial")
    for stale in (partial_folder, final):
        shutil.rmtree(stale, ignore_errors=True)
    partial_folder.mkdir(parents=True)
    write_dicom_series(series, partial_folder, args.hospital)
    partial_folder.replace(final)
    if args.masks:
        masks = out / "segmentations" / f"{series.series_id}.nii"
        masks.parent.mkdir(exist_ok=True)
        partial_masks = masks.with_name(f".{series.series_id}.partial.nii")
        write_masks(series, partial_masks)
        partial_masks.replace(masks)
    numbers = series.instance_numbers
    shown = {
        injury: sorted(numbers[z] for z in series.shown[target])
        for target, injury in _INJURY_NAMES.items()
        if series.grades[target]
    }
    return {
        "series_id": series.series_id,
        "aortic_hu": series.aortic_hu,
        "incomplete": int(series.scan.incomplete),
        "slices": len(series.hu),
        "shown": shown,
    }


def _write_tables(out: Path, labels: Sequence[Mapping[str, int]], records: Sequence[Mapping[str, Any]]) -> None:
    patients = [record["patient_id"] for record in records]
    series = [(record["patient_id"], entry) for record in records for entry in record["series"]]
    _write_csv(
        out / "train.csv",
        ("patient_id", *CLASS_COLUMNS, "any_injury"),
        ([patient, *row.values()] for patient, row in zip(patients, labels, strict=True)),
    )
    _write_csv(
        out / "train_series_meta.csv",
        ("patient_id", "series_id", "aortic_hu", "incomplete_organ"),
        ([patient, entry["series_id"], entry["aortic_hu"], entry["incomplete"]] for patient, entry in series),
    )
    _write_csv(
        out / "image_level_labels.csv",
        ("patient_id", "series_id", "instance_number", "injury_name"),
        (
            [patient, entry["series_id"], number, injury]
            for patient, entry in series
            for injury, numbers in entry["shown"].items()
            for number in numbers
        ),
    )
    uniform = [1 / len(target.classes) for target in TARGETS.values() for _ in target.classes]
    _write_csv(
        out / "sample_submission.csv", ("patient_id", *CLASS_COLUMNS), ([patient, *uniform] for patient in patients[:3])
    )


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    partial_file = path.with_name(f".{path.name}.partial")
    with partial_file.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
    partial_file.replace(path)


def _record_path(out: Path, patient: int) -> Path:
    return out / _PENDING / f"{patient}.json"


def _write_json(path: Path, tree: Mapping[str, Any]) -> None:
    partial_file = path.with_name(f".{path.name}.partial")
    partial_file.write_text(json.dumps(tree, indent=1), encoding="utf-8")
    partial_file.replace(path)


def _read_json(path: Path) -> dict[str, Any]:
    tree: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return tree
