import pytest

from voco2d.errors import LabelError, UsageError
from voco2d.evaluation.evaluate import evaluate
from voco2d.inference.report import comparison_section
from voco2d.inference.report_page import Bullets, Cell, Gallery, Paragraph, Table

from .test_report import tables


def table_of(section) -> Table:
    return next(block for block in section.blocks if isinstance(block, Table))


def test_arms_stand_side_by_side_with_their_difference():
    predictions, labels = tables(40)
    section = comparison_section({"random": predictions, "perfect $": labels}, labels, bootstrap=50)
    table = table_of(section)
    assert table.header == ("score", "random", "perfect $", "perfect $ minus random")
    first = table.rows[0]
    assert first[0] == "RSNA score ↓"
    expected = evaluate(predictions, labels)["rsna"]["mean"]
    assert isinstance(first[1], Cell)
    assert first[1].text == f"{expected:.3f}"
    assert isinstance(first[3], Cell)
    assert first[3].text == f"−{expected:.3f}"
    assert "can't tell the two apart" in table.caption
    assert any(isinstance(block, Gallery) for block in section.blocks)


def test_only_shared_patients_are_compared():
    predictions, labels = tables(20)
    section = comparison_section({"a": predictions.iloc[:15], "b": predictions.iloc[3:]}, labels, bootstrap=5)
    assert table_of(section).caption.startswith("12 patients.")
    assert any(isinstance(block, Paragraph) and block.text.startswith("8 patients") for block in section.blocks)
    difference = table_of(section).rows[0][3]
    assert isinstance(difference, Cell)
    assert difference.text == "+0.000"


def test_undefined_scores_are_said():
    predictions, labels = tables(20, healthy=("bowel",))
    section = comparison_section({"a": predictions, "b": labels}, labels, bootstrap=5)
    cells = next(row for row in table_of(section).rows if row[0] == "ROC AUC bowel")
    assert [cell.text for cell in cells[1:] if isinstance(cell, Cell)] == ["undefined"] * 3
    warnings = next(block for block in section.blocks if isinstance(block, Bullets)).items
    assert sum("bowel_injury never occurs" in warning for warning in warnings) == 1


def test_one_arm_is_enough_and_none_is_not():
    predictions, labels = tables(20)
    assert table_of(comparison_section({"only": predictions}, labels, bootstrap=5)).header == ("score", "only")
    with pytest.raises(UsageError, match="at least one"):
        comparison_section({}, labels)
    with pytest.raises(LabelError, match="share no patient"):
        comparison_section({"a": predictions.iloc[:5], "b": predictions.iloc[5:]}, labels)
