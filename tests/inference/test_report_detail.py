import numpy as np

from voco2d.evaluation.evaluate import evaluate
from voco2d.evaluation.subgroups import group_patients, subgroup_metrics
from voco2d.inference.report import scores_section
from voco2d.inference.report_page import Cell, Heading, Table
from voco2d.targets import TARGETS

from .test_report import tables


def found(section) -> dict[str, Table]:
    return {block.header[0]: block for block in section.blocks if isinstance(block, Table)}


def test_calibration_classes_and_decisions_are_shown_as_evaluated():
    predictions, labels = tables(60)
    section, result = scores_section(predictions, labels, bootstrap=10), evaluate(predictions, labels)
    shown = found(section)
    calibration = [block for block in section.blocks if isinstance(block, Table) and "ECE ↓" in block.header]
    assert [row[0] for row in calibration[0].rows] == [*TARGETS, "any_injury", "mean"]
    assert calibration[0].rows[0][1] == f"{result['calibration']['bowel']['ece']:.3f}"
    kidney = next(row for row in shown["class"].rows if row[0] == "kidney high")
    area = kidney[3]
    assert isinstance(area, Cell)
    told = result["delong"]["kidney"]["high"]
    assert (area.text, area.note) == (f"{told['roc_auc']:.3f}", f"{told['low']:.3f} to {told['high']:.3f}")
    decided = next(block for block in section.blocks if isinstance(block, Table) and "specificity" in block.header)
    bowel = decided.rows[0]
    assert isinstance(bowel[4], Cell)
    assert bowel[4].text == f"{result['targets']['bowel']['specificity']:.3f}"


def test_a_table_a_column_of_subgroups():
    predictions, labels = tables(60)
    sites = labels[["patient_id"]].assign(site_name=["north", "south"] * 30, age=np.arange(60))
    section = scores_section(predictions, labels, bootstrap=10, groups=group_patients(sites))
    shown = found(section)
    assert [row[0] for row in shown["site name"].rows] == ["north", "south"]
    assert len(shown["age"].rows) == 3
    assert shown["age"].rows[0][1] == "20"
    assert len(shown["age"].header) == 2 + len(subgroup_metrics())
    assert any(isinstance(block, Heading) and block.text == "Subgroups" for block in section.blocks)
    plain = scores_section(predictions, labels, bootstrap=0)
    assert not any(isinstance(block, Heading) and block.text == "Subgroups" for block in plain.blocks)
