"""The targets are those of RSNA 2023."""

from pathlib import Path

import pandas as pd
import pytest

from voco2d.targets import CLASS_COLUMNS, TARGETS


def test_weights_are_those_of_the_score() -> None:
    assert TARGETS["bowel"].weights == (1, 2)
    assert TARGETS["extravasation"].weights == (1, 6)
    assert all(TARGETS[organ].weights == (1, 2, 4) for organ in ("kidney", "liver", "spleen"))


@pytest.mark.realdata
def test_columns_are_those_of_the_sample_submission(real_data: Path) -> None:
    sample = pd.read_csv(real_data / "rsna" / "sample_submission.csv")
    assert tuple(sample.columns[1:]) == CLASS_COLUMNS
