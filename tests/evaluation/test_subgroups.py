from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from voco2d.errors import LabelError
from voco2d.evaluation.evaluate import evaluate
from voco2d.evaluation.pairing import pair
from voco2d.evaluation.subgroups import group_patients, known_groups, subgroup_metrics, subgroup_scores
from voco2d.evaluation.tables import read_label_table

from .test_evaluate import in_our_format


def test_a_subgroup_scores_as_its_patients_alone(tables):
    predictions, labels = tables(120)
    sites = pd.DataFrame({"patient_id": labels["patient_id"], "site": ["north", "south", "south"] * 40})
    found, _ = subgroup_scores(pair(predictions, labels), group_patients(sites), resamples=50)
    assert list(found["site"]) == ["north", "south"]
    for site, scores in found["site"].items():
        chosen = predictions[(sites["site"] == site).to_numpy()]
        alone = evaluate(chosen, labels, bootstrap=50)
        assert scores["n_patients"] == len(chosen)
        assert scores["rsna"] == pytest.approx(alone["rsna"]["mean"])
        assert scores["map"] == pytest.approx(alone["map"])
        assert scores["any_injury.roc_auc"] == pytest.approx(alone["targets"]["any_injury"]["roc_auc"])
        assert scores["intervals"]["rsna"] == pytest.approx(alone["intervals"]["rsna"]["mean"])


def test_what_a_subgroup_cannot_tell_is_none_with_a_warning(tables):
    predictions, labels = tables(40)
    phase = pd.DataFrame({"patient_id": labels["patient_id"][:39], "phase": ["portal"] * 36 + ["late"] * 2 + [np.nan]})
    result = evaluate(predictions, labels, bootstrap=5, groups=group_patients(phase))
    late = result["subgroups"]["phase"]["late"]
    assert (late["n_patients"], late["map"], late["intervals"]["map"]) == (2, None, None)
    assert late["rsna"] > 0
    assert set(subgroup_metrics()) <= set(late)
    told = [warning for warning in result["warnings"] if "subgroup" in warning]
    assert "subgroups of phase: 2 scored patients have no value and are in none" in told
    assert any(warning.startswith("subgroup phase late: map, ") for warning in told)


def test_numbers_are_cut_at_terciles_and_series_that_differ_are_several():
    table = pd.DataFrame(
        {
            "patient_id": [1, 1, 2, 3, 4, 5, 6, 7, 8, 9],
            "series_id": range(10),
            "coverage": [0.0, 0.2, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9],
            "phase": ["late", "portal", "late", "late", None, *["portal"] * 5],
            "count": [2, 2, 1, 1, 1, 1, 1, 1, 1, 1],
        }
    )
    groups = group_patients(table)
    assert list(groups.columns) == ["coverage", "phase", "count"]
    assert list(groups["coverage"].value_counts()) == [3, 3, 3]
    assert groups.loc["1", "coverage"].startswith("up to")
    assert groups.loc["5", "coverage"].count(" to ") == 1
    assert (groups.loc["1", "phase"], groups.loc["2", "phase"]) == ("several", "late")
    assert pd.isna(groups.loc["4", "phase"])
    assert set(groups["count"]) == {"1", "2"}


def test_values_come_in_their_natural_order(tables):
    predictions, labels = tables(30)
    table = labels[["patient_id"]].assign(
        age=np.arange(30) / 7, count=[10, 2, 1] * 10, site=["b", "a", "c"] * 10, flag=[True, False] * 15
    )
    found, _ = subgroup_scores(pair(predictions, labels), group_patients(table))
    assert [text.split(" ")[0] for text in found["age"]] == ["up", found["age"].__iter__().__next__()[6:], "above"]
    assert list(found["count"]) == ["1", "2", "10"]
    assert list(found["site"]) == ["a", "b", "c"]
    assert list(found["flag"]) == ["False", "True"]


def test_the_number_of_series_is_known_where_it_differs(tables):
    predictions, labels = tables(30)
    assert known_groups(predictions) is None
    assert "subgroups" not in evaluate(predictions, labels)
    more = pd.concat([predictions, predictions.iloc[:10]])
    result = evaluate(more, labels)
    assert {value: scores["n_patients"] for value, scores in result["subgroups"]["series_count"].items()} == {
        "1": 20,
        "2": 10,
    }
    site = group_patients(labels[["patient_id"]].assign(site="north"))
    assert list(known_groups(more, site).columns) == ["site", "series_count"]


def test_copies_and_what_was_not_assessed_are_no_series(tables):
    predictions, _ = tables(6)
    first = predictions.assign(series_id="1", status="assessed")
    second = first.iloc[:2].assign(series_id="2")
    refused = first.assign(series_id="3", status="not_assessed")
    known = known_groups(pd.concat([first, second, first, second, refused]))
    assert dict(known["series_count"].value_counts()) == {"1": 4, "2": 2}
    assert known_groups(pd.concat([first, first.iloc[:2], refused.iloc[:3]])) is None


def test_tables_that_are_none_are_errors(tables):
    predictions, labels = tables(5)
    with pytest.raises(LabelError, match="at least one column more"):
        group_patients(labels[["patient_id"]])
    strangers = group_patients(pd.DataFrame({"patient_id": ["x"], "site": ["north"]}))
    with pytest.raises(LabelError, match="none of the scored patients"):
        subgroup_scores(pair(predictions, labels), strangers)


@pytest.mark.realdata
def test_real_series_meta_as_subgroups(real_data: Path):
    folder = real_data / "rsna"
    labels = read_label_table(folder / "train.csv")
    predictions = in_our_format(folder / "oof" / "lstm_efficientnetb0" / "oof_predictions.csv")
    groups = group_patients(pd.read_csv(folder / "train_series_meta.csv"))
    found = evaluate(predictions, labels, groups=groups)["subgroups"]
    assert {column: len(values) for column, values in found.items()} == {
        "aortic_hu": 3,
        "incomplete_organ": 3,
        "series_count": 2,
    }
    assert sum(scores["n_patients"] for scores in found["series_count"].values()) == 3147
    assert found["series_count"]["2"]["n_patients"] == 1564
