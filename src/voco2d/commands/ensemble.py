"""`voco2d ensemble`: blend models with weights fitted on out-of-fold predictions, and write a submission."""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from voco2d.commands.tables import write_table, write_text
from voco2d.data.cohort_folds import read_folds
from voco2d.errors import UsageError
from voco2d.evaluation.ensemble import Ensemble, fit_ensemble
from voco2d.evaluation.evaluate import evaluate
from voco2d.evaluation.origin import TRANSDUCTIVE, common_origin, origin_path, origin_warnings, read_origin
from voco2d.evaluation.rsna_score import score_name
from voco2d.evaluation.submission import submission_table
from voco2d.evaluation.tables import read_label_table, read_predictions
from voco2d.target_block import read_targets
from voco2d.targets import TargetSet

_SHOWN = ("map", "precision", "recall")


def run(options: argparse.Namespace) -> int:
    """Fit, print each model and the blend out-of-fold, and write what was fitted and predicted."""
    if options.test is None and options.sample is not None:
        raise UsageError("--sample goes with --test: without test predictions there is no submission")
    if options.test is not None and len(options.test) != len(options.predictions):
        raise UsageError(f"{len(options.test)} tables after --test for {len(options.predictions)} models; give as many")
    targets = read_targets(options.targets)
    if options.sample is not None and not targets.is_rsna:
        raise UsageError("--sample: the submission is RSNA's; leave it out with --targets")
    tables = [read_predictions(path, targets) for path in options.predictions]
    tests = [read_predictions(path, targets) for path in options.test or ()]
    labels = read_label_table(options.labels, targets)
    folds = None if options.folds is None else read_folds(options.folds)
    ensemble, out_of_fold = fit_ensemble(tables, labels, folds, options.scaling, options.aggregate, targets)
    scores = {
        str(path): evaluate(table, labels, options.aggregate, targets=targets)
        for path, table in zip(options.predictions, tables, strict=True)
    }
    scores["ensemble, out-of-fold"] = evaluate(out_of_fold, labels, targets=targets)
    if tests:
        sample = None if options.sample is None else read_predictions(options.sample)
        blended = ensemble(tests, options.aggregate)
        if targets.is_rsna:
            write_table(options.out / "submission.csv", submission_table(blended, sample))
        else:
            write_table(options.out / "predictions.csv", blended)
    blend = options.out / "oof_predictions.csv"
    write_table(blend, out_of_fold)
    origins = {str(path): read_origin(path) for path in (*options.predictions, *(options.test or ()))}
    common = common_origin(origins[str(path)] for path in options.predictions)
    if common:
        write_text(origin_path(blend), json.dumps({"table": blend.name, **common}, indent=2) + "\n")
    else:  # nor must that of an earlier call speak for this table
        origin_path(blend).unlink(missing_ok=True)
    told = {
        **_described(options, ensemble, scores),
        TRANSDUCTIVE: {k: v[TRANSDUCTIVE] for k, v in origins.items() if v},
    }
    text = json.dumps(told, indent=2, allow_nan=False) + "\n"
    write_text(options.out / "weights.json", text)
    _print(scores, ensemble, options.predictions)
    for path, origin in origins.items():
        for warning in origin_warnings(origin):
            print(f"warning: {path}: {warning}")
    return 0


def _described(
    options: argparse.Namespace, ensemble: Ensemble, scores: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    return {
        "models": [str(path) for path in options.predictions],
        "aggregate": options.aggregate,
        "scaling": options.scaling,
        "weights": {name: list(weights) for name, weights in ensemble.weights.items()},
        "scalers": {name: vars(scaler) for name, scaler in ensemble.scalers.items()},
        "scores": {
            name: {key: values[key] for key in (score_name(ensemble.targets), *_shown(ensemble.targets))}
            for name, values in scores.items()
        },
    }


def _shown(targets: TargetSet) -> tuple[str, ...]:
    return ("rsna_organs", *_SHOWN) if targets.is_rsna else _SHOWN


def _print(scores: Mapping[str, Mapping[str, Any]], ensemble: Ensemble, models: Sequence[Path]) -> None:
    console = Console(width=110)
    score, shown = score_name(ensemble.targets), _shown(ensemble.targets)
    table = Table("predictions", score, *shown)
    for name, values in scores.items():
        numbers = [values[score]["mean"], *(values[key] for key in shown)]
        table.add_row(name, *("undefined" if value is None else f"{value:.4f}" for value in numbers))
    console.print(table)
    weights = Table("weight of", *ensemble.targets)
    for place, model in enumerate(models):
        weights.add_row(str(model), *(f"{ensemble.weights[name][place]:.3f}" for name in ensemble.targets))
    console.print(weights)
