import json
import shutil
import time
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from einops import rearrange

from voco2d.data.crop_dataset import CropDataset
from voco2d.data.crops import first_pixels
from voco2d.data.pretrain_dataset import DataArgs, Share
from voco2d.data.slice_source import Residency
from voco2d.errors import ConfigError, StoreError
from voco2d.methods.method import CropBatch
from voco2d.methods.voco_args import PAPER_V2, VoCoArgs
from voco2d.preprocessing.preprocess import PreprocessArgs
from voco2d.store.build import PrepareArgs, prepare
from voco2d.store.volume_store import VolumeStore

CPU = torch.device("cpu")
WINDOW = (-175.0, 250.0)
ARGS = VoCoArgs(crop=8, slices=5, flips=False, intensity=0.0)
PAPER = replace(ARGS, **PAPER_V2)
PATIENTS = 5


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> VolumeStore:
    """Volumes whose values tell the volume, the slice (tens) and the place; the last column is air."""
    folder = tmp_path_factory.mktemp("pretrain")
    place = np.linspace(0, 9, 24 * 24).reshape(24, 24)
    for number in range(PATIENTS):
        hu = place + 10 * np.arange(10)[:, None, None] + 20 * number - 60
        hu[:, :, -1] = -1000
        np.save(folder / f"{number}.npy", hu.astype(np.int16))
        (folder / f"{number}.json").write_text(
            json.dumps({"axes": "IPL", "spacing_mm": [5, 1, 1], "intensity": "hu", "patient_id": f"p{number}"})
        )
    args = PrepareArgs(preprocess=PreprocessArgs(size=(10, 24, 24), body_crop=False), workers=1)
    return VolumeStore(prepare([folder], folder / "store", args).store)


def dataset_of(
    store: VolumeStore,
    args: VoCoArgs = ARGS,
    batch_size: int = 3,
    seed: int = 7,
    exclude_patients: Collection[str] = (),
    residency: Residency = "auto",
) -> CropDataset:
    return CropDataset(store, args, DataArgs(WINDOW, batch_size, seed, args.shuffle, residency), exclude_patients)


def crops_of(batch: CropBatch) -> torch.Tensor:
    """Return the units as (B, R + K, S, c, c)."""
    return rearrange(batch.units, "(b n) s r c -> b n s r c", n=batch.views)


def assert_same(first: CropBatch, second: CropBatch) -> None:
    assert first.views == second.views
    for name in ("units", "overlap", "partner"):
        assert torch.equal(vars(first)[name], vars(second)[name])


