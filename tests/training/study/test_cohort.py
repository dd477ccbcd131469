import numpy as np
import pandas as pd
import pytest

from voco2d.errors import LabelError
from voco2d.targets import CLASS_COLUMNS, TARGETS
from voco2d.training.study.args import ROLES, TEST, TRAIN, UNLABELED, VALIDATION, SplitArgs
from voco2d.training.study.cohort import draw_splits
from voco2d.training.study.work import pretraining_patients


def cohort(patients: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(0)
    labels = pd.DataFrame(0, index=range(patients), columns=list(CLASS_COLUMNS))
    for target in TARGETS.values():
        chosen = rng.choice(
            len(target.columns), patients, p=[0.7, *[0.3 / (len(target.columns) - 1)] * (len(target.columns) - 1)]
        )
        for row, grade in enumerate(chosen):
            labels.loc[row, target.columns[grade]] = 1
    labels.insert(0, "patient_id", [f"p{number:03}" for number in range(patients)])
    return pd.DataFrame({"patient_id": [*labels["patient_id"], *labels["patient_id"], "bare"]}), labels


def test_shares_are_drawn_alike_in_every_class() -> None:
    index, labels = cohort(200)
    args = SplitArgs(test=0.3, validation=0.1, unlabeled=0.2, seed=4)
    (roles,) = draw_splits(index, labels, args)
    assert {role: list(roles.values()).count(role) for role in ROLES} == {
        TEST: 60,
        VALIDATION: 20,
        TRAIN: 80,
        UNLABELED: 41,
    }
    whole = labels[list(CLASS_COLUMNS)].mean()
    for role in (TEST, TRAIN):
        part = labels[labels["patient_id"].map(roles) == role][list(CLASS_COLUMNS)].mean()
        assert (part - whole).abs().max() < 0.03
    assert draw_splits(index, labels.sample(frac=1, random_state=1), args) == [roles]
    assert draw_splits(index, labels, SplitArgs(seed=5)) != [roles]


def test_folds_test_everybody_once_and_never_show_the_tested() -> None:
    index, labels = cohort(90)
    splits = draw_splits(index, labels, SplitArgs(folds=3, validation=0.1, seed=4))
    tested = [{patient for patient, role in roles.items() if role == TEST} for roles in splits]
    assert len(tested) == 3
    assert sum(map(len, tested)) == len(set.union(*tested)) == 90
    for roles, test in zip(splits, tested, strict=True):
        assert set(roles) == set(index["patient_id"])
        seen = pretraining_patients(roles, "train")
        assert "bare" in seen
        assert not seen & test
        assert pretraining_patients(roles, "unlabeled") == {"bare"}
        assert list(roles.values()).count(VALIDATION) == 9


def test_too_few_patients_are_refused() -> None:
    index, labels = cohort(1)
    with pytest.raises(LabelError, match="leave nobody"):
        draw_splits(index, labels, SplitArgs(test=0.9, validation=0.0))
