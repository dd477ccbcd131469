"""The targets are those of RSNA 2023."""

import re
from pathlib import Path

import pandas as pd
import pytest

import voco2d
from voco2d.targets import CLASS_COLUMNS, TARGETS


def test_weights_are_those_of_the_score() -> None:
    assert TARGETS["bowel"].weights == (1, 2)
    assert TARGETS["extravasation"].weights == (1, 6)
    assert all(TARGETS[organ].weights == (1, 2, 4) for organ in ("kidney", "liver", "spleen"))


@pytest.mark.realdata
def test_columns_are_those_of_the_sample_submission(real_data: Path) -> None:
    sample = pd.read_csv(real_data / "rsna" / "sample_submission.csv")
    assert tuple(sample.columns[1:]) == CLASS_COLUMNS


def test_nobody_asks_for_rsnas_targets_but_what_is_about_rsna() -> None:
    source = Path(voco2d.__file__).parent
    allowed = {"targets.py", "data/slice_labels.py", "evaluation/rsna_score.py", "evaluation/submission.py"}
    names = re.compile(r"\b(TARGETS|CLASS_COLUMNS|ORGANS|ANY_INJURY)\b")
    found = {str(file.relative_to(source)) for file in source.rglob("*.py") if names.search(file.read_text("utf-8"))}
    assert {file for file in found if not file.startswith("data/phantom/")} == allowed