def windowed(hu: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(((hu.astype(np.float32) - WINDOW[0]) / (WINDOW[1] - WINDOW[0])).clip(0, 1))


def test_shapes_and_ranges(store: VolumeStore) -> None:
    batch = dataset_of(store, replace(ARGS, flips=True, intensity=0.2)).batch(0, CPU)
    assert crops_of(batch).shape == (3, 11, 5, 8, 8)
    assert batch.overlap.shape == (3, 2, 9)
    assert batch.units.min() >= 0
    assert batch.units.max() <= 1
    torch.testing.assert_close(batch.overlap.sum(-1), torch.ones(3, 2))


@pytest.mark.parametrize("args", [ARGS, PAPER])
def test_a_batch_depends_on_seed_and_step_alone(store: VolumeStore, args: VoCoArgs) -> None:
    args = replace(args, flips=True, intensity=0.2)
    in_turn = list(dataset_of(store, args).batches(0, 4, CPU))
    for step in (3, 1):
        again = dataset_of(store, args).batch(step, CPU)
        assert_same(again, in_turn[step])
    other = dataset_of(store, args, seed=8).batch(1, CPU)
    assert not torch.equal(other.units, in_turn[1].units)


def test_papers_crops_are_cut_from_the_same_evenly_spaced_slices(store: VolumeStore) -> None:
    dataset = dataset_of(store, PAPER)
    drawn = dataset.plan(0)
    assert drawn.volumes.tolist() == [0, 1, 2]
    crops = crops_of(dataset.batch(0, CPU))
    slices = windowed(np.asarray(store[1])[[1, 3, 5, 7, 9]])
    row, column = first_pixels(drawn.centers[1, 0], 8).tolist()
    torch.testing.assert_close(crops[1, 0], slices[:, row : row + 8, column : column + 8])
    torch.testing.assert_close(crops[1, 2 + 5], slices[:, 8:16, 16:24])


def test_crops_take_slices_of_their_own_where_depth_is_separate(store: VolumeStore) -> None:
    slices = dataset_of(store).plan(0).slices
    assert slices.shape == (3, 3, 5)
    assert len({tuple(group) for group in slices[0].tolist()}) == 3


def test_partners_are_others(store: VolumeStore) -> None:
    drawn = [dataset_of(store).plan(step).partner for step in range(20)]
    assert all((partner != np.arange(3)).all() for partner in drawn)
    assert len({tuple(partner.tolist()) for partner in drawn}) > 1
    assert dataset_of(store, PAPER).plan(5).partner.tolist() == [1, 2, 0]


def test_shuffled_rounds_differ_and_show_no_volume_twice(store: VolumeStore) -> None:
    dataset = dataset_of(store, batch_size=2)
    rounds = [[v for step in (2 * r, 2 * r + 1) for v in dataset.plan(step).volumes.tolist()] for r in range(6)]
    assert all(len(set(volumes)) == 4 for volumes in rounds)
    assert len({tuple(volumes) for volumes in rounds}) > 1
    paper = dataset_of(store, PAPER, batch_size=2)
    assert [paper.plan(step).volumes.tolist() for step in range(3)] == [[0, 1], [2, 3], [4, 0]]


def test_flips_and_intensity_have_switches(store: VolumeStore) -> None:
    plain = dataset_of(store).plan(0)
    flipped = dataset_of(store, replace(ARGS, flips=True))
    assert not plain.mirror.any()
    assert any(flipped.plan(step).mirror.any() for step in range(5))
    bright = dataset_of(store, replace(ARGS, intensity=0.3)).batch(0, CPU)
    assert not torch.equal(bright.units, dataset_of(store).batch(0, CPU).units)


def test_mirroring_moves_base_and_random_crops_alike(store: VolumeStore) -> None:
    dataset = dataset_of(store, replace(PAPER, flips=True))
    step, drawn = next(
        (n, plan) for n, plan in enumerate(map(dataset.plan, range(50))) if plan.mirror[0].tolist() == [1, 0]
    )
    crops = crops_of(dataset.batch(step, CPU))
    slices = windowed(np.asarray(store[int(drawn.volumes[0])])[[1, 3, 5, 7, 9]]).flip(-2)
    row, column = first_pixels(drawn.centers[0, 1], 8).tolist()
    torch.testing.assert_close(crops[0, 1], slices[:, row : row + 8, column : column + 8])
    torch.testing.assert_close(crops[0, 2], slices[:, :8, :8])


@pytest.mark.parametrize("crop", [4, 8, 16])
def test_slices_are_resized_to_the_grid(store: VolumeStore, crop: int) -> None:
    crops = crops_of(dataset_of(store, replace(PAPER, crop=crop)).batch(0, CPU))
    assert crops[:, 2:].shape == (3, 9, 5, crop, crop)
    whole = windowed(np.asarray(store[0])[[1, 3, 5, 7, 9]])
    torch.testing.assert_close(crops[0, 2:].mean((0, 2, 3)), whole.mean((1, 2)), atol=1e-4, rtol=0)


def test_excluded_patients_are_never_shown(store: VolumeStore) -> None:
    dataset = dataset_of(store, exclude_patients={"p1", "p4"})
    assert len(dataset) == 3
    assert dataset.patients == ("p0", "p2", "p3")
    shown = {int(volume) for step in range(10) for volume in dataset.plan(step).volumes}
    assert set(store.index["patient_id"].iloc[sorted(shown)]) == {"p0", "p2", "p3"}


def test_too_few_volumes_say_the_way_out(store: VolumeStore) -> None:
    with pytest.raises(StoreError, match="exclude fewer"):
        dataset_of(store, exclude_patients=[f"p{number}" for number in range(PATIENTS)])
    with pytest.raises(ConfigError, match="set a smaller batch_size"):
        dataset_of(store, batch_size=6)
    with pytest.raises(ConfigError, match="at least 2"):
        dataset_of(store, batch_size=1)


@pytest.mark.parametrize("args", [ARGS, PAPER])
def test_processes_make_parts_of_the_same_batch(store: VolumeStore, args: VoCoArgs) -> None:
    args = replace(args, flips=True, intensity=0.2)
    whole = dataset_of(store, args, batch_size=4).batch(1, CPU)
    parts = []
    for rank in range(2):
        dataset = dataset_of(store, args, batch_size=4)
        dataset.take(Share(rank, 2))
        parts.append(dataset.batch(1, CPU))
    assert torch.equal(torch.cat([part.units for part in parts]), whole.units)
    assert all(torch.equal(part.overlap, whole.overlap) for part in parts)
    assert all(torch.equal(part.partner, whole.partner) for part in parts)


def test_processes_that_do_not_divide_the_batch_are_told(store: VolumeStore) -> None:
    with pytest.raises(
        ConfigError, match=r"batch_size=3 is no multiple of the 2 processes; set for example batch_size=2"
    ):
        dataset_of(store).take(Share(0, 2))


@pytest.mark.parametrize("args", [ARGS, PAPER])
def test_volumes_kept_on_the_device_give_the_same_batches(store: VolumeStore, args: VoCoArgs) -> None:
    mapped, resident = (
        dataset_of(store, args, exclude_patients={"p1"}, residency=where) for where in ("disk", "device")
    )
    for step in range(3):
        assert_same(mapped.batch(step, CPU), resident.batch(step, CPU))


def test_a_volume_that_became_unreadable_is_named(store: VolumeStore, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(str(store.path), tmp_path / "store"))
    dataset = dataset_of(VolumeStore(copy), PAPER)
    file = copy / str(store.index["file"].iloc[1])
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(StoreError, match=f"{file.name}: damaged; delete it and run the same"):
        list(dataset.batches(0, 3, CPU))


def test_reading_and_preparing_are_timed_apart(store: VolumeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cutting on a CPU holds a step up as waiting does, and once counted as neither."""
    dataset = dataset_of(store)
    cut = CropDataset.cut

    def slow(self: CropDataset, *words: Any) -> CropBatch:
        time.sleep(0.2)
        return cut(self, *words)

    monkeypatch.setattr(CropDataset, "cut", slow)
    list(dataset.batches(0, 2, CPU))
    assert dataset.prepared_seconds >= 0.4


def test_one_volume_is_enough_without_partners(store: VolumeStore) -> None:
    args = replace(PAPER, loss="v1")
    batch = dataset_of(store, args, batch_size=1).batch(0, CPU)
    assert len(batch.units) == 11
    assert batch.partner.tolist() == [0]
