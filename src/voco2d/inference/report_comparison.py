"""The section that holds prediction tables of several arms against each other."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from voco2d.errors import LabelError, UsageError
from voco2d.evaluation.alignment import sort_rows
from voco2d.evaluation.comparison import PERMUTATIONS
from voco2d.evaluation.evaluate import evaluate_paired
from voco2d.evaluation.pairing import Aggregate, Paired, pair
from voco2d.evaluation.rsna_score import score_name
from voco2d.evaluation.significance import paired_difference
from voco2d.evaluation.tables import check_predictions
from voco2d.inference.report_canvas import Axis
from voco2d.inference.report_figures import interval_chart
from voco2d.inference.report_page import (
    Block,
    Bullets,
    Cell,
    Figure,
    Gallery,
    Heading,
    Paragraph,
    Row,
    Section,
    Table,
    scored,
)
from voco2d.inference.report_scores import Headlines, at, headlines, legend
from voco2d.inference.report_tests import tests_table
from voco2d.targets import RSNA_2023, TargetSet


def comparison_section(
    predictions: Mapping[str, pd.DataFrame],
    labels: pd.DataFrame,
    bootstrap: int = 1000,
    aggregate: Aggregate = "max",
    seed: int = 0,
    targets: TargetSet = RSNA_2023,
) -> Section:
    """Hold arms against each other on the patients they share; differences are to the first arm.

    Args:
        predictions: Name of the arm → its prediction table.
        labels: Of all patients.
        bootstrap: Resamples of intervals and differences, 1 or more.
        aggregate: How a patient's series become one row.
        seed: Of the resamples, the same for all arms.
        targets: What is scored.

    Raises:
        LabelError: The tables are not as they must be, or the arms share no patient.
        UsageError: There is no arm, or no resample.
    """
    if not predictions or bootstrap < 1:
        raise UsageError("a comparison takes at least one prediction table and one resample")
    arms, left_out = _shared(predictions, labels, aggregate, targets)
    first, *others = arms
    results = {name: evaluate_paired(paired, aggregate, bootstrap, seed) for name, paired in arms.items()}
    differences = {name: paired_difference(arms[first], arms[name], bootstrap, seed) for name in others}
    rows: list[Row] = []
    for path, title in _rows(targets):
        cells = [scored(at(result, path), at(result["intervals"], path)) for result in results.values()]
        cells += [_difference_cell(at(difference, path)) for difference in differences.values()]
        rows.append((title, *cells))
    caption = (
        f"{results[first]['n_patients']} patients. {legend(targets)} In small print: 95 % intervals by patient, "
        f"{bootstrap} resamples; differences are to {first}, on the same resamples. An interval of a difference that "
        "holds 0 says that these patients can't tell the two apart. Intervals cover the draw of patients, not another "
        "seed of training, and many rows are looked at: one that misses 0 by chance is to be expected."
    )
    header = ("score", *arms, *(f"{name} minus {first}" for name in others))
    blocks: list[Block] = [Table(header, tuple(rows), caption), Gallery((_arms_chart(results, targets),))]
    if others and aggregate != "none":
        sorted_arms = {name: sort_rows(paired) for name, paired in arms.items()}
        blocks += [Heading("Tests"), tests_table(sorted_arms, bootstrap, PERMUTATIONS, seed)]
    if left_out:
        blocks.append(Paragraph(f"{left_out} patients that not every arm has predicted are left out."))
    blocks += _warnings(results)
    return Section(f"Comparison of {' and '.join(arms)}", tuple(blocks))


def _shared(
    predictions: Mapping[str, pd.DataFrame], labels: pd.DataFrame, aggregate: Aggregate, targets: TargetSet
) -> tuple[dict[str, Paired], int]:
    """Join each arm on the patients that all arms have predicted; count those that not all have."""
    patients = [set(pair(table, labels, aggregate, targets).patient_ids) for table in predictions.values()]
    shared, known = set.intersection(*patients), set.union(*patients)
    if not shared:
        raise LabelError("the arms share no patient; predict the same patients with each")
    arms = {}
    for name, table in predictions.items():
        checked = check_predictions(table, targets=targets)
        arms[name] = pair(checked[checked["patient_id"].isin(shared)], labels, aggregate, targets)
    return arms, len(known - shared)


def _warnings(results: Mapping[str, Mapping[str, Any]]) -> list[Block]:
    """List what all arms have to say once, and what one of them has under its name."""
    every = list(dict.fromkeys(warning for result in results.values() for warning in result["warnings"]))
    items = []
    for warning in every:
        arms = [name for name, result in results.items() if warning in result["warnings"]]
        items.append(warning if len(arms) == len(results) else f"{', '.join(arms)}: {warning}")
    return [Heading("Mind"), Bullets(tuple(items))] if items else []


def _rows(targets: TargetSet) -> Headlines:
    score = score_name(targets)
    part = "RSNA part" if targets.is_rsna else "weighted log loss"
    return (
        *headlines(targets),
        *(((score, name), f"{part} {name} ↓") for name in targets.scored),
        *((("targets", name, "roc_auc"), f"ROC AUC {name}") for name in targets.scored),
    )


def _arms_chart(results: Mapping[str, Mapping[str, Any]], targets: TargetSet) -> Figure:
    key, title = score_name(targets), "RSNA score" if targets.is_rsna else "Score"
    rows = {name: (result[key]["mean"], *result["intervals"][key]["mean"]) for name, result in results.items()}
    return interval_chart(f"{title} of each arm", Axis(f"{title}, lower is better"), rows)


def _difference_cell(leaf: Mapping[str, float] | None) -> Cell:
    if leaf is None:
        return Cell("undefined")
    return scored(leaf["difference"], (leaf["low"], leaf["high"]), sign=True)
