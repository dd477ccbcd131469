import numpy as np
import pytest
import torch

from voco2d.preprocessing.intensity import WINDOWS, window_hu


def test_numpy_int16_becomes_float32_without_overflow() -> None:
    hu = np.array([-32768, -175, 37, 250, 32767], dtype=np.int16)
    windowed = window_hu(hu, -175, 250)
    assert windowed.dtype == np.float32
    np.testing.assert_allclose(windowed, [0, 0, 212 / 425, 1, 1], rtol=1e-6)


def test_torch_agrees_with_numpy() -> None:
    hu = np.linspace(-32768, 32767, 1001).astype(np.int16)
    windowed = window_hu(torch.from_numpy(hu), -175, 250)
    assert windowed.dtype == torch.float32
    np.testing.assert_allclose(windowed.numpy(), window_hu(hu, -175, 250), rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_floats_keep_their_type(dtype: type) -> None:
    assert window_hu(np.zeros(3, dtype=dtype), -1, 1).dtype == dtype
    assert window_hu(torch.zeros(3, dtype=torch.float16), -1, 1).dtype == torch.float16


def test_empty_window_is_refused() -> None:
    with pytest.raises(ValueError, match="low must be below high"):
        window_hu(np.zeros(3, dtype=np.float32), 250, 250)


def test_named_windows_are_windows() -> None:
    for low, high in WINDOWS.values():
        assert window_hu(np.array([low, (low + high) / 2, high]), low, high).tolist() == [0.0, 0.5, 1.0]
