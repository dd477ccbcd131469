"""`voco2d demo`: the whole story on a phantom cohort, told by the commands a user would type."""

import argparse
import json
import shlex
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from voco2d.commands.tables import write_table, write_text
from voco2d.errors import UsageError, Voco2dError
from voco2d.evaluation.tables import read_label_table, read_predictions
from voco2d.inference.report import (
    Section,
    comparison_section,
    finetune_curves_section,
    montage_section,
    prediction_section,
    pretrain_curves_section,
    scores_section,
    settings_section,
    text_section,
    write_report,
)

_MARKER = "demo.json"
_ARMS = ("random", "voco2d")
_CAVEAT = (
    "A cohort of {patients} phantoms proves nothing about the gain of pretraining: the intervals of the two starts are "
    "far wider than any difference between them, one seed was run, and phantoms are not patients. This page shows that "
    "every part works and what its output looks like."
)
_PHANTOM = ("size=160", "mean_slices=40")
_PREPARE = ("preprocess.size=[32,96,96]",)
_PRETRAIN = (
    "backbone=mobilenetv3_small_050",
    "steps=240",
    "checkpoint_every=120",
    "log_every=5",
    "method.crop=32",
    "method.slices=8",
    "method.hidden=256",
    "method.flips=false",
    "method.feature_dropout=0",
    "optim.lr=3e-3",
    "optim.warmup_steps=20",
)
_FINETUNE = (
    "backbone=mobilenetv3_small_050",
    "epochs=8",
    "folds=2",
    "readout.slices=24",
    "readout.crop=88",
    "optim.lr=1e-3",
)

_Main = Callable[[Sequence[str]], int]


def run(options: argparse.Namespace) -> int:
    """Run the story in `options.out`, replacing an earlier demo there.

    Raises:
        UsageError: The folder holds something that is no demo, or the cohort is too small for its folds.
        Voco2dError: A step failed.
    """
    if options.patients < 12:
        raise UsageError(f"--patients {options.patients}: the demo needs at least 12 for its two folds")
    begun = time.monotonic()
    out: Path = options.out
    _clear(out)
    write_text(out / _MARKER, json.dumps({"patients": options.patients, "seed": options.seed}) + "\n")
    story = _Story(out, options.main)
    story.run_all(options.patients, options.seed)
    _write_page(story, options.patients)
    _print_comparison(story)
    print(_CAVEAT.format(patients=options.patients))
    print(f"report: {out / 'report.html'} ({(time.monotonic() - begun) / 60:.1f} minutes)")
    return 0


class _Story:
    """The steps of the demo in a folder; each is one command line, shown before it runs."""

    def __init__(self, out: Path, main: _Main) -> None:
        self.out = out
        self.commands: list[str] = []
        self._main = main

    def run_all(self, patients: int, seed: int) -> None:
        """Make the cohort, prepare, pretrain, fine-tune from both starts, evaluate and predict."""
        cohort, store, labels = self.out / "cohort", self.out / "store", self.out / "labels.csv"
        self._call("phantom", cohort, "--patients", patients, "--seed", seed, "--enriched", *_PHANTOM)
        _write_labels(cohort / "train.csv", labels, labelled=patients * 2 // 3)
        self._call("prepare", cohort, "--out", store, *_PREPARE)
        pretrained = self.out / "pretrain"
        self._call("pretrain", store, "--out", pretrained, "--exclude", labels, *_PRETRAIN, f"seed={seed}")
        for arm in _ARMS:
            start = "random" if arm == "random" else pretrained
            run = self.run_of(arm)
            self._call("finetune", store, "--labels", labels, "--init", start, "--out", run, *_FINETUNE, f"seed={seed}")
            self._call(
                "evaluate",
                run / "oof_predictions.csv",
                "--labels",
                labels,
                "--bootstrap",
                500,
                "--json",
                self._scores(arm),
            )
        unseen = self.out / "unseen"
        self._call("phantom", unseen, "--patients", 1, "--seed", seed + 1, "--enriched", *_PHANTOM)
        scan = unseen / "train_images"
        # a phantom may be drawn with too little abdomen to be graded; the demo shows its numbers with that flag
        words = ("--model", self.run_of("voco2d"), "--gates", "flag")
        self._call("predict", scan, *words, "--out", self.out / "unseen_predictions.csv")

    def run_of(self, arm: str) -> Path:
        """Name the fine-tuning run of an arm."""
        return self.out / f"finetune-{arm}"

    def scores(self, arm: str) -> dict[str, Any]:
        """Read the scores of an arm."""
        scores: dict[str, Any] = json.loads(self._scores(arm).read_text(encoding="utf-8"))
        return scores

    def _scores(self, arm: str) -> Path:
        return self.out / f"scores-{arm}.json"

    def _call(self, *words: object) -> None:
        texts = [str(word) for word in words]
        line = f"voco2d {shlex.join(texts)}"
        self.commands.append(line)
        print(f"\n$ {line}", flush=True)
        if self._main(texts) != 0:
            raise Voco2dError(f"this step failed, the reason stands above: {line}")


def _clear(out: Path) -> None:
    if out.is_dir() and any(out.iterdir()):
        if not (out / _MARKER).is_file():
            raise UsageError(f"{out} is not empty and holds no earlier demo; choose another --out")
        shutil.rmtree(out)


def _write_labels(table: Path, out: Path, labelled: int) -> None:
    """Keep the labels of the last `labelled` patients; the others are pretrained on without."""
    labels = pd.read_csv(table, dtype={"patient_id": str})
    write_table(out, labels.tail(labelled))


def _write_page(story: _Story, patients: int) -> None:
    labels = read_label_table(story.out / "labels.csv")
    predictions = {arm: read_predictions(story.run_of(arm) / "oof_predictions.csv") for arm in _ARMS}
    unseen = read_predictions(story.out / "unseen_predictions.csv")
    sections: list[Section] = [
        text_section("What this page is", [_CAVEAT.format(patients=patients)]),
        text_section("Commands", story.commands),
        pretrain_curves_section(story.out / "pretrain"),
        *(finetune_curves_section(story.run_of(arm)) for arm in _ARMS),
        comparison_section(predictions, labels),
        scores_section(predictions["voco2d"], labels, bootstrap=500),
        montage_section(story.out / "store", predictions["voco2d"], labels),
        prediction_section(unseen),
        settings_section(story.out / "pretrain"),
        settings_section(story.run_of("voco2d")),
    ]
    write_report(story.out / "report.html", title="voco2d demo", sections=sections)


def _print_comparison(story: _Story) -> None:
    table = Table("out-of-fold score", *_ARMS, title="start of the classifier", caption="95 % intervals by patient")
    scores = {arm: story.scores(arm) for arm in _ARMS}
    table.add_row("RSNA score (lower is better)", *(_cell(scores[arm], "rsna", "mean") for arm in _ARMS))
    for name, title in (("map", "mAP"), ("precision", "precision"), ("recall", "recall")):
        table.add_row(title, *(_cell(scores[arm], name) for arm in _ARMS))
    Console(width=110).print(table)


def _cell(scores: dict[str, Any], *path: str) -> str:
    value, interval = scores, scores["intervals"]
    for key in path:
        value, interval = value[key], interval[key]
    return "undefined" if value is None else f"{value:.3f} ({interval[0]:.3f} to {interval[1]:.3f})"
