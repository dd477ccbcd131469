from dataclasses import replace

import numpy as np
import pytest

from voco2d.data.phantom import PhantomArgs
from voco2d.data.phantom.physique import Physique
from voco2d.data.phantom.scan import PixelFormat, Scan, draw_scan, expose

ARGS = PhantomArgs(size=64, mean_slices=20)


def _scans(count: int) -> list[Scan]:
    rng = np.random.default_rng(0)
    return [draw_scan(rng, ARGS, Physique.draw(rng), "portal") for _ in range(count)]


def test_scans_mix_formats_positions_orders_and_grids() -> None:
    scans = _scans(100)
    assert {scan.position for scan in scans} == {"HFS", "FFS"}
    assert {scan.upward for scan in scans} == {True, False}
    assert {scan.pixels.signed for scan in scans} == {True, False}
    assert {scan.pixels.bits_stored for scan in scans} == {12, 13, 16}
    assert {scan.pixels.intercept for scan in scans} == {0, -1024, -8192}
    slices = [scan.shape[0] for scan in scans]
    assert min(slices) >= 14
    assert max(slices) <= 27
    assert np.mean(slices) == pytest.approx(ARGS.mean_slices, rel=0.1)
    assert len({scan.spacing_mm for scan in scans}) == 100
    coverage = [scan.shape[0] * scan.spacing_mm[0] for scan in scans]
    assert max(coverage) > 1.4 * min(coverage)


def test_axes_have_the_spacing_and_the_shape() -> None:
    for scan in _scans(5):
        for axis, count, step in zip(scan.axes_mm, scan.shape, scan.spacing_mm, strict=True):
            assert len(axis) == count
            np.testing.assert_allclose(np.diff(axis), step)
        assert scan.axes_mm[0][0] == scan.top_mm


@pytest.mark.parametrize(
    ("pixels", "span"),
    [
        (PixelFormat(12, False, -1024), (-1024, 3071)),
        (PixelFormat(12, True, 0), (-2048, 2047)),
        (PixelFormat(16, True, -1024), (-32768, 31743)),
        (PixelFormat(16, False, -8192), (-8192, 32767)),
    ],
)
def test_formats_know_their_range(pixels: PixelFormat, span: tuple[int, int]) -> None:
    assert pixels.range_hu == span


def test_noise_has_the_asked_deviation_inside_the_field_of_view() -> None:
    scan = replace(_scans(1)[0], shape=(8, 64, 64), noise_hu=12.0, pixels=PixelFormat(12, True, 0))
    flat = np.full(scan.shape, 50.0, np.float32)
    flat[0] = 3000.0
    hu = expose(flat, scan, np.random.default_rng(0))
    assert hu[:, 0, 0].tolist() == [-1024] * 8
    middle = hu[1:, 16:48, 16:48]
    assert middle.mean() == pytest.approx(50, abs=1)
    assert middle.std() == pytest.approx(12.0, rel=0.15)
    assert hu[0].max() == 2047
