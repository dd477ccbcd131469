from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voco2d.preprocessing.body import body_box, find_body
from voco2d.types import HuVolume

DrawBody = Callable[..., HuVolume]
MARGIN = 4  # two coarse pixels of the 512-pixel grid


def assert_encloses(box: tuple[int, ...] | None, expected: tuple[int, ...], margin: int = MARGIN) -> None:
    assert box is not None
    for low, high in ((2, 3), (4, 5)):
        assert expected[low] - margin <= box[low] <= expected[low]
        assert expected[high] <= box[high] <= expected[high] + margin
    assert box[:2] == expected[:2]


def test_table_below_the_body_is_left_out(body: DrawBody) -> None:
    hu = body((6, 512, 512), (240, 256), (110, 160))
    hu[:, 380:384, 40:480] = 300  # shell of the table
    hu[:, 380:430, 40:43] = 300
    hu[:, 360, 100:400] = -450  # blanket
    assert_encloses(body_box(hu), (0, 6, 130, 351, 96, 417))


def test_slices_with_table_or_nothing_only_are_dropped_at_the_ends(body: DrawBody) -> None:
    hu = body((12, 512, 512), (240, 256), (110, 160))
    hu[:3] = -1000
    hu[-2:] = -3024
    hu[6] = -1000  # a black slice inside stays
    hu[:, 380:390, 40:480] = 300
    assert_encloses(body_box(hu), (3, 10, 130, 351, 96, 417))


def test_body_cut_by_the_field_of_view_reaches_the_border(body: DrawBody) -> None:
    hu = body((4, 256, 256), (128, 128), (90, 170))
    assert_encloses(body_box(hu), (0, 4, 38, 219, 0, 256))


def test_padding_and_a_round_field_of_view_count_as_air(body: DrawBody) -> None:
    hu = body((4, 256, 256), (128, 128), (60, 90))
    rows, columns = np.mgrid[:256, :256]
    hu[:, (rows - 128) ** 2 + (columns - 128) ** 2 > 127**2] = -3024
    assert_encloses(body_box(hu), (0, 4, 68, 189, 38, 219))


def test_both_legs_are_kept(body: DrawBody) -> None:
    hu = np.maximum(body((4, 256, 256), (128, 70), (40, 40)), body((4, 256, 256), (128, 186), (38, 38)))
    assert_encloses(body_box(hu), (0, 4, 88, 169, 30, 225))


def test_windowed_background_above_the_threshold_still_is_background(body: DrawBody) -> None:
    hu = np.clip(body((4, 256, 256), (128, 128), (60, 90)), -150, 250)
    assert_encloses(body_box(hu), (0, 4, 68, 189, 38, 219))


@pytest.mark.parametrize("value", [-3024, -1000, 40])
def test_featureless_volume_has_no_body(value: int) -> None:
    assert body_box(np.full((5, 64, 64), value, dtype=np.int16)) is None


def test_table_alone_is_no_body() -> None:
    hu = np.full((5, 512, 512), -1000, dtype=np.int16)
    hu[:, 380:384, 40:480] = 300
    assert body_box(hu) is None


def test_fraction_is_the_share_of_the_box(body: DrawBody) -> None:
    found = find_body(body((5, 256, 256), (128, 128), (60, 90)))
    assert found is not None
    assert found.fraction == pytest.approx(np.pi / 4, abs=0.03)


@given(st.tuples(st.integers(1, 6), st.integers(1, 40), st.integers(1, 40)), st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_box_lies_within_any_volume(shape: tuple[int, int, int], seed: int) -> None:
    noise = np.random.default_rng(seed).integers(-3024, 3000, shape).astype(np.int16)
    found = find_body(noise)
    if found is not None:
        for axis in range(3):
            assert 0 <= found.box[2 * axis] < found.box[2 * axis + 1] <= shape[axis]
        assert 0 < found.fraction <= 1
