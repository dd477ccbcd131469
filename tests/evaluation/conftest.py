from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from voco2d.targets import CLASS_COLUMNS, TARGETS

Tables = Callable[..., tuple[pd.DataFrame, pd.DataFrame]]


def random_tables(patients: int, seed: int = 0, healthy_share: float = 0.5) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Predictions that know a little about the labels, and the labels, of `patients` patients."""
    generator = np.random.default_rng(seed)
    labels: dict[str, np.ndarray] = {}
    predictions: dict[str, np.ndarray] = {}
    for target in TARGETS.values():
        injured = len(target.classes) - 1
        shares = [healthy_share, *[(1 - healthy_share) / injured] * injured]
        truth = np.eye(len(target.classes))[generator.choice(len(target.classes), size=patients, p=shares)]
        scores = np.exp(truth + generator.normal(size=truth.shape))
        labels |= dict(zip(target.columns, truth.T, strict=True))
        predictions |= dict(zip(target.columns, (scores / scores.sum(axis=1, keepdims=True)).T, strict=True))
    ids = pd.DataFrame({"patient_id": [str(100 + index) for index in range(patients)]})
    return ids.assign(**predictions)[["patient_id", *CLASS_COLUMNS]], ids.assign(**labels)[
        ["patient_id", *CLASS_COLUMNS]
    ]


@pytest.fixture
def tables() -> Tables:
    return random_tables
