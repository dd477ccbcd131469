import numpy as np
import pandas as pd
import pytest

from voco2d.errors import LabelError, UsageError
from voco2d.evaluation.pairing import check_aggregate, pair
from voco2d.targets import CLASS_COLUMNS, RSNA_2023, TARGETS


def test_rows_are_joined_by_patient_and_not_by_place(tables):
    predictions, labels = tables(20)
    here, there = pair(predictions, labels), pair(predictions, labels.sample(frac=1, random_state=1))
    for name in RSNA_2023.scored:
        np.testing.assert_array_equal(here.truth[name], there.truth[name])


def test_max_takes_each_columns_maximum_and_renormalises(tables):
    predictions, labels = tables(1)
    twice = pd.concat([predictions, predictions])
    twice[["kidney_healthy", "kidney_low", "kidney_high"]] = [[0.6, 0.3, 0.1], [0.2, 0.3, 0.5]]
    paired = pair(twice, labels, "max")
    np.testing.assert_allclose(paired.probabilities["kidney"], [[0.6 / 1.4, 0.3 / 1.4, 0.5 / 1.4]])
    np.testing.assert_allclose(pair(twice, labels, "mean").probabilities["kidney"], [[0.4, 0.3, 0.3]])
    assert len(pair(twice, labels, "none")) == 2


def test_any_injury_is_the_largest_share_that_is_not_healthy(tables):
    paired = pair(*tables(50))
    largest = np.max([1 - paired.probabilities[name][:, 0] for name in TARGETS], axis=0)
    np.testing.assert_allclose(paired.probabilities["any_injury"][:, 1], largest)
    injured = np.any([paired.truth[name] > 0 for name in TARGETS], axis=0)
    np.testing.assert_array_equal(paired.truth["any_injury"], injured.astype(int))


def test_what_is_left_out_or_changed_is_counted(tables):
    predictions, labels = tables(6)
    predictions = predictions.iloc[:5].assign(status=["assessed"] * 4 + ["not_assessed"])
    predictions.loc[4, list(CLASS_COLUMNS)] = np.nan
    predictions.loc[0, ["bowel_healthy", "bowel_injury"]] = [0.5, 1.5]
    paired = pair(predictions, labels)
    assert len(paired) == 4
    np.testing.assert_allclose(paired.probabilities["bowel"][0], [0.25, 0.75])
    assert [warning.split(" ")[:3] for warning in paired.warnings] == [
        ["1", "of", "5"],
        ["1", "of", "4"],
        ["2", "of", "6"],
    ]


def test_a_patient_without_labels_is_an_error(tables):
    predictions, labels = tables(6)
    with pytest.raises(LabelError, match=r"2 patient\(s\) have no row in the label table, first in row 2"):
        pair(predictions, labels.drop(index=[1, 4]))


def test_nothing_assessed_and_an_unknown_aggregate_are_errors(tables):
    predictions, labels = tables(2)
    with pytest.raises(LabelError, match="no row was assessed"):
        pair(predictions.assign(status="not_assessed"), labels)
    with pytest.raises(UsageError, match="max, mean, none"):
        check_aggregate("median")
