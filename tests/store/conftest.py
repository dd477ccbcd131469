import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from voco2d.preprocessing.preprocess import PreprocessArgs
from voco2d.store.build import PrepareArgs

ARGS = PrepareArgs(preprocess=PreprocessArgs(size=(4, 16, 16)), workers=1, isolate=False)

WriteScan = Callable[..., Path]


def write_scan(folder: Path, name: str, seed: int = 0, body: bool = True, **ids: str) -> Path:
    """Write a small scan as .npy with its .json: noisy soft tissue in air, or specks alone."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    hu = rng.integers(-1020, -980, (6, 40, 48)).astype(np.int16)
    hu[:, ::13, ::13] = 40
    if body:
        hu[:, 8:32, 6:42] += 1040
    path = folder / f"{name}.npy"
    np.save(path, hu)
    sidecar = {"axes": "IPL", "spacing_mm": [2.0, 1.0, 1.0], "intensity": "hu", **ids}
    path.with_suffix(".json").write_text(json.dumps(sidecar))
    return path


def contents(store: Path) -> dict[str, bytes]:
    """Every file of a store, by its relative name."""
    return {str(path.relative_to(store)): path.read_bytes() for path in store.rglob("*") if path.is_file()}


@pytest.fixture
def args() -> PrepareArgs:
    return ARGS


@pytest.fixture
def scan() -> WriteScan:
    return write_scan


@pytest.fixture
def snapshot() -> Callable[[Path], dict[str, bytes]]:
    return contents


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Four scans, two of one patient, and one without a body."""
    folder = tmp_path / "source"
    for number in range(3):
        write_scan(folder, f"scan{number}", seed=number)
    write_scan(folder, "second", seed=3, patient_id="scan0", series_id="second")
    write_scan(folder, "air", body=False)
    return folder
