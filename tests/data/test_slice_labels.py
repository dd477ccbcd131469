from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest

from voco2d.data.cohort import Cohort, join_labels, read_labels
from voco2d.data.phantom import PhantomArgs, make_series, write_cohort
from voco2d.data.slice_labels import read_slice_labels, slice_origin
from voco2d.data.slice_tables import read_findings, read_visibility
from voco2d.errors import LabelError, UsageError
from voco2d.preprocessing.preprocess import PreprocessArgs
from voco2d.store.build import PrepareArgs, prepare
from voco2d.store.instance_numbers import decode_numbers, encode_numbers
from voco2d.store.volume_store import VolumeStore

PATIENTS = 8
ARGS = PhantomArgs(size=48, mean_slices=20, enriched=True, workers=1, masks=False, black_share=0.5)
PREPARED = (
    PreprocessArgs(size=(12, 32, 32)),
    PreprocessArgs(size=(40, 32, 32)),
    PreprocessArgs(size=(16, 32, 32), spacing_mm=(12.0, 8.0, 8.0)),
)
"""Slices that are averaged, interpolated, and of a spacing with air at the ends or slices left out."""


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("phantom") / "cohort"
    write_cohort(root, PATIENTS, 0, ARGS)
    return root


@pytest.fixture(scope="module", params=PREPARED, ids=["fewer", "more", "spacing"])
def store(request: pytest.FixtureRequest, phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> VolumeStore:
    out = tmp_path_factory.mktemp("store") / "store"
    return VolumeStore(prepare([phantoms], out, PrepareArgs(preprocess=request.param, workers=1)).store)


@pytest.fixture
def cohort(store: VolumeStore, phantoms: Path) -> Cohort:
    return join_labels(store.index, read_labels(phantoms / "train.csv"))


def test_findings_lie_on_the_slices_that_the_phantom_shows_them_on(
    store: VolumeStore, cohort: Cohort, phantoms: Path
) -> None:
    """The truth comes from the phantom's own slices and the box of the store, without any instance number."""
    labels = read_slice_labels(store.index, store.preprocess_args, cohort, phantoms / "image_level_labels.csv")
    assert labels is not None
    assert labels.names == ("bowel", "extravasation")
    drawn = {str(series.series_id): series for patient in range(PATIENTS) for series in make_series(0, patient, ARGS)}
    depth, compared = store.preprocess_args.size[0], 0
    for known, (_, row) in zip(labels.series, cohort.series.iterrows(), strict=True):
        entry = store.index.iloc[row["position"]]
        series = drawn[row["series_id"]]
        low, high = float(entry["box_z0"]), float(entry["box_z1"])
        if store.preprocess_args.spacing_mm is not None:
            extent = depth * store.preprocess_args.spacing_mm[0] / entry["spacing_z_mm"]
            low, high = (low + high - extent) / 2, (low + high + extent) / 2
        edges = np.linspace(low, high, depth + 1)
        for column, target in enumerate(labels.names):
            if not series.grades[target]:
                assert not known[:, column].any()
                continue
            for z in range(depth):
                inside = [
                    source
                    for source in series.shown[target]
                    if edges[z] - 1e-6 < source + 0.5 < edges[z + 1] + 1e-6
                    and entry["box_z0"] <= source < entry["box_z1"]
                ]
                middle = (edges[z] + edges[z + 1]) / 2
                far = all(abs(source + 0.5 - middle) > 1 + (edges[1] - edges[0]) / 2 for source in series.shown[target])
                assert known[z, column] == 1 if inside else not (far and known[z, column])
                compared += bool(inside)
    assert compared > 10


def test_the_origin_of_slices_explains_their_values(store: VolumeStore) -> None:
    """Mean values of prepared slices are the weighted means of those of the source, read here by instance number."""
    if store.preprocess_args.spacing_mm is not None:
        pytest.skip("with a spacing, slices are cropped to less than the box")
    entry = store.index.iloc[0]
    origin = slice_origin(entry, store.preprocess_args)
    assert origin is not None
    means = {}
    for path in Path(entry["source"]).rglob("*.dcm"):
        image = pydicom.dcmread(path)
        hu = image.pixel_array.astype(float) * float(image.RescaleSlope) + float(image.RescaleIntercept)
        rows, columns = slice(entry["box_h0"], entry["box_h1"]), slice(entry["box_w0"], entry["box_w1"])
        means[int(image.InstanceNumber)] = np.clip(hu, -1024, 3071)[rows, columns].mean()
    expected = origin.weights @ np.array([means[number] for number in origin.numbers])
    seen = store[0].mean(axis=(1, 2), dtype=float)
    np.testing.assert_allclose(seen, expected, atol=12)
    assert np.ptp(expected) > 40


def test_shares_of_organs_are_averaged_and_unknown_where_no_row_tells(
    store: VolumeStore, cohort: Cohort, tmp_path: Path
) -> None:
    first = store.index.iloc[int(cohort.series["position"][0])]
    numbers = decode_numbers(first["instance_numbers"])
    known = numbers[: len(numbers) // 2]
    rows = {"patient_id": first["patient_id"], "series_id": first["series_id"], "instance_number": known}
    pd.DataFrame(rows | {"liver": 0.25, "spleen": [number % 2 for number in known]}).to_csv(
        tmp_path / "organs.csv", index=False
    )
    labels = read_slice_labels(store.index, store.preprocess_args, cohort, organs=tmp_path / "organs.csv")
    assert labels is not None
    assert labels.names == ("liver", "spleen")
    liver, spleen = labels.series[0].T
    told = ~np.isnan(liver)
    assert 0 < told.sum() < len(liver)
    np.testing.assert_allclose(liver[told], 0.25, atol=1e-6)
    assert ((spleen[told] >= 0) & (spleen[told] <= 1)).all()
    assert np.isnan(labels.series[1]).all()


def test_a_series_without_rows_is_unknown_only_for_the_injured(
    store: VolumeStore, cohort: Cohort, phantoms: Path, tmp_path: Path
) -> None:
    table = pd.read_csv(phantoms / "image_level_labels.csv", dtype=str)
    left_out = str(table["patient_id"].iloc[0])
    table[table["patient_id"] != left_out].to_csv(tmp_path / "some.csv", index=False)
    labels = read_slice_labels(store.index, store.preprocess_args, cohort, tmp_path / "some.csv")
    assert labels is not None
    injured = cohort.labels.set_index("patient_id")[["bowel_injury", "extravasation_injury"]].astype(bool)
    for row, known in enumerate(labels.series):
        patient = cohort.series["patient_id"][row]
        unknown = np.isnan(known).all(axis=0)
        expected = injured.loc[patient].to_numpy() if patient == left_out else [False, False]
        assert unknown.tolist() == list(expected)


def test_a_store_of_an_earlier_version_says_what_to_do(store: VolumeStore, cohort: Cohort, phantoms: Path) -> None:
    index = store.index.assign(instance_numbers="")
    with pytest.raises(LabelError, match="prepare a store of an earlier voco2d"):
        read_slice_labels(index, store.preprocess_args, cohort, phantoms / "image_level_labels.csv")


@pytest.mark.parametrize("numbers", [(), (5,), (1, 2, 3), (3, 2, 1, 9), (1, 3, 5), (2, 1, 2), (-1, 0, 1, 7, 6)])
def test_instance_numbers_survive_being_written(numbers: tuple[int, ...]) -> None:
    assert decode_numbers(encode_numbers(numbers)) == numbers
    assert encode_numbers(range(400, 0, -1)) == "400:1"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("patient_id,series_id,instance_number\n1,2,3\n", "no column injury_name"),
        ("patient_id,series_id,instance_number,injury_name\n1,2,3,Lung\n", "'Lung'; use Bowel or Active_Extravasation"),
        ("patient_id,series_id,instance_number,injury_name\n1,2,x,Bowel\n", "instance_number is no whole number"),
        ("patient_id,series_id,instance_number,injury_name\n1,,3,Bowel\n", "an id is empty"),
    ],
)
def test_bad_tables_of_findings_are_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(LabelError, match=words):
        read_findings(tmp_path / "labels.csv")
    with pytest.raises(UsageError, match="no such file"):
        read_findings(tmp_path / "none.csv")


@pytest.mark.parametrize("column", ["", ",liver\n1,2,3,1.5", ",liver\n1,2,3,much"])
def test_bad_tables_of_organs_are_refused(tmp_path: Path, column: str) -> None:
    (tmp_path / "organs.csv").write_text(f"patient_id,series_id,instance_number{column or chr(10) + '1,2,3'}\n")
    with pytest.raises(LabelError, match="a column an organ"):
        read_visibility(tmp_path / "organs.csv")
