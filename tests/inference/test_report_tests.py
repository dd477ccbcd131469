import numpy as np

from voco2d.evaluation.alignment import align
from voco2d.evaluation.comparison import compare
from voco2d.evaluation.holm import holm
from voco2d.inference.report import comparison_section
from voco2d.inference.report_page import Cell, Table
from voco2d.inference.report_tests import tests_table as table_of_tests

from .test_report import tables


def test_p_values_are_those_of_the_comparison_and_corrected_over_the_table():
    predictions, labels = tables(60)
    arms = dict(zip(("random", "perfect"), align(labels, [predictions, labels]), strict=True))
    table = table_of_tests(arms, resamples=20, permutations=999, seed=0)
    assert len(table.rows) == 5 + 6
    rsna = table.rows[0]
    (row,) = compare(labels, [predictions], [labels], ["rsna"], 20, permutations=999)
    assert (rsna[0], rsna[2]) == ("RSNA score ↓", f"{row.p:.2g}")
    assert isinstance(rsna[1], Cell)
    assert rsna[1].text == f"{row.difference:+.3f}".replace("-", "−")
    last = rsna[3]
    assert isinstance(last, Cell)
    assert last.strong
    assert float(last.text) > row.p
    assert holm([0.001] * 11)[0] == 0.011


def test_undefined_is_said_and_counts_for_nothing():
    predictions, labels = tables(40, healthy=("bowel",))
    arms = dict(zip("ab", align(labels, [predictions, labels]), strict=True))
    rows = {row[0]: row for row in table_of_tests(arms, 5, 99, 0).rows}
    assert [cell.text if isinstance(cell, Cell) else cell for cell in rows["mAP, 8 injuries"][1:]] == ["undefined"] * 3
    assert "ROC AUC injured, bowel" not in rows


def test_several_arms_name_what_is_compared_and_series_are_not_tested():
    predictions, labels = tables(20)
    other = predictions.assign(bowel_injury=np.linspace(0.1, 0.9, 20))
    arms = {"a": predictions, "b": labels, "c": other}
    section = comparison_section(arms, labels, bootstrap=5)
    table = [block for block in section.blocks if isinstance(block, Table)][1]
    assert {str(row[0]).rsplit("↓ ", 1)[-1] for row in table.rows if "RSNA score" in str(row[0])} == {
        "b minus a",
        "c minus a",
    }
    section = comparison_section(arms, labels, bootstrap=5, aggregate="none")
    assert sum(isinstance(block, Table) for block in section.blocks) == 1
