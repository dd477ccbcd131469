from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Generator, Tensor

from voco2d.data.augment import AugmentArgs, Changes, augment, draw_changes, flip_slices
from voco2d.errors import ConfigError

OFF = AugmentArgs(flip_depth=False, crop=0.0, contrast=0.0, brightness=0.0, noise=0.0)
EVERYTHING = AugmentArgs(
    flip_height=True,
    flip_width=True,
    turn=True,
    rotate=20.0,
    crop=0.3,
    contrast=0.9,
    brightness=0.5,
    gamma=0.5,
    histogram=1.0,
    noise=0.5,
    cut_out=3,
)
VOLUMES = torch.rand(4, 5, 2, 16, 16, generator=Generator().manual_seed(0))


def generators(seeds: Sequence[int]) -> list[Generator]:
    return [Generator().manual_seed(seed) for seed in seeds]


def changed(args: AugmentArgs, seeds: Sequence[int], volumes: Tensor = VOLUMES) -> Tensor:
    return augment(volumes, args, draw_changes(args, generators(seeds)))


def test_nothing_happens_when_all_is_off() -> None:
    assert torch.equal(changed(OFF, range(4)), VOLUMES)


def test_result_depends_on_the_generators_alone_and_stays_in_range() -> None:
    before = VOLUMES.clone()
    first = changed(EVERYTHING, range(4))
    torch.manual_seed(99)
    assert torch.equal(changed(EVERYTHING, range(4)), first)
    assert not torch.allclose(changed(EVERYTHING, range(4, 8)), first)
    assert first.shape == VOLUMES.shape
    assert first.min() >= 0
    assert first.max() <= 1
    assert torch.equal(VOLUMES, before)


def test_a_volume_is_changed_alike_in_any_batch() -> None:
    together = changed(EVERYTHING, range(4))
    for row in range(4):
        alone = changed(EVERYTHING, [row], VOLUMES[row : row + 1])
        torch.testing.assert_close(alone, together[row : row + 1])


def test_parts_of_what_was_drawn_are_those_of_the_volumes() -> None:
    drawn = draw_changes(EVERYTHING, generators(range(4)))
    parts = [augment(VOLUMES[part], EVERYTHING, drawn[part]) for part in (slice(0, 1), slice(1, 4))]
    torch.testing.assert_close(torch.cat(parts), augment(VOLUMES, EVERYTHING, drawn))


def test_default_never_exchanges_right_and_left() -> None:
    bright_right = torch.zeros(30, 4, 1, 16, 16)
    bright_right[..., :6] = 1
    out = changed(AugmentArgs(), range(30), bright_right)
    assert (out[..., :8].mean((1, 2, 3, 4)) > out[..., 8:].mean((1, 2, 3, 4))).all()


@pytest.mark.parametrize(("name", "axis"), [("flip_depth", 0), ("flip_height", 2), ("flip_width", 3)])
def test_a_flip_happens_in_about_half_of_the_draws(name: str, axis: int) -> None:
    volumes = VOLUMES[:1].expand(40, -1, -1, -1, -1)
    flipped = [
        torch.equal(out, VOLUMES[0].flip(axis)) for out in changed(replace(OFF, **{name: True}), range(40), volumes)
    ]
    kept = [torch.equal(out, VOLUMES[0]) for out in changed(replace(OFF, **{name: True}), range(40), volumes)]
    assert [a != b for a, b in zip(flipped, kept, strict=True)] == [True] * 40
    assert 10 <= sum(flipped) <= 30


def test_turns_are_by_quarters_each_about_alike_often() -> None:
    volumes = VOLUMES[:1].expand(80, -1, -1, -1, -1)
    out = changed(replace(OFF, turn=True), range(80), volumes)
    counts = [sum(torch.equal(one, VOLUMES[0].rot90(quarter, (2, 3))) for one in out) for quarter in range(4)]
    assert sum(counts) == 80
    assert min(counts) >= 8


