import json

import numpy as np
import pandas as pd
import pytest
import torch

from voco2d.data.augment import AugmentArgs
from voco2d.data.classify_dataset import ClassifyDataset
from voco2d.data.cohort import Cohort, join_labels
from voco2d.preprocessing.preprocess import PreprocessArgs
from voco2d.preprocessing.readout import ReadoutArgs, read_channels
from voco2d.store.build import PrepareArgs, prepare
from voco2d.store.volume_store import VolumeStore
from voco2d.targets import TARGETS

READOUT = ReadoutArgs(slices=4, crop=24)
ROWS = np.arange(6)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> VolumeStore:
    folder = tmp_path_factory.mktemp("scans")
    rng = np.random.default_rng(0)
    for number in range(6):
        hu = rng.integers(-150, 200, (8, 32, 32)).astype(np.int16)
        np.save(folder / f"p{number}.npy", hu)
        sidecar = {"axes": "IPL", "spacing_mm": [5, 1, 1], "intensity": "hu"}
        (folder / f"p{number}.json").write_text(json.dumps(sidecar))
    args = PrepareArgs(preprocess=PreprocessArgs(size=(8, 32, 32), body_crop=False), workers=1)
    return VolumeStore(prepare([folder], folder / "store", args).store)


@pytest.fixture(scope="module")
def cohort(store: VolumeStore) -> Cohort:
    columns: dict[str, object] = {"patient_id": [f"p{number}" for number in range(6)]}
    for target in TARGETS.values():
        for grade, column in enumerate(target.columns):
            columns[column] = [int(number % len(target.classes) == grade) for number in range(6)]
    return join_labels(store.index, pd.DataFrame(columns))


def dataset_of(
    store: VolumeStore, cohort: Cohort, preload_mb: int = 64, readout: ReadoutArgs = READOUT
) -> ClassifyDataset:
    return ClassifyDataset(store, cohort, readout, AugmentArgs(), preload_mb)


def inputs(dataset: ClassifyDataset, seed: tuple[int, ...] | None = None) -> torch.Tensor:
    batches = dataset.batches(ROWS, batch_size=4, seed=seed)
    return torch.cat([dataset.inputs(batch, torch.device("cpu"))[0] for batch in batches])


@pytest.mark.parametrize("preload_mb", [0, 64])
@pytest.mark.parametrize(
    "readout", [READOUT, ReadoutArgs(4, 24, neighbours=1, more_windows=((-45.0, 105.0), (-500.0, 1300.0)))]
)
def test_validation_batches_are_what_prediction_reads_in_order(
    store: VolumeStore, cohort: Cohort, preload_mb: int, readout: ReadoutArgs
) -> None:
    dataset = dataset_of(store, cohort, preload_mb, readout)
    assert [len(batch.rows) for batch in dataset.batches(ROWS, batch_size=4)] == [4, 2]
    for _ in range(2):
        volumes = inputs(dataset)
        for row in range(6):
            expected = read_channels(store[int(cohort.series["position"][row])], readout)
            np.testing.assert_array_equal(volumes[row].numpy(), expected)


def test_labels_follow_the_rows(store: VolumeStore, cohort: Cohort) -> None:
    dataset = dataset_of(store, cohort)
    seen = {}
    for batch in dataset.batches(ROWS, batch_size=4, seed=(0, 1)):
        for row, grade in zip(batch.rows.tolist(), batch.labels["liver"].tolist(), strict=True):
            seen[cohort.series["patient_id"][row]] = grade
    assert seen == {f"p{number}": number % 3 for number in range(6)}
    assert dataset.labels(np.array([2, 5]))["liver"].tolist() == [2, 2]


def test_training_batches_depend_on_the_seed_alone(store: VolumeStore, cohort: Cohort) -> None:
    volumes = inputs(dataset_of(store, cohort, 64), (7, 0, 3))
    torch.testing.assert_close(inputs(dataset_of(store, cohort, 0), (7, 0, 3)), volumes, rtol=0, atol=0)
    assert not torch.equal(volumes, inputs(dataset_of(store, cohort), (7, 0, 4)))


def test_a_series_that_is_drawn_twice_is_changed_otherwise(store: VolumeStore, cohort: Cohort) -> None:
    dataset = dataset_of(store, cohort)
    [batch] = dataset.batches(np.array([2, 2]), batch_size=2, seed=(0,))
    first, second = dataset.inputs(batch, torch.device("cpu"))[0]
    assert not torch.equal(first, second)


@pytest.mark.parametrize(("count", "sizes"), [(1, [6]), (2, [3, 3]), (4, [2, 1, 1, 2]), (9, [1] * 6)])
def test_parts_of_a_batch_are_the_batch(store: VolumeStore, cohort: Cohort, count: int, sizes: list[int]) -> None:
    dataset = dataset_of(store, cohort)
    [batch] = dataset.batches(ROWS, batch_size=6, seed=(1,))
    parts = batch.parts(count)
    assert [len(part.rows) for part in parts] == sizes
    assert torch.cat([part.labels["liver"] for part in parts]).tolist() == batch.labels["liver"].tolist()
    volumes = torch.cat([dataset.inputs(part, torch.device("cpu"))[0] for part in parts])
    torch.testing.assert_close(volumes, dataset.inputs(batch, torch.device("cpu"))[0])


def test_stopping_early_leaves_no_thread_waiting(store: VolumeStore, cohort: Cohort) -> None:
    batches = dataset_of(store, cohort).batches(ROWS, batch_size=1, seed=(0,))
    next(batches)
    batches.close()  # type: ignore[attr-defined]
