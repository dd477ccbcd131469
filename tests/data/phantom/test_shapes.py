import numpy as np
import pytest

from voco2d.data.phantom.canvas import Canvas, Deformation, Patch
from voco2d.data.phantom.fields import SmoothField
from voco2d.data.phantom.shapes import capsule, ellipsoid, tube


@pytest.fixture
def canvas() -> Canvas:
    """A canvas without warps, 2 mm voxels, 80 mm wide."""
    rng = np.random.default_rng(0)
    still = SmoothField(rng, 100.0, 0.0)
    axis = np.arange(-40, 41, 2, dtype=np.float32)
    return Canvas(axis, axis, axis, Deformation((still, still, still), still, still))


def _everywhere(canvas: Canvas) -> Patch:
    return canvas.patch((-99, -99, -99), (99, 99, 99))


def _volume_mm3(shape: np.ndarray) -> float:
    return float((shape < 0).sum() * 8)


def test_ellipsoid_has_the_right_volume_and_distance(canvas: Canvas) -> None:
    patch = _everywhere(canvas)
    shape = ellipsoid(patch, (0, 0, 0), (30, 20, 12))
    assert _volume_mm3(shape) == pytest.approx(4 / 3 * np.pi * 30 * 20 * 12, rel=0.03)
    assert shape[20, 20, 20 + 8] == pytest.approx(4.0, abs=0.7)  # 16 mm along the 12 mm semi-axis


def test_capsule_has_the_right_volume(canvas: Canvas) -> None:
    shape = capsule(_everywhere(canvas), (-15, 0, 0), (15, 0, 0), 9)
    assert _volume_mm3(shape) == pytest.approx(np.pi * 81 * 30 + 4 / 3 * np.pi * 729, rel=0.06)


def test_tube_is_the_union_of_its_capsules(canvas: Canvas) -> None:
    points = [(-20.0, 0.0, -10.0), (0.0, 8.0, 0.0), (20.0, 0.0, 10.0)]
    patch, shape, height = tube(canvas, points, [6, 5, 4], 3)
    whole = np.minimum(capsule(patch, points[0], points[1], 6, 5), capsule(patch, points[1], points[2], 5, 4))
    np.testing.assert_array_equal(shape < 0, whole < 0)
    assert height[shape < 0].min() < -3
    assert height[shape < 0].max() > 3


def test_paint_mixes_at_the_edge_only(canvas: Canvas) -> None:
    patch = _everywhere(canvas)
    share = canvas.paint(patch, ellipsoid(patch, (0, 0, 0), (20, 20, 20)), 100.0)
    assert canvas.hu[20, 20, 20] == 100
    assert canvas.hu[0, 0, 0] == -1000
    assert 0 < ((share > 0) & (share < 1)).mean() < 0.1


def test_patch_outside_the_canvas_is_empty(canvas: Canvas) -> None:
    patch = canvas.around((500, 0, 0), 10)
    assert patch.s.size == 0
    canvas.paint(patch, ellipsoid(patch, (500, 0, 0), (5, 5, 5)), 50.0)
    assert (canvas.hu == -1000).all()
