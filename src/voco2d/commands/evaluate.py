"""`voco2d evaluate`: score a table of predictions."""

import argparse
import json
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from voco2d.commands.tables import refuse_folder, write_text
from voco2d.errors import UsageError
from voco2d.evaluation.evaluate import evaluate
from voco2d.evaluation.subgroups import SUBGROUP_METRICS, group_patients
from voco2d.evaluation.tables import read_label_table, read_predictions, read_text_table
from voco2d.targets import TARGETS

_HEADLINES = ("rsna_organs", "map", "precision", "recall", "specificity", "f1", "roc_auc")
_PER_TARGET = ("average_precision", "roc_auc", "precision", "recall", "specificity", "f1", "log_loss")


def run(options: argparse.Namespace) -> int:
    """Print the scores, and write them for machines and as a page where asked."""
    refuse_folder(options.json)
    predictions = read_predictions(options.predictions)
    labels = read_label_table(options.labels)
    groups = _subgroups(options.subgroups) if options.subgroups else None
    scores = evaluate(predictions, labels, options.aggregate, options.bootstrap, options.seed, groups)
    _print_scores(scores)
    text = json.dumps(scores, indent=2, allow_nan=False) + "\n"
    if options.json:
        write_text(options.json, text)
    if options.out:
        write_text(options.out / "scores.json", text)
        _write_page(options, predictions, labels, groups)
    return 0


def _print_scores(scores: dict[str, Any]) -> None:
    console = Console(width=110)
    intervals = scores.get("intervals", {})
    overall = Table("score", "value", "95 % interval", title=f"{scores['n_patients']} patients")
    for name, value in scores["rsna"].items():
        overall.add_row(f"rsna {name}", _number(value), _interval(intervals.get("rsna", {}).get(name)))
    for name in _HEADLINES:
        overall.add_row(name, _number(scores[name]), _interval(intervals.get(name)))
    console.print(overall)
    table = Table("target", "n", *(name.replace("_", " ") for name in _PER_TARGET))
    for name in TARGETS:
        row = scores["targets"][name]
        table.add_row(name, str(row["n"]), *(_number(row[key]) for key in _PER_TARGET))
    console.print(table)
    for column, values in scores.get("subgroups", {}).items():
        console.print(_subgroup_table(column, values))
    for warning in scores["warnings"]:
        print(f"warning: {warning}")


def _subgroup_table(column: str, values: dict[str, Any]) -> Table:
    table = Table(column.replace("_", " "), "patients", *(name.replace(".", " ") for name in SUBGROUP_METRICS))
    for value, row in values.items():
        table.add_row(str(value), str(row["n_patients"]), *(_number(row[name]) for name in SUBGROUP_METRICS))
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
    options: argparse.Namespace, predictions: pd.DataFrame, labels: pd.DataFrame, groups: pd.DataFrame | None
) -> None:
    # imported here because matplotlib takes seconds that plain scores don't need
    from voco2d.inference.report import scores_section, write_report

    section = scores_section(
        predictions,
        labels,
        bootstrap=options.bootstrap or 1000,
        aggregate=options.aggregate,
        seed=options.seed,
        groups=groups,
    )
    write_report(options.out / "report.html", f"Evaluation of {options.predictions.name}", [section])
