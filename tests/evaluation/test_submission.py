from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from voco2d.errors import LabelError
from voco2d.evaluation.submission import submission_table
from voco2d.targets import CLASS_COLUMNS, TARGETS


def test_columns_sums_and_order_are_those_of_the_sample(tables):
    predictions, _ = tables(12)
    sample = predictions.sample(frac=1, random_state=0).assign(**dict.fromkeys(CLASS_COLUMNS, 0.5))
    shuffled = predictions[["patient_id", *reversed(CLASS_COLUMNS)]].assign(
        series_id="1", bowel_injury=2.0, status="assessed"
    )
    table = submission_table(shuffled, sample)
    assert list(table.columns) == ["patient_id", *CLASS_COLUMNS]
    assert list(table["patient_id"]) == list(sample["patient_id"])
    for target in TARGETS.values():
        np.testing.assert_allclose(table[list(target.columns)].sum(axis=1), 1)


def test_series_of_a_patient_become_one_row(tables):
    predictions, _ = tables(3)
    table = submission_table(pd.concat([predictions, predictions]))
    assert list(table["patient_id"]) == list(predictions["patient_id"])


def test_what_does_not_match_is_an_error(tables):
    predictions, _ = tables(4)
    with pytest.raises(LabelError, match="1 are not predicted, and 0"):
        submission_table(predictions.iloc[1:], predictions)
    with pytest.raises(LabelError, match="0 are not predicted, and 1 predicted"):
        submission_table(predictions, predictions.iloc[1:])
    with pytest.raises(LabelError, match="RSNA 2023's are patient_id, bowel_healthy"):
        submission_table(predictions, predictions[["patient_id", *reversed(CLASS_COLUMNS)]])
    with pytest.raises(LabelError, match="one row a patient"):
        submission_table(pd.concat([predictions, predictions]), aggregate="none")


@pytest.mark.realdata
def test_the_real_sample_submission(real_data: Path):
    sample = pd.read_csv(real_data / "rsna" / "sample_submission.csv")
    assert list(sample.columns) == ["patient_id", *CLASS_COLUMNS]
    table = submission_table(sample.iloc[::-1], sample)
    np.testing.assert_allclose(table[list(CLASS_COLUMNS)], sample[list(CLASS_COLUMNS)])
    assert list(table["patient_id"]) == [str(patient) for patient in sample["patient_id"]]
