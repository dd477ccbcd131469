from dataclasses import replace

import numpy as np
import pytest

from voco2d.data.phantom import PhantomArgs, make_series
from voco2d.data.phantom.physique import Physique
from voco2d.data.phantom.scan import Scan, draw_scan
from voco2d.data.phantom.scan_faults import blacken, cut_short, draw_faults

ARGS = PhantomArgs(size=48, mean_slices=20)


def _scan(seed: int = 0) -> Scan:
    rng = np.random.default_rng(seed)
    return draw_scan(rng, ARGS, Physique.draw(rng), "portal")


def test_share_of_series_cut_short_is_the_asked_one() -> None:
    rng = np.random.default_rng(0)
    args = PhantomArgs(size=48, mean_slices=64, incomplete_share=313 / 4711)
    scans = [draw_faults(rng, args, draw_scan(rng, args, Physique.draw(rng), "portal"), 1.0) for _ in range(3000)]
    assert np.mean([scan.incomplete for scan in scans]) == pytest.approx(313 / 4711, abs=0.015)
    assert not any(scan.black_slices for scan in scans)


def test_a_cut_keeps_the_grid_of_the_slices_that_stay() -> None:
    scan = _scan()
    below = cut_short(scan, 40.0, at_top=True)
    above = cut_short(scan, 120.0, at_top=False)
    assert below.incomplete
    assert above.incomplete
    np.testing.assert_allclose(below.axes_mm[0], scan.axes_mm[0][-below.shape[0] :])
    np.testing.assert_allclose(above.axes_mm[0], scan.axes_mm[0][: above.shape[0]])
    assert below.axes_mm[0][0] >= 40 > below.axes_mm[0][0] - scan.spacing_mm[0]
    assert above.axes_mm[0][-1] < 120 <= above.axes_mm[0][-1] + scan.spacing_mm[0]
    left_out = scan.shape[0] - below.shape[0]
    assert below.origin_mm[2] == pytest.approx(scan.origin_mm[2] - left_out * scan.spacing_mm[0])


def test_a_cut_that_leaves_too_little_or_nothing_out_is_none() -> None:
    scan = _scan()
    assert cut_short(scan, scan.top_mm + 1, at_top=False) is scan
    assert cut_short(scan, scan.top_mm - 100, at_top=True) is scan


@pytest.mark.parametrize("patient", range(3))
def test_a_series_cut_short_ends_within_an_organ(patient: int) -> None:
    whole = make_series(0, patient, replace(ARGS, incomplete_share=0.0))
    for before, series in zip(whole, make_series(0, patient, replace(ARGS, incomplete_share=1.0)), strict=True):
        assert series.scan.incomplete
        assert not before.scan.incomplete
        assert len(series.hu) < len(before.hu)
        ends = np.isin(series.organs[[0, -1]], (1, 2, 3, 4)).any(axis=(1, 2))
        assert ends.any()
        assert abs(series.aortic_hu - before.aortic_hu) < 60


def test_black_slices_lie_at_one_end_and_change_nothing_else() -> None:
    clean = make_series(0, 0, replace(ARGS, incomplete_share=0.0))[0]
    black = make_series(0, 0, replace(ARGS, incomplete_share=0.0, black_share=1.0))[0]
    changed = np.flatnonzero((clean.hu != black.hu).any(axis=(1, 2)))
    assert 1 <= len(changed) <= 3
    assert 0 in changed or len(clean.hu) - 1 in changed
    rows = (clean.hu != black.hu)[changed].any(axis=(0, 2))
    first = int(rows.argmax())
    assert 0 < first < clean.hu.shape[1]
    assert (black.hu[changed, first:] == max(black.scan.pixels.range_hu[0], -1024)).all()


@pytest.mark.parametrize(("slices", "where"), [(2, slice(-2, None)), (-2, slice(0, 2)), (0, slice(0, 0))])
def test_the_sign_says_which_end_is_black(slices: int, where: slice) -> None:
    hu = np.zeros((6, 10, 10), np.int16)
    blacken(hu, replace(_scan(), black_slices=slices, black_rows=0.5))
    expected = np.zeros_like(hu, dtype=bool)
    expected[where, 5:] = True
    np.testing.assert_array_equal(hu < 0, expected)
