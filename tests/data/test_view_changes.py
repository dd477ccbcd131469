from dataclasses import replace

import numpy as np
import pytest
import torch

from voco2d.data.view_changes import ViewChanges, blur_weights, box_weights, draw_changes, make_views
from voco2d.methods.view_args import SimCLRArgs

ARGS = SimCLRArgs(slices=3, crop=8, flips=False, intensity=0.0, blur=0.0)


def changes_of(boxes: list[list[float]], mirror: bool = False, blur: float = 0.0) -> ViewChanges:
    """Changes of one volume's views."""
    count = len(boxes)
    return ViewChanges(
        np.array([boxes]),
        np.full((1, count, 2), [mirror, False]),
        np.zeros((1, count, 3)),
        np.full((1, count), blur),
    )


def test_drawn_boxes_lie_in_the_slice_and_have_the_area_asked_for() -> None:
    changes = draw_changes(np.random.default_rng(0), replace(ARGS, area=(0.1, 0.4)), 200)
    assert changes.boxes.shape == (200, 6, 4)
    first, sides = changes.boxes[..., :2], changes.boxes[..., 2:]
    assert (first >= 0).all()
    assert (first + sides <= 1 + 1e-12).all()
    area, aspect = sides.prod(-1), sides[..., 0] / sides[..., 1]
    assert 0.1 <= area.min() < 0.11
    assert 0.39 < area.max() <= 0.4
    assert 3 / 4 - 1e-9 <= aspect.min() < 0.77
    assert 1.3 < aspect.max() <= 4 / 3 + 1e-9


def test_flips_and_blur_have_switches_and_each_view_its_own() -> None:
    still = draw_changes(np.random.default_rng(0), ARGS, 50)
    assert not still.mirror.any()
    assert not still.blur.any()
    moving = draw_changes(np.random.default_rng(0), replace(ARGS, flips=True, blur=2.0), 50)
    assert 0.4 < moving.mirror.mean() < 0.6
    assert 0.4 < (moving.blur > 0).mean() < 0.6
    assert moving.blur.max() < 2
    assert np.array_equal(still.boxes, moving.boxes)
    assert (moving.boxes[:, 0] != moving.boxes[:, 1]).any()


def test_a_box_of_whole_pixels_is_cut_as_it_is() -> None:
    slices = torch.rand(1, 2, 16, 32)
    boxes = [[0.25, 0.5, 0.5, 0.25], [0.0, 0.0, 0.5, 0.25], [0.5, 0.75, 0.5, 0.25], [0.25, 0.25, 0.5, 0.25]]
    views = make_views(slices, changes_of(boxes), ARGS)
    torch.testing.assert_close(views[0, 0], slices[0, 0, 4:12, 16:24])
    torch.testing.assert_close(views[0, 1], slices[0, 0, :8, :8])
    torch.testing.assert_close(views[0, 2], slices[0, 1, 8:, 24:])
    torch.testing.assert_close(views[0, 3], slices[0, 1, 4:12, 8:16])


def test_a_larger_box_is_averaged_by_area_and_a_mirrored_one_turned() -> None:
    slices = torch.rand(1, 1, 16, 16)
    boxes = [[0.0, 0.0, 1.0, 1.0]]
    expected = torch.nn.functional.avg_pool2d(slices, 2)
    torch.testing.assert_close(make_views(slices, changes_of(boxes), ARGS), expected)
    torch.testing.assert_close(make_views(slices, changes_of(boxes, mirror=True), ARGS), expected.flip(-2))


def test_weights_of_a_box_are_shares_of_lengths() -> None:
    weights = box_weights(torch.tensor([0.125]), torch.tensor([0.75]), side=4, crop=2)
    torch.testing.assert_close(weights[0], torch.tensor([[1 / 3, 2 / 3, 0, 0], [0, 0, 2 / 3, 1 / 3]]))
    many = box_weights(torch.rand(50) * 0.3, torch.rand(50) * 0.6 + 0.1, side=48, crop=13)
    torch.testing.assert_close(many.sum(-1), torch.ones(50, 13))
    assert (many >= 0).all()


def test_blur_spreads_a_point_by_its_deviation_and_keeps_what_is_even() -> None:
    weights = blur_weights(torch.tensor([0.0, 1.5]), 41)
    torch.testing.assert_close(weights[0], torch.eye(41))
    distance = (torch.arange(41) - 20).square()
    assert (weights[1, 20] * distance).sum().item() == pytest.approx(1.5**2, rel=1e-3)
    boxes = [[0.0, 0.0, 0.5, 0.5]]
    even = make_views(torch.full((1, 1, 16, 16), 0.3), changes_of(boxes, blur=1.0), replace(ARGS, blur=1.0))
    torch.testing.assert_close(even, torch.full((1, 1, 8, 8), 0.3))


def test_intensity_changes_each_view_and_stays_in_range() -> None:
    changes = draw_changes(np.random.default_rng(0), ARGS, 1)
    slices = torch.rand(1, 3, 16, 16)
    plain, varied = (make_views(slices, changes, replace(ARGS, intensity=strength)) for strength in (0.0, 1.0))
    assert (plain != varied).flatten(2).any(-1).all()
    assert varied.min() >= 0
    assert varied.max() <= 1
