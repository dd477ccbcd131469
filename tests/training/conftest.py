import json
from pathlib import Path

import numpy as np
import pytest

from voco2d.preprocessing.preprocess import PreprocessArgs
from voco2d.store.build import PrepareArgs, prepare


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five patients: discs of soft tissue with noise."""
    folder = tmp_path_factory.mktemp("patients")
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:48, :48]
    body = (rows - 24) ** 2 + (columns - 24) ** 2 < 22**2
    for number in range(5):
        np.save(
            folder / f"{number}.npy", np.where(body, 40 + rng.integers(-80, 80, (8, 48, 48)), -1000).astype(np.int16)
        )
        (folder / f"{number}.json").write_text(
            json.dumps({"axes": "IPL", "spacing_mm": [5, 1, 1], "intensity": "hu", "patient_id": f"p{number}"})
        )
    args = PrepareArgs(preprocess=PreprocessArgs(size=(8, 48, 48), body_crop=False), workers=1)
    return prepare([folder], folder / "store", args).store
