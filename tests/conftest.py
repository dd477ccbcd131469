"""Fixtures every test may use."""

import os
from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Two workers on two cores: more threads than that only fight each other."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of real files, or skip the test where it is absent."""
    root = Path(os.environ.get("VOCO2D_REAL_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not root.is_dir():
        pytest.skip(f"no real data at {root}; set VOCO2D_REAL_DATA")
    return root.resolve()
