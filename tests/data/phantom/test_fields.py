import numpy as np
import pytest

from voco2d.data.phantom.fields import SmoothField


def _axis(low: float, high: float, count: int) -> np.ndarray:
    return np.linspace(low, high, count, dtype=np.float32)


def test_field_has_the_asked_deviation_and_is_smooth() -> None:
    field = SmoothField(np.random.default_rng(0), step_mm=20.0, amplitude=3.0)
    values = field(_axis(-100, 400, 60), _axis(-150, 150, 60), _axis(-150, 150, 60))
    assert values.dtype == np.float32
    assert values.std() == pytest.approx(3.0, rel=0.15)
    assert abs(values.mean()) < 0.5
    assert np.abs(np.diff(values, axis=2)).max() < 5.0


def test_field_does_not_depend_on_the_grid() -> None:
    field = SmoothField(np.random.default_rng(1), step_mm=30.0, amplitude=1.0)
    fine = field(_axis(0, 100, 21), _axis(-50, 50, 21), _axis(-50, 50, 21))
    coarse = field(_axis(0, 100, 6), _axis(-50, 50, 6), _axis(-50, 50, 6))
    np.testing.assert_allclose(fine[::4, ::4, ::4], coarse, atol=1e-5)


def test_field_is_held_beyond_its_box() -> None:
    field = SmoothField(np.random.default_rng(2), step_mm=50.0, amplitude=1.0)
    zero = np.zeros(1, np.float32)
    far = field(_axis(1e4, 2e4, 2), zero, zero)
    assert np.isfinite(far).all()
    assert far[0, 0, 0] == far[1, 0, 0]