def test_slice_targets_follow_the_slices() -> None:
    args = replace(OFF, flip_depth=True)
    drawn = draw_changes(args, generators(range(4)))
    numbers = torch.arange(5.0).repeat(4, 1)
    shown = augment(numbers[:, :, None, None, None].expand(-1, -1, 1, 8, 8) / 4, args, drawn)
    torch.testing.assert_close(flip_slices(numbers[:, :, None], args, drawn)[:, :, 0], 4 * shown[:, :, 0, 0, 0])
    assert len({tuple(row.tolist()) for row in flip_slices(numbers[:, :, None], args, drawn)[:, :, 0]}) == 2


@pytest.mark.parametrize("shape", [(24, 24), (24, 36)])
def test_rotation_is_that_of_an_independent_implementation(shape: tuple[int, int]) -> None:
    smooth = ndimage.gaussian_filter(np.random.default_rng(0).random(shape), 3).astype(np.float32)
    uniform = torch.full((1, 19), 0.5)
    uniform[0, 4] = 1.0  # the largest angle
    drawn = Changes(uniform, [0])
    args = replace(OFF, rotate=10.0)
    ours = augment(torch.from_numpy(smooth)[None, None, None], args, drawn)[0, 0, 0].numpy()
    theirs = ndimage.rotate(smooth, 10.0, reshape=False, order=1, mode="nearest")
    np.testing.assert_allclose(ours[4:-4, 4:-4], theirs[4:-4, 4:-4], atol=1e-3)


def test_a_crop_is_stretched_over_the_whole() -> None:
    ramp = torch.arange(32.0).repeat(32, 1) / 31  # rises along columns
    uniform = torch.full((1, 19), 0.5)
    uniform[0, 5:8] = torch.tensor([1.0, 0.5, 0.0])  # the largest cut, all of it on the right
    out = augment(ramp[None, None, None], replace(OFF, crop=0.5), Changes(uniform, [0]))[0, 0, 0]
    torch.testing.assert_close(out[3, 4:-4], ((torch.arange(32.0) + 0.5) / 2 - 0.5)[4:-4] / 31, atol=1e-5, rtol=0)


def test_histogram_and_gamma_keep_order_and_ends() -> None:
    ramp = torch.linspace(0, 1, 256).view(1, 1, 1, 16, 16).expand(20, -1, -1, -1, -1)
    for args in (replace(OFF, histogram=1.0), replace(OFF, gamma=1.0)):
        out = changed(args, range(20), ramp).flatten(1)
        assert (out.diff(dim=1) >= -1e-6).all()
        torch.testing.assert_close(out[:, [0, -1]], torch.tensor([0.0, 1.0]).repeat(20, 1))
        assert (out - ramp.flatten(1)).abs().max() > 0.05


def test_what_is_cut_out_is_the_same_on_all_slices_and_not_larger_than_asked_for() -> None:
    out = changed(replace(OFF, cut_out=1, cut_out_size=0.5), range(30), torch.ones(30, 3, 2, 16, 16))
    empty = out == 0
    assert torch.equal(empty, empty[:, :1, :1].expand_as(empty))
    assert empty[:, 0, 0].sum((1, 2)).max() <= 64
    assert empty.any()


def test_noise_has_the_deviation_that_was_drawn() -> None:
    uniform = torch.full((2, 19), 0.5)
    uniform[:, 11] = torch.tensor([0.0, 1.0])
    out = augment(torch.full((2, 8, 1, 32, 32), 0.5), replace(OFF, noise=0.1), Changes(uniform, [1, 2]))
    assert out[0].std() == 0
    assert out[1].std() == pytest.approx(0.1, rel=0.05)


@pytest.mark.parametrize(
    "values", [{"crop": 0.95}, {"noise": -0.1}, {"contrast": 2.0}, {"rotate": 181.0}, {"cut_out": -1}]
)
def test_impossible_settings_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"augment.{next(iter(values))}"):
        AugmentArgs(**values)  # type: ignore[arg-type]
