"""Sections about prediction tables: scores with intervals, curves, comparisons, and the predictions themselves."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import pandas as pd
from sklearn.metrics import precision_recall_curve, roc_curve

from voco2d.evaluation.evaluate import evaluate_paired
from voco2d.evaluation.ordinal import ORDINAL_METRICS
from voco2d.evaluation.pairing import Aggregate, Paired, pair
from voco2d.evaluation.rsna_score import score_name
from voco2d.evaluation.subgroups import known_groups
from voco2d.evaluation.tables import ASSESSED, check_predictions
from voco2d.inference.report_canvas import Axis
from voco2d.inference.report_detail import calibration_blocks, class_table, subgroup_blocks
from voco2d.inference.report_figures import Line, curve_chart
from voco2d.inference.report_page import (
    Block,
    Bullets,
    Cell,
    Gallery,
    Heading,
    Paragraph,
    Row,
    Section,
    Table,
    scored,
)
from voco2d.targets import RSNA_2023, Target, TargetSet

Headlines: TypeAlias = Sequence[tuple[tuple[str, ...], str]]
"""Where a score stands in the tree, and what it is called."""
_RSNA_HEADLINES: Final[Headlines] = (
    (("rsna", "mean"), "RSNA score ↓"),
    (("rsna_organs",), "RSNA of three organs ↓"),
    (("map",), "mAP, 8 injuries"),
    (("precision",), "precision, 8 injuries"),
    (("recall",), "recall, 8 injuries"),
    (("specificity",), "specificity, 8 injuries"),
    (("f1",), "F1, 8 injuries"),
    (("roc_auc",), "ROC AUC, 8 injuries"),
    (("map_organs9",), "mAP, 9 organ classes"),
    (("precision_organs9",), "precision, 9 organ classes"),
    (("recall_organs9",), "recall, 9 organ classes"),
)
_HEADLINES: Final[Headlines] = (
    (("score", "mean"), "score ↓"),
    (("map",), "mAP"),
    (("precision",), "precision"),
    (("recall",), "recall"),
    (("specificity",), "specificity"),
    (("f1",), "F1"),
    (("roc_auc",), "ROC AUC"),
)
_RSNA_LEGEND: Final = (
    "↓: lower is better. The RSNA score is the mean of six weighted log losses; that of three organs covers kidney, "
    "liver and spleen only and is not to be held against it. 8 injuries: injury of bowel and extravasation, low and "
    "high of the organs. 9 organ classes: healthy, low and high of the organs, as the paper averages."
)
_LEGEND: Final = (
    "↓: lower is better. The score is the mean of the targets' weighted log losses; it is not RSNA's. The others are "
    "means over the second class of each target of two classes, and over all classes of the others."
)
_PROBABILITIES = (
    ("average_precision", "average precision"),
    ("roc_auc", "ROC AUC"),
    ("log_loss", "log loss ↓"),
)
_DECISIONS = (
    ("accuracy", "accuracy"),
    ("precision", "precision"),
    ("recall", "recall"),
    ("specificity", "specificity"),
    ("f1", "F1"),
)
_MEANS = (
    "Targets of three classes or more are averaged over them. ↓: lower is better; weighted log loss: with the sample "
    "weights of the classes, a target's part of the score."
)
_RULE = (
    "A target of two classes is called the second from 0.5 on, an ordinal one the highest class that is reached or "
    "passed with 0.5 or more, another one is given its most probable class. Where one class is common accuracy is high "
    "for a model that always calls that."
)
_ROWS_SHOWN = 50


def scores_section(
    predictions: pd.DataFrame,
    labels: pd.DataFrame,
    bootstrap: int = 1000,
    aggregate: Aggregate = "max",
    seed: int = 0,
    title: str = "Scores",
    groups: pd.DataFrame | None = None,
    targets: TargetSet = RSNA_2023,
) -> Section:
    """Score a prediction table: overall, each target and class, subgroups, calibration, and curves.

    Args:
        predictions: As `voco2d evaluate` takes it.
        labels: As `voco2d evaluate` takes it.
        bootstrap: Resamples of the 95 % intervals; 0 for none.
        aggregate: How a patient's series become one row.
        seed: Of the resamples.
        title: Heading of the section.
        groups: As `evaluate` takes them.
        targets: What is scored.

    Raises:
        LabelError: The tables are not as they must be.
    """
    paired = pair(predictions, labels, aggregate, targets)
    known = known_groups(check_predictions(predictions, targets=targets), groups)
    result = evaluate_paired(paired, aggregate, bootstrap, seed, known)
    about = f"{result['n_patients']} patients, {result['n_rows']} rows scored (aggregate: {aggregate})."
    if bootstrap:
        about += f" In small print: 95 % intervals of a bootstrap by patient, {bootstrap} resamples, seed {seed}."
    blocks: list[Block] = [Paragraph(about), _headline_table(result, targets), *_target_tables(result, targets)]
    if result["warnings"]:
        blocks += [Heading("Mind"), Bullets(tuple(result["warnings"]))]
    blocks += [*subgroup_blocks(result, targets), Heading("Single classes"), class_table(result, targets)]
    return Section(title, (*blocks, *_curves(paired), *calibration_blocks(result, paired)))


def prediction_section(predictions: pd.DataFrame, targets: TargetSet = RSNA_2023) -> Section:
    """List predictions: each target's most probable class, the others in small print, and what was not assessed."""
    rows: list[Row] = []
    for row in predictions.head(_ROWS_SHOWN).to_dict("records"):
        identity = Cell(str(row["patient_id"]), _text(row.get("series_id")))
        if row.get("status", ASSESSED) == ASSESSED:
            rows.append((identity, *(_graded(row, target) for target in targets.values()), ""))
        else:
            rows.append((identity, *[""] * len(targets), _text(row.get("reason")) or "not assessed"))
    caption = "Probabilities of the most probable class, the others in small print. One row a series."
    blocks: list[Block] = [Table(("patient, series", *targets, "not assessed because"), tuple(rows), caption)]
    if len(predictions) > _ROWS_SHOWN:
        blocks.append(Paragraph(f"{len(predictions) - _ROWS_SHOWN} more rows are in the table on disk."))
    return Section("Predictions", tuple(blocks))


