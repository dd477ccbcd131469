"""Made-up label tables."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from voco2d.targets import TARGETS


@pytest.fixture(scope="session")
def labels_of() -> Callable[..., pd.DataFrame]:
    """Draw labels of some patients, of whom a share is injured, each target for itself."""

    def draw(patients: int, seed: int = 0, injured: float = 0.3) -> pd.DataFrame:
        rng = np.random.default_rng(seed)
        columns = {}
        for target in TARGETS.values():
            shares = [1 - injured, *[injured / (len(target.classes) - 1)] * (len(target.classes) - 1)]
            drawn = rng.choice(len(target.classes), patients, p=shares)
            columns |= {column: (drawn == grade).astype(int) for grade, column in enumerate(target.columns)}
        return pd.DataFrame({"patient_id": [f"{number:03d}" for number in range(patients)], **columns})

    return draw
