"""The file that the RSNA 2023 challenge takes: one row a patient, 13 columns in the order of its sample submission."""

import numpy as np
import pandas as pd

from voco2d.errors import LabelError
from voco2d.evaluation.pairing import Aggregate, aggregate_rows
from voco2d.evaluation.tables import check_predictions, normalise_ids
from voco2d.targets import CLASS_COLUMNS


def submission_table(
    predictions: pd.DataFrame, sample: pd.DataFrame | None = None, aggregate: Aggregate = "max"
) -> pd.DataFrame:
    """Make a submission of predictions.

    Args:
        predictions: As `tables.check_predictions`.
        sample: The challenge's `sample_submission.csv`; rows then come in its order, and it decides which patients
            there must be.
        aggregate: How a patient's series become one row, max or mean.

    Returns:
        `patient_id` and the 13 classes; each target sums to 1.

    Raises:
        LabelError: The predictions are not as they must be, the sample has other columns or another order of them, or
            its patients are not those predicted.
    """
    rows, _ = aggregate_rows(check_predictions(predictions), aggregate)
    if rows["patient_id"].duplicated().any():
        raise LabelError("a submission has one row a patient; aggregate by max or mean")
    if sample is None:
        return rows
    expected = ["patient_id", *CLASS_COLUMNS]
    if list(sample.columns) != expected:
        raise LabelError(f"the sample submission has the columns {', '.join(map(str, sample.columns))}; {_KNOWN}")
    patients = normalise_ids(sample["patient_id"])
    missing = np.setdiff1d(patients, rows["patient_id"])
    extra = np.setdiff1d(rows["patient_id"], patients)
    if len(missing) or len(extra) or patients.duplicated().any():
        raise LabelError(
            f"of the sample submission's patients {len(missing)} are not predicted, and {len(extra)} predicted ones "
            "are not in it; predict exactly those, each once in the sample"
        )
    return rows.set_index("patient_id").loc[patients].reset_index()


_KNOWN = f"RSNA 2023's are patient_id, {', '.join(CLASS_COLUMNS)}"