def at(tree: Any, path: tuple[str, ...]) -> Any:
    """Follow `path` into nested mappings; None where there is no tree."""
    for key in path:
        tree = None if tree is None else tree[key]
    return tree


def headlines(targets: TargetSet) -> Headlines:
    """List the scores that come first on a page."""
    return _RSNA_HEADLINES if targets.is_rsna else _HEADLINES


def legend(targets: TargetSet) -> str:
    """Explain `headlines`."""
    return _RSNA_LEGEND if targets.is_rsna else _LEGEND


def _headline_table(result: Mapping[str, Any], targets: TargetSet) -> Table:
    intervals = result.get("intervals")
    rows = [(title, scored(at(result, path), at(intervals, path))) for path, title in headlines(targets)]
    return Table(("score", "value"), tuple(rows), legend(targets))


def _target_tables(result: Mapping[str, Any], targets: TargetSet) -> list[Block]:
    """List the targets twice: what their probabilities are worth, and the decisions made from them."""
    intervals = result.get("intervals")
    ranked: list[Row] = []
    decided: list[Row] = []
    score = score_name(targets)
    for name, target in targets.scored.items():
        values, path = result["targets"][name], ("targets", name)
        injured = sum(entry["n"] for grade, entry in values["classes"].items() if grade != target.classes[0])
        cells = {key: scored(values[key], at(intervals, (*path, key))) for key, _ in (*_PROBABILITIES, *_DECISIONS)}
        weighted = scored(result[score][name], at(intervals, (score, name)))
        ranked.append((name, f"{injured}/{values['n']}", *(cells[key] for key, _ in _PROBABILITIES), weighted))
        decided.append((name, *(cells[key] for key, _ in _DECISIONS)))
    first = "injured" if targets.is_rsna else "not of the first class"
    weighted_title = "RSNA part ↓" if targets.is_rsna else "weighted log loss ↓"
    titles = ("target", first, *(title for _, title in _PROBABILITIES), weighted_title)
    tables: list[Block] = [
        Table(titles, tuple(ranked), _MEANS),
        Table(("target", *(title for _, title in _DECISIONS)), tuple(decided), _RULE),
    ]
    return [*tables, *_ordinal_table(result, targets)]


def _ordinal_table(result: Mapping[str, Any], targets: TargetSet) -> list[Block]:
    """List how far called grades lie from the true ones, where classes have an order."""
    rows: list[Row] = []
    for name in (name for name, target in targets.scored.items() if target.kind == "ordinal"):
        values, bounds = result["targets"][name], at(result.get("intervals"), ("targets", name))
        cells = [scored(values[key], at(bounds, (key,))) for key in ORDINAL_METRICS]
        matrix = "; ".join(" ".join(map(str, counts)) for counts in values["confusion"])
        rows.append((name, *cells, matrix))
    header = ("target", "quadratic kappa", "grade error ↓", "rows by true class, called class across")
    caption = "Kappa: 1 is full agreement, 0 that of chance. Grade error: mean distance of the called grade in grades."
    return [Table(header, tuple(rows), caption)] if rows else []


def _curves(paired: Paired) -> list[Block]:
    """Draw a ROC and a precision-recall curve of each target."""
    roc, precision_recall, words = [], [], []
    for name, target in paired.targets.scored.items():
        hits, precisions = [], []
        probabilities, truth = paired.labelled(name)
        for index, grade in enumerate(target.classes[1:], start=1):
            positive, score = truth == index, probabilities[:, index]
            if positive.all() or not positive.any():
                words.append(f"{name}: {grade} is {'all there is' if positive.any() else 'never there'}, so no curve.")
                continue
            alarm_rate, hit_rate, _ = roc_curve(positive, score)
            hits.append(Line(grade, alarm_rate, hit_rate))
            precision, recall, _ = precision_recall_curve(positive, score)
            precisions.append(Line(f"{grade} ({positive.mean():.1%} of rows)", recall, precision))
        if hits:
            rates = Axis("false positive rate"), Axis("true positive rate")
            roc.append(curve_chart(f"ROC, {name}", *rates, hits, _diagonal("chance")))
            axes = Axis("recall"), Axis("precision")
            precision_recall.append(curve_chart(f"Precision and recall, {name}", *axes, precisions, steps=True))
    blocks: list[Block] = []
    for heading, figures in (("ROC curves", roc), ("Precision and recall", precision_recall)):
        blocks += [Heading(heading), Gallery(tuple(figures))] if figures else []
    if words:
        blocks.append(Bullets(tuple(words)))
    return blocks


def _diagonal(label: str) -> Line:
    return Line(label, np.array([0.0, 1.0]), np.array([0.0, 1.0]))


def _graded(row: Mapping[Any, Any], target: Target) -> Cell:
    values = {grade: float(row[column]) for grade, column in zip(target.classes, target.columns, strict=True)}
    best = max(values, key=values.__getitem__)
    others = ", ".join(f"{grade} {value:.2f}" for grade, value in values.items() if grade != best)
    return Cell(f"{best} {values[best]:.2f}", others, strong=best != target.classes[0])


def _text(value: Any) -> str:
    return "" if value is None or (isinstance(value, float) and np.isnan(value)) else str(value)
