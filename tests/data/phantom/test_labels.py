from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from voco2d.data.phantom.labels import draw_grades, joint_shares, label_row
from voco2d.targets import CLASS_COLUMNS, TARGETS


def test_shares_sum_to_one_over_known_grades() -> None:
    shares = joint_shares()
    assert list(shares.columns) == [*TARGETS, "share"]
    assert shares["share"].sum() == pytest.approx(1, abs=1e-6)
    for name, target in TARGETS.items():
        assert set(shares[name]) == set(range(len(target.classes)))


@pytest.mark.realdata
def test_shares_are_those_of_the_real_table(real_data: Path) -> None:
    real = pd.read_csv(real_data / "rsna" / "train.csv")
    shares = joint_shares()
    for name, target in TARGETS.items():
        for index, column in enumerate(target.columns):
            assert shares.loc[shares[name] == index, "share"].sum() == pytest.approx(real[column].mean(), abs=1e-6)
    healthy = shares.loc[(shares[list(TARGETS)] == 0).all(axis=1), "share"].sum()
    assert healthy == pytest.approx(1 - real["any_injury"].mean(), abs=1e-6)


def test_drawn_shares_follow_the_table() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_grades(rng, enriched=False) for _ in range(1500)]
    injured = np.mean([any(grades.values()) for grades in drawn])
    assert injured == pytest.approx(0.272, abs=0.04)


def test_enriched_injures_about_half_in_each_organ() -> None:
    rng = np.random.default_rng(0)
    drawn = pd.DataFrame([draw_grades(rng, enriched=True) for _ in range(1500)])
    assert (drawn > 0).mean().to_dict() == pytest.approx(
        {"bowel": 0.35, "extravasation": 0.35, "kidney": 0.5, "liver": 0.5, "spleen": 0.5}, abs=0.05
    )
    assert (drawn["liver"] == 2).mean() == pytest.approx(0.25, abs=0.05)


def test_label_row_is_one_hot_a_target() -> None:
    row = label_row({"bowel": 0, "extravasation": 1, "kidney": 0, "liver": 2, "spleen": 1})
    assert list(row) == [*CLASS_COLUMNS, "any_injury"]
    assert [name for name, value in row.items() if value] == [
        "bowel_healthy", "extravasation_injury", "kidney_healthy", "liver_high", "spleen_low", "any_injury",
    ]  # fmt: skip
    assert label_row(dict.fromkeys(TARGETS, 0))["any_injury"] == 0
