"""The whole way on real scans: prepare all, pretrain on it, grade raw files; anatomy lies where it should."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from voco2d import VolumeStore
from voco2d.cli import main
from voco2d.io.orientation import swap_lps_ras, to_patient_axes
from voco2d.io.readers import read_volume
from voco2d.preprocessing.preprocess import PreprocessArgs, prepare_volume
from voco2d.preprocessing.spatial import resize_area
from voco2d.targets import TARGETS

pytestmark = pytest.mark.realdata

BACKBONE = "backbone=test_efficientnet"
METHOD = ("method.crop=32", "method.slices=4", "method.hidden=32")
READOUT = ("readout.slices=8", "readout.crop=96")
SCANS = (
    "abdomen/rsna2023/19_14374.nii.gz",
    "abdomen/totalsegmentator/example_ct.nii.gz",
    "dicom/jpeg2000_series",
    "abdomen/ircad/3dircadb1_01.nii.gz",
    "abdomen/crlm/crlm-ct-1004.nii.gz",
)


@pytest.fixture(scope="module")
def store(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepare every file under abdomen/ and dicom/ in one call."""
    out = tmp_path_factory.mktemp("real") / "store"
    sources = [str(real_data / "abdomen"), str(real_data / "dicom")]
    assert main(["prepare", *sources, "--out", str(out), "--workers", "2", "preprocess.size=[16,96,96]"]) == 0
    return out


@pytest.fixture(scope="module")
def classifier(store: Path) -> Path:
    """Train a classifier on made-up grades of the real volumes; only its answering matters."""
    patients = sorted(set(VolumeStore(store).index["patient_id"]))
    labels = pd.DataFrame({"patient_id": patients})
    for offset, target in enumerate(TARGETS.values()):
        grades = (np.arange(len(patients)) + offset) % len(target.classes)
        for index, column in enumerate(target.columns):
            labels[column] = (grades == index).astype(int)
    table, out = store.parent / "labels.csv", store.parent / "classifier"
    labels.to_csv(table, index=False)
    words = ["finetune", str(store), "--labels", str(table), "--init", "random", "--out", str(out)]
    assert main([*words, BACKBONE, *READOUT, "epochs=1", "folds=2", "run_folds=1"]) == 0
    return out


def test_ct_volumes_are_accepted_and_the_rest_is_quarantined(store: Path) -> None:
    assert len(VolumeStore(store)) == 20
    quarantine = pd.read_csv(store / "quarantine.csv")
    assert quarantine["reason"].str.len().min() > 0
    names = {Path(path).name: reason for path, reason in zip(quarantine["path"], quarantine["reason"], strict=True)}
    label_maps = [name for name, reason in names.items() if "label map" in reason]
    assert sorted(label_maps) == [
        "amos_0001_labels.nii.gz",
        "example_ct_dicom_labels.nii.gz",
        "example_ct_labels.nii.gz",
    ]
    truncated = {"MR_truncated.dcm", "ct_cut_in_header.dcm", "ct_cut_in_pixels.dcm", "rsna_rle_cut.dcm"}
    assert truncated <= set(names)


def test_pretraining_runs_on_the_real_store(store: Path) -> None:
    out = store.parent / "pretrain"
    words = ["pretrain", str(store), "--out", str(out), BACKBONE, *METHOD, "steps=20", "batch_size=4", "log_every=5"]
    assert main(words) == 0
    metrics = pd.read_json(out / "metrics.jsonl", lines=True)
    assert metrics["step"].iloc[-1] == 20
    assert np.isfinite(metrics["loss"]).all()
    assert (out / "weights_00000020.safetensors").is_file()


def test_raw_scans_are_graded(real_data: Path, classifier: Path, tmp_path: Path) -> None:
    out = tmp_path / "predictions.csv"
    scans = [str(real_data / scan) for scan in SCANS]
    assert main(["predict", *scans, "--model", str(classifier), "--out", str(out)]) == 0
    table = pd.read_csv(out)
    assert len(table) == len(SCANS)
    refused = table[table["status"] != "assessed"]
    assert refused["reason"].str.startswith("thin slab: 40 mm").tolist() == [True]  # jpeg2000_series
    for target in TARGETS.values():
        assert np.allclose(table.drop(refused.index)[list(target.columns)].sum(axis=1), 1)


def prepared_centres(scan: Path, labels: Path, organs: dict[str, tuple[int, ...]]) -> dict[str, tuple[float, ...]]:
    """Return the centre (z, h, w) of organs in the prepared volume, as shares of its extent."""
    prepared = prepare_volume(read_volume(scan), PreprocessArgs(size=(48, 128, 128)))
    image = nib.load(labels)
    mask, _ = to_patient_axes(np.asarray(image.dataobj), swap_lps_ras(image.affine))
    z0, z1, h0, h1, w0, w1 = prepared.box
    cropped = mask[z0:z1, h0:h1, w0:w1]
    centres = {}
    for organ, classes in organs.items():
        share = resize_area(np.isin(cropped, classes).astype(np.float32), prepared.hu.shape)
        assert share.sum() > 0, organ
        weights = share / share.sum()
        middle = [float((weights.sum(axis=tuple({0, 1, 2} - {axis})) * np.arange(size)).sum() / size)
                  for axis, size in enumerate(share.shape)]  # fmt: skip
        centres[organ] = tuple(middle)
        assert 0 < np.average(prepared.hu[share > 0.5]) < 250, f"{organ} is not soft tissue where its mask lies"
    return centres


def test_in_prepared_volumes_the_liver_is_right_and_above_the_hips(real_data: Path) -> None:
    folder = real_data / "abdomen" / "totalsegmentator"
    organs = {"liver": (5,), "spleen": (1,), "bladder": (21,)}
    centres = prepared_centres(folder / "example_ct.nii.gz", folder / "example_ct_labels.nii.gz", organs)
    assert centres["liver"][2] < 0.5 < centres["spleen"][2]
    assert centres["liver"][0] + 0.2 < centres["bladder"][0]


@pytest.mark.parametrize(
    ("scan", "labels", "liver", "spleen"),
    [
        ("abdomen/amos/amos_0001.nii.gz", "abdomen/amos/amos_0001_labels.nii.gz", 6, 1),
        ("dicom/jpeg2000_series", "abdomen/totalsegmentator/example_ct_dicom_labels.nii.gz", 5, 1),
    ],
)
def test_in_prepared_slabs_the_liver_is_right_of_the_spleen(
    real_data: Path, scan: str, labels: str, liver: int, spleen: int
) -> None:
    centres = prepared_centres(real_data / scan, real_data / labels, {"liver": (liver,), "spleen": (spleen,)})
    assert centres["liver"][2] < 0.5 < centres["spleen"][2]
    assert centres["spleen"][1] > 0.5, "the spleen is in the back"
