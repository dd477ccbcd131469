"""Parts of the page of scores that go into detail: calibration, areas of single classes, and subgroups."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from voco2d.evaluation.calibration import BINS, reliability_curve
from voco2d.evaluation.pairing import Paired
from voco2d.evaluation.subgroups import subgroup_metrics
from voco2d.inference.report_canvas import Axis
from voco2d.inference.report_figures import Line, curve_chart
from voco2d.inference.report_page import Block, Figure, Gallery, Heading, Paragraph, Row, Table, number, scored
from voco2d.targets import RSNA_2023, TargetSet

_TITLES: Mapping[str, str] = {
    "rsna": "RSNA score ↓",
    "rsna_organs": "RSNA of three organs ↓",
    "map": "mAP, 8 injuries",
    "any_injury.roc_auc": "ROC AUC any_injury",
}


def calibration_blocks(result: Mapping[str, Any], paired: Paired) -> list[Block]:
    """Show how far probabilities of injury can be believed: a table, and a curve a target."""
    rows = [(name, number(values["ece"]), number(values["brier"])) for name, values in result["calibration"].items()]
    known = [name for name in paired.targets.scored if paired.known(name).any()]
    caption = (
        f"Of the probability of {paired.targets.event}. ECE: mean distance of predicted and observed share in {BINS} "
        "bins of equal width. Brier: mean squared distance to 0 or 1, which also rewards telling patients apart. Below "
        "the dashed line more is promised than there is; models fitted with the score's sample weights do "
        "so on purpose."
    )
    table = Table(("target", "ECE ↓", "Brier ↓"), tuple(rows), caption)
    return [Heading("Calibration"), table, Gallery(tuple(_reliability(paired, name) for name in known))]


def class_table(result: Mapping[str, Any], targets: TargetSet = RSNA_2023) -> Table:
    """List every class with its rankings and decisions; in small print the interval of the area by DeLong's method."""
    rows: list[Row] = []
    for name in targets.scored:
        for grade, values in result["targets"][name]["classes"].items():
            area = result.get("delong", {}).get(name, {}).get(grade)
            interval = None if area is None else (area["low"], area["high"])
            others = [number(values[key]) for key in ("precision", "recall", "specificity", "f1")]
            ranked = number(values["average_precision"]), scored(values["roc_auc"], interval)
            rows.append((f"{name} {grade}", str(values["n"]), *ranked, *others))
    header = ("class", "n", "average precision", "ROC AUC", "precision", "recall", "specificity", "F1")
    return Table(header, tuple(rows), "In small print: 95 % interval of the area by DeLong's method.")


def subgroup_blocks(result: Mapping[str, Any], targets: TargetSet = RSNA_2023) -> list[Block]:
    """Show the scores of each subgroup, a table a column; nothing where there are none."""
    tables: list[Table] = []
    names = subgroup_metrics(targets)
    titles = [_TITLES.get(name, name) if targets.is_rsna else name for name in names]
    for column, values in result.get("subgroups", {}).items():
        rows: list[Row] = []
        for value, scores in values.items():
            intervals = scores.get("intervals", {})
            cells = [scored(scores[name], intervals.get(name)) for name in names]
            rows.append((str(value), str(scores["n_patients"]), *cells))
        tables.append(Table((column.replace("_", " "), "patients", *titles), tuple(rows)))
    if not tables:
        return []
    words = "Subgroups are small and many: one that stands out by chance is to be expected."
    return [Heading("Subgroups"), Paragraph(words), *tables]


def _reliability(paired: Paired, name: str) -> Figure:
    probabilities, truth = paired.labelled(name)
    curve = reliability_curve(truth > 0, 1 - probabilities[:, 0])
    return curve_chart(
        f"Reliability, {name}",
        Axis("predicted probability"),
        Axis("observed share"),
        [Line(f"{BINS} bins", curve.predicted, curve.observed)],
        Line("calibrated", np.array([0.0, 1.0]), np.array([0.0, 1.0])),
    )
