"""Fits what makes a run's probabilities mean what they say, on the patients that each fold was not trained on."""

import pandas as pd

from voco2d.evaluation.alignment import align
from voco2d.evaluation.pairing import Paired
from voco2d.evaluation.scaler_file import CALIBRATION_NAME, scalers_text
from voco2d.evaluation.scaling import Scaler, fit_scaler
from voco2d.targets import RSNA_2023, TargetSet
from voco2d.training.run_dir import RunDir, write_text

LEAST_PATIENTS = 10
"""Injured, and as many healthy ones, that a target needs; with fewer its probabilities stay as they are."""


def write_calibration(
    run: RunDir, predictions: pd.DataFrame, labels: pd.DataFrame, targets: TargetSet = RSNA_2023
) -> None:
    """Fit a temperature a target and write `calibration.json`, which prediction then uses.

    An older file is removed where no target has patients enough.

    Args:
        run: The run.
        predictions: Out-of-fold, one row a series.
        labels: One row a patient.
        targets: What is graded.
    """
    path = run.path / CALIBRATION_NAME
    (paired,) = align(labels, [predictions], targets=targets) if len(predictions) else (None,)
    fitted = [] if paired is None else [name for name in targets if _fewest(paired, name) >= LEAST_PATIENTS]
    if paired is None or not fitted:
        path.unlink(missing_ok=True)
        return
    scalers = {
        name: fit_scaler(*paired.labelled(name)) if name in fitted else Scaler(1.0, (1.0,) * len(target.classes))
        for name, target in targets.items()
    }
    about = {"scaling": "temperature", "aggregate": "max", "patients": len(paired), "fitted": fitted}
    write_text(path, scalers_text(scalers, about))


def _fewest(paired: Paired, name: str) -> int:
    _, truth = paired.labelled(name)
    injured = int((truth > 0).sum())
    return min(injured, len(truth) - injured)
