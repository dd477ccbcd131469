"""`voco2d evaluate`: score a table of predictions."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from voco2d.commands.tables import refuse_folder, write_text
from voco2d.errors import UsageError
from voco2d.evaluation.evaluate import evaluate
from voco2d.evaluation.ordinal import ORDINAL_METRICS
from voco2d.evaluation.origin import ORIGINS, origin_warnings, read_origin
from voco2d.evaluation.rsna_score import score_name
from voco2d.evaluation.subgroups import group_patients, subgroup_metrics
from voco2d.evaluation.tables import read_label_table, read_predictions, read_text_table
from voco2d.target_block import read_targets
from voco2d.targets import TargetSet

_HEADLINES = ("map", "precision", "recall", "specificity", "f1", "roc_auc")
_PER_TARGET = ("average_precision", "roc_auc", "precision", "recall", "specificity", "f1", "log_loss")


def run(options: argparse.Namespace) -> int:
    """Print the scores, and write them for machines and as a page where asked."""
    refuse_folder(options.json)
    targets = read_targets(options.targets)
    predictions = read_predictions(options.predictions, targets)
    labels = read_label_table(options.labels, targets)
    groups = _subgroups(options.subgroups) if options.subgroups else None
    scores = evaluate(predictions, labels, options.aggregate, options.bootstrap, options.seed, groups, targets)
    origin = read_origin(options.predictions)
    scores |= origin
    scores["warnings"] += origin_warnings(origin)
    _print_scores(scores, targets)
    text = json.dumps(scores, indent=2, allow_nan=False) + "\n"
    if options.json:
        write_text(options.json, text)
    if options.out:
        write_text(options.out / "scores.json", text)
        _write_page(options, predictions, labels, groups, targets)
    return 0


def _print_scores(scores: dict[str, Any], targets: TargetSet) -> None:
    console = Console(width=110 if targets.is_rsna else 140)
    intervals = scores.get("intervals", {})
    overall = Table("score", "value", "95 % interval", title=f"{scores['n_patients']} patients")
    score = score_name(targets)
    for name, value in scores[score].items():
        overall.add_row(f"{score} {name}", _number(value), _interval(intervals.get(score, {}).get(name)))
    for name in (*(("rsna_organs",) if targets.is_rsna else ()), *_HEADLINES):
        overall.add_row(name, _number(scores[name]), _interval(intervals.get(name)))
    console.print(overall)
    columns: tuple[str, ...] = _PER_TARGET
    if any(target.kind == "ordinal" for target in targets.values()):
        columns = (*columns, *ORDINAL_METRICS)
    table = Table("target", "n", *(name.replace("_", " ") for name in columns))
    for name in targets:
        row = scores["targets"][name]
        table.add_row(name, str(row["n"]), *(_number(row[key]) if key in row else "" for key in columns))
    console.print(table)
    for column, values in scores.get("subgroups", {}).items():
        console.print(_subgroup_table(column, values, subgroup_metrics(targets)))
    for warning in scores["warnings"]:
        print(f"warning: {warning}")


def _subgroup_table(column: str, values: dict[str, Any], names: Sequence[str]) -> Table:
    table = Table(column.replace("_", " "), "patients", *(name.replace(".", " ") for name in names))
    for value, row in values.items():
        table.add_row(str(value), str(row["n_patients"]), *(_number(row[name]) for name in names))
    return table


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"


def _interval(pair: list[float] | None) -> str:
    return "" if not pair or pair[0] is None else f"{pair[0]:.4f} to {pair[1]:.4f}"


def _subgroups(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise UsageError(f"{path}: no such file; give a CSV with patient_id and what the subgroups are made of")
    return group_patients(read_text_table(path, "give one with patient_id and a column more"), str(path))


def _write_page(
    options: argparse.Namespace,
    predictions: pd.DataFrame,
    labels: pd.DataFrame,
    groups: pd.DataFrame | None,
    targets: TargetSet,
) -> None:
    # imported here because matplotlib takes seconds that plain scores don't need
    from voco2d.inference.report import scores_section, write_report
    from voco2d.inference.report_page import Paragraph

    section = scores_section(
        predictions,
        labels,
        bootstrap=options.bootstrap or 1000,
        aggregate=options.aggregate,
        seed=options.seed,
        groups=groups,
        targets=targets,
    )
    told = [ORIGINS[seen] for seen in read_origin(options.predictions).values()]
    section = replace(section, blocks=(*map(Paragraph, told), *section.blocks))
    write_report(options.out / "report.html", f"Evaluation of {options.predictions.name}", [section])
