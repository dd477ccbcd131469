import csv
import hashlib
import json
from collections import defaultdict
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest

from voco2d.data.phantom import PhantomArgs, make_series, write_cohort
from voco2d.data.phantom import cohort_writer as writer
from voco2d.data.phantom.series import patient_number
from voco2d.errors import UsageError, Voco2dError

ARGS = PhantomArgs(size=48, mean_slices=14, enriched=True, workers=1)
PATIENTS = 3


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("phantom") / "cohort"
    summary = write_cohort(out, PATIENTS, 0, ARGS)
    assert (summary.patients, summary.continued) == (PATIENTS, 0)
    assert summary.slices == len(list(out.rglob("*.dcm")))
    assert summary.series == len(list((out / "segmentations").iterdir()))
    return out


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _hashes(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_tables_agree_with_the_files(cohort: Path) -> None:
    folders = {
        (path.parent.name, path.name): {int(file.stem) for file in path.iterdir()}
        for path in (cohort / "train_images").glob("*/*")
    }
    meta = {(row["patient_id"], row["series_id"]) for row in _rows(cohort / "train_series_meta.csv")}
    assert meta == set(folders)
    assert {patient for patient, _ in meta} == {row["patient_id"] for row in _rows(cohort / "train.csv")}
    labels = {row["patient_id"]: row for row in _rows(cohort / "train.csv")}
    shown: defaultdict[tuple[str, str, str], list[int]] = defaultdict(list)
    for row in _rows(cohort / "image_level_labels.csv"):
        shown[row["patient_id"], row["series_id"], row["injury_name"]].append(int(row["instance_number"]))
    for (patient, series, injury), numbers in shown.items():
        column = {"Bowel": "bowel_injury", "Active_Extravasation": "extravasation_injury"}[injury]
        assert labels[patient][column] == "1"
        assert set(numbers) <= folders[patient, series]
    injured = {(p, s) for p, s in folders if labels[p]["bowel_injury"] == "1"}
    assert {(p, s) for p, s, injury in shown if injury == "Bowel"} == injured
    assert injured


@pytest.mark.realdata
@pytest.mark.parametrize(
    "name", ["train.csv", "train_series_meta.csv", "image_level_labels.csv", "sample_submission.csv"]
)
def test_columns_are_those_of_the_real_tables(cohort: Path, real_data: Path, name: str) -> None:
    with (cohort / name).open() as ours, (real_data / "rsna" / name).open() as real:
        assert ours.readline() == real.readline()


@pytest.mark.realdata
def test_tags_are_those_of_the_real_files(cohort: Path, real_data: Path) -> None:
    real = pydicom.dcmread(next((real_data / "dicom" / "rsna_rle").rglob("*.dcm")))
    for folder in (cohort / "train_images").glob("*/*"):
        ours = pydicom.dcmread(next(folder.iterdir()))
        assert [(e.tag, e.VR, e.VM) for e in ours] == [(e.tag, e.VR, e.VM) for e in real]
        assert ours.file_meta.TransferSyntaxUID == real.file_meta.TransferSyntaxUID
        assert ours.ImageOrientationPatient == real.ImageOrientationPatient


def test_files_hold_the_series(cohort: Path) -> None:
    for patient in range(PATIENTS):
        for series in make_series(0, patient, ARGS):
            folder = cohort / "train_images" / str(series.patient_id) / str(series.series_id)
            heights = []
            for z, number in enumerate(series.instance_numbers):
                dataset = pydicom.dcmread(folder / f"{number}.dcm")
                hu = dataset.pixel_array * dataset.RescaleSlope + dataset.RescaleIntercept
                np.testing.assert_array_equal(hu, series.hu[z])
                assert dataset.InstanceNumber == number
                assert dataset.PatientPosition == series.scan.position
                heights.append(float(dataset.ImagePositionPatient[2]))
            np.testing.assert_allclose(np.diff(heights), -series.spacing_mm[0], atol=2e-3)


def test_masks_lie_on_the_dicom_grid(cohort: Path) -> None:
    series = make_series(0, 0, ARGS)[0]
    image = nib.load(cohort / "segmentations" / f"{series.series_id}.nii")
    organs = np.asarray(image.dataobj)
    np.testing.assert_array_equal(organs.transpose(2, 1, 0), series.organs)
    folder = cohort / "train_images" / str(series.patient_id) / str(series.series_id)
    z, row, column = 3, 10, 20
    dataset = pydicom.dcmread(folder / f"{series.instance_numbers[z]}.dcm")
    corner = np.array(dataset.ImagePositionPatient, dtype=float)
    lps = corner + np.array([column * dataset.PixelSpacing[1], row * dataset.PixelSpacing[0], 0.0])
    ras = image.affine @ [column, row, z, 1]
    np.testing.assert_allclose(ras[:3], lps * [-1, -1, 1], atol=1e-2)


def test_bytes_do_not_depend_on_the_workers(cohort: Path, tmp_path: Path) -> None:
    out = tmp_path / "again"
    write_cohort(out, PATIENTS, 0, PhantomArgs(size=48, mean_slices=14, enriched=True, workers=2))
    assert _hashes(out) == _hashes(cohort)


def test_an_interrupted_cohort_is_continued(cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "broken"
    real = writer.write_dicom_series

    def fails(series: object, folder: Path, hospital: bool) -> None:
        if series.patient_id == patient_number(1):  # type: ignore[attr-defined]
            (folder / "half.dcm").write_bytes(b"half")
            raise OSError(28, "No space left on device")
        real(series, folder, hospital)  # type: ignore[arg-type]

    monkeypatch.setattr(writer, "write_dicom_series", fails)
    with pytest.raises(Voco2dError, match="No space left on device; mend that"):
        write_cohort(out, PATIENTS, 0, ARGS)
    monkeypatch.undo()
    assert not (out / "train.csv").exists()
    assert write_cohort(out, PATIENTS, 0, ARGS).continued == 1
    assert _hashes(out) == _hashes(cohort)


def test_other_folders_are_refused(cohort: Path, tmp_path: Path) -> None:
    before = _hashes(cohort)
    with pytest.raises(UsageError, match="finished cohort"):
        write_cohort(cohort, PATIENTS, 0, ARGS)
    assert _hashes(cohort) == before

    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="not empty"):
        write_cohort(tmp_path, 1, 0, ARGS)
    with pytest.raises(UsageError, match="is a file"):
        write_cohort(tmp_path / "notes.txt", 1, 0, ARGS)

    other = tmp_path / "other"
    other.mkdir()
    (other / "phantom.json").write_text(json.dumps({"complete": False}))
    with pytest.raises(UsageError, match="other settings"):
        write_cohort(other, 1, 0, ARGS)


@pytest.mark.parametrize(("patients", "seed"), [(0, 0), (1, -1)])
def test_numbers_out_of_range_are_refused(tmp_path: Path, patients: int, seed: int) -> None:
    with pytest.raises(UsageError, match="at least"):
        write_cohort(tmp_path / "out", patients, seed, ARGS)
    assert not (tmp_path / "out").exists()
