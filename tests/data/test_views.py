import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from voco2d.data.views import mirrored, spread_slices, vary_intensity


@given(seed=st.integers(0, 2**32), depth=st.integers(1, 100), count=st.integers(1, 40), share=st.floats(0, 1))
def test_chosen_slices_exist_and_rise(seed: int, depth: int, count: int, share: float) -> None:
    chosen = spread_slices(np.random.default_rng(seed), depth, count, share)
    assert chosen.shape == (count,)
    assert chosen.min() >= 0
    assert chosen.max() < depth
    assert np.all(np.diff(chosen) >= 0)


def test_the_whole_depth_is_covered_in_equal_parts() -> None:
    chosen = spread_slices(np.random.default_rng(0), 40, 8, 1.0)
    assert (chosen // 5).tolist() == list(range(8))


def test_only_the_named_volumes_are_mirrored() -> None:
    slices = torch.rand(2, 3, 4, 4)
    changed = mirrored(slices, torch.tensor([True, False]), torch.tensor([False, True]))
    assert torch.equal(changed[0], slices[0].flip(-2))
    assert torch.equal(changed[1], slices[1].flip(-1))


def test_intensity_stays_in_range_and_differs_by_crop() -> None:
    crops = torch.linspace(0, 1, 16).expand(1, 2, 1, 4, 16).reshape(1, 2, 4, 4, 4)
    changed = vary_intensity(crops, torch.tensor([[[1.0, 1.0, 1.0], [-1.0, -1.0, -1.0]]]), 0.3)
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert not torch.allclose(changed[0, 0], changed[0, 1])
    torch.testing.assert_close(vary_intensity(crops, torch.ones(1, 2, 3), 0.0), crops)
