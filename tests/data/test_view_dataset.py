import json
from typing import Any

import numpy as np
import pytest
import torch
from einops import rearrange

from voco2d.data.datasets import DATASETS, build_dataset
from voco2d.data.pretrain_dataset import DataArgs, Share
from voco2d.errors import ConfigError
from voco2d.methods.registry import METHODS
from voco2d.methods.view_args import SimCLRArgs, SimMIMArgs, ViewArgs
from voco2d.preprocessing.preprocess import PreprocessArgs
from voco2d.store.build import PrepareArgs, prepare
from voco2d.store.volume_store import VolumeStore

CPU = torch.device("cpu")
WINDOW = (0.0, 1000.0)
PAIRS = SimCLRArgs(slices=4, crop=8)
STILL = SimCLRArgs(slices=4, crop=8, flips=False, intensity=0.0, blur=0.0)
MASKS = SimMIMArgs(slices=4, crop=8, patch=2, flips=False)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> VolumeStore:
    """Five volumes whose every slice has one value, a hundred times the volume's number and ten times its own."""
    folder = tmp_path_factory.mktemp("views")
    for number in range(5):
        hu = np.broadcast_to(100 * number + 10 * np.arange(8)[:, None, None], (8, 24, 24)).copy()
        hu[:, 0, 0] = -1000  # air, or it would not be a scan
        np.save(folder / f"{number}.npy", hu.astype(np.int16))
        (folder / f"{number}.json").write_text(
            json.dumps({"axes": "IPL", "spacing_mm": [5, 1, 1], "intensity": "hu", "patient_id": f"p{number}"})
        )
    args = PrepareArgs(preprocess=PreprocessArgs(size=(8, 24, 24), body_crop=False), workers=1)
    return VolumeStore(prepare([folder], folder / "store", args).store)


def dataset_of(store: VolumeStore, args: ViewArgs, batch_size: int = 2, **data: Any) -> Any:
    return build_dataset(store, args, DataArgs(WINDOW, batch_size, seed=7, **data))


def test_every_method_has_a_dataset() -> None:
    assert set(DATASETS) == set(METHODS)


@pytest.mark.parametrize("args", [PAIRS, MASKS])
def test_a_batch_depends_on_seed_and_step_alone(store: VolumeStore, args: ViewArgs) -> None:
    in_turn = list(dataset_of(store, args).batches(0, 4, CPU))
    for step in (3, 1):
        assert torch.equal(dataset_of(store, args).batch(step, CPU).units, in_turn[step].units)
    assert not torch.equal(in_turn[0].units, in_turn[2].units)


@pytest.mark.parametrize("args", [PAIRS, MASKS])
def test_processes_make_parts_of_the_same_batch(store: VolumeStore, args: ViewArgs) -> None:
    whole = dataset_of(store, args, batch_size=4).batch(1, CPU)
    parts = []
    for rank in range(2):
        dataset = dataset_of(store, args, batch_size=4)
        dataset.take(Share(rank, 2))
        parts.append(dataset.batch(1, CPU).units)
    torch.testing.assert_close(torch.cat(parts), whole.units, atol=1e-6, rtol=0)


def test_the_two_views_of_a_slice_follow_one_another(store: VolumeStore) -> None:
    dataset = dataset_of(store, STILL)
    batch = dataset.batch(0, CPU)
    assert batch.units.shape == (2 * 4 * 2, 1, 8, 8)
    assert batch.views == 8
    middle = rearrange(batch.units, "(b s v) 1 r c -> b s v (r c)", b=2, s=4).median(-1).values
    plan = dataset.plan(0)
    expected = (100 * plan.volumes[:, None] + 10 * plan.slices[:, 0]) / 1000
    for view in range(2):
        torch.testing.assert_close(middle[..., view], torch.from_numpy(expected).float(), atol=1e-4, rtol=0)
    assert (plan.slices[:, 0] // 2 == np.arange(4)).all()  # one of each quarter of eight slices


def test_as_many_squares_are_hidden_in_each_view_and_others_in_each(store: VolumeStore) -> None:
    batch = dataset_of(store, MASKS).batch(0, CPU)
    assert batch.units.shape == (2 * 4, 2, 8, 8)
    hidden = batch.units[:, 1]
    squares = rearrange(hidden, "m (r p) (c q) -> m (r c) (p q)", p=2, q=2)
    assert (squares == squares[..., :1]).all()
    assert (squares[..., 0].sum(-1) == MASKS.hidden_squares).all()
    assert len(torch.unique(squares[..., 0], dim=0)) > 1


def test_a_single_slice_has_nothing_to_be_compared_with(store: VolumeStore) -> None:
    with pytest.raises(ConfigError, match=r"method.slices=1 with batch_size=1: .* at least 2"):
        dataset_of(store, SimCLRArgs(slices=1), batch_size=1)
    assert len(dataset_of(store, SimMIMArgs(slices=1), batch_size=1).batch(0, CPU).units) == 1


@pytest.mark.parametrize("args", [PAIRS, MASKS])
def test_volumes_kept_on_the_device_give_the_same_batches(store: VolumeStore, args: ViewArgs) -> None:
    mapped, resident = (dataset_of(store, args, residency=where).batch(1, CPU) for where in ("disk", "device"))
    assert torch.equal(mapped.units, resident.units)
