import json

import numpy as np
import pandas as pd
import pytest
import torch

from voco2d.data.augment import AugmentArgs
from voco2d.data.classify_dataset import ClassifyDataset
from voco2d.data.cohort import Cohort, join_labels
from voco2d.preprocessing.preprocess import PreprocessArgs
from voco2d.preprocessing.readout import ReadoutArgs, read_out
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


def dataset_of(store: VolumeStore, cohort: Cohort, preload_mb: int = 64) -> ClassifyDataset:
    return ClassifyDataset(store, cohort, READOUT, AugmentArgs(), preload_mb)


@pytest.mark.parametrize("preload_mb", [0, 64])
def test_validation_batches_are_the_read_out_in_order(store: VolumeStore, cohort: Cohort, preload_mb: int) -> None:
    dataset = dataset_of(store, cohort, preload_mb)
    for _ in range(2):
        batches = list(dataset.batches(ROWS, batch_size=4))
        assert [len(batch.rows) for batch in batches] == [4, 2]
        volumes = torch.cat([batch.volumes for batch in batches])
        for row in range(6):
            expected = read_out(store[int(cohort.series["position"][row])], READOUT)
            np.testing.assert_array_equal(volumes[row, :, 0].numpy(), expected)


def test_labels_follow_the_rows(store: VolumeStore, cohort: Cohort) -> None:
    dataset = dataset_of(store, cohort)
    seen = {}
    for batch in dataset.batches(ROWS, batch_size=4, seed=(0, 1)):
        for row, grade in zip(batch.rows.tolist(), batch.labels["liver"].tolist(), strict=True):
            seen[cohort.series["patient_id"][row]] = grade
    assert seen == {f"p{number}": number % 3 for number in range(6)}
    assert dataset.labels(np.array([2, 5]))["liver"].tolist() == [2, 2]


def test_training_batches_depend_on_the_seed_alone(store: VolumeStore, cohort: Cohort) -> None:
    def drawn(preload_mb: int, seed: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
        batches = list(dataset_of(store, cohort, preload_mb).batches(ROWS, batch_size=4, seed=seed))
        return torch.cat([batch.rows for batch in batches]), torch.cat([batch.volumes for batch in batches])

    order, volumes = drawn(64, (7, 0, 3))
    again, same = drawn(0, (7, 0, 3))
    assert order.tolist() == again.tolist()
    torch.testing.assert_close(volumes, same, rtol=0, atol=0)
    assert sorted(order.tolist()) == list(range(6))
    _, other = drawn(64, (7, 0, 4))
    assert not torch.equal(volumes, other)


def test_stopping_early_leaves_no_thread_waiting(store: VolumeStore, cohort: Cohort) -> None:
    batches = dataset_of(store, cohort).batches(ROWS, batch_size=1, seed=(0,))
    next(batches)
    batches.close()  # type: ignore[attr-defined]
