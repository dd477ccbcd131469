"""What the commands that use and judge what was trained take; imports nothing heavy."""

import argparse
from pathlib import Path

from voco2d.commands.option_types import count, out, source, targets


def predict(parser: argparse.ArgumentParser) -> None:
    """Add the options of `voco2d predict`."""
    parser.add_argument("inputs", nargs="*", type=source, metavar="INPUT", help="raw scans: whatever `prepare` takes")
    parser.add_argument(
        "--model",
        action="append",
        type=Path,
        required=True,
        metavar="RUN",
        help="run of `finetune`, a fold's weights, or package of `export`; given again, all are averaged",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="CSV", help="table of predictions; results and report come beside it"
    )
    parser.add_argument(
        "--watch", type=source, metavar="DIR", help="grade what is put into DIR; --out is a folder then"
    )
    parser.add_argument(
        "--quiet-seconds",
        type=count,
        default=30,
        metavar="N",
        help="how long files in DIR must stay the same first (default %(default)s)",
    )
    parser.add_argument("--once", action="store_true", help="with --watch: end when nothing waits")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default %(default)s)")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="default %(default)s")
    parser.add_argument(
        "--runtime", choices=("torch", "onnx"), help="engine (default: onnx for a package of `export`, else torch)"
    )
    parser.add_argument(
        "--gates",
        choices=("refuse", "flag", "off"),
        default="refuse",
        help="no number for scans unfit to be graded, a flagged one, or one without a look (default %(default)s)",
    )
    parser.add_argument(
        "--calibration", type=Path, metavar="FILE", help="fitted scalers, or none (default: those of the run)"
    )
    parser.add_argument(
        "--explain", type=Path, metavar="DIR", help="a page and the key slices of each study (extra explain)"
    )
    parser.add_argument("--masks", type=Path, metavar="DIR", help="organ masks, for a model of organ_crop=masks")
    parser.add_argument(
        "--test-flips",
        nargs="*",
        choices=("depth", "height", "width"),
        metavar="AXIS",
        help="average over mirror images, any of depth, height, width (default: as in training)",
    )
    parser.add_argument(
        "--identity-axes", metavar="CODE", default=None, help="axis directions of NIfTI files without geometry"
    )


def evaluate(parser: argparse.ArgumentParser) -> None:
    """Add the options of `voco2d evaluate`."""
    parser.add_argument("predictions", type=Path, metavar="PREDICTIONS", help="table of predictions")
    parser.add_argument("--labels", type=Path, required=True, metavar="CSV", help="as RSNA's train.csv")
    targets(parser)
    parser.add_argument("--aggregate", choices=("max", "mean", "none"), default="max", help="default %(default)s")
    parser.add_argument("--bootstrap", type=count, default=0, metavar="N", help="resamples for 95 %% intervals")
    parser.add_argument("--seed", type=count, default=0, help="of the bootstrap (default %(default)s)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for scores.json and report.html")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the scores for machines")
    parser.add_argument("--subgroups", type=Path, metavar="CSV", help="patient_id and columns to score the values of")


def ensemble(parser: argparse.ArgumentParser) -> None:
    """Add the options of `voco2d ensemble`."""
    parser.add_argument("predictions", nargs="+", type=Path, metavar="OOF", help="out-of-fold predictions, one a model")
    parser.add_argument("--labels", type=Path, required=True, metavar="CSV", help="as RSNA's train.csv")
    targets(parser)
    out(parser, "folder for weights.json, oof_predictions.csv and, with --test, submission.csv")
    parser.add_argument("--folds", type=Path, metavar="CSV", help="patient_id and fold (default: five, stratified)")
    parser.add_argument(
        "--test", nargs="+", type=Path, metavar="PRED", help="predictions to blend, in the same order, not calibrated"
    )
    parser.add_argument("--sample", type=Path, metavar="CSV", help="sample submission that the submission must match")
    parser.add_argument("--scaling", choices=("none", "temperature", "classes"), default="none", help="of each target")
    parser.add_argument("--aggregate", choices=("max", "mean"), default="max", help="default %(default)s")


def report(parser: argparse.ArgumentParser) -> None:
    """Add the options of `voco2d report`."""
    parser.add_argument("run", type=Path, metavar="RUN", help="a pretraining or fine-tuning run")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: report.html in the run folder")


def convert(parser: argparse.ArgumentParser) -> None:
    """Add the options of `voco2d convert`."""
    parser.add_argument("source", type=Path, metavar="SOURCE", help="run folder, or weights file of anyone")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DEST", help="*.safetensors, or a folder with --to hf"
    )
    parser.add_argument("--to", choices=("timm", "hf"), default="timm", help="default %(default)s")
    parser.add_argument("--backbone", metavar="NAME", help="timm name, where SOURCE doesn't tell it")
    parser.add_argument(
        "--in-chans", type=count, default=1, metavar="C", help="channels of the result's images (default %(default)s)"
    )
    parser.add_argument("--license", default="unknown", metavar="SPDX", help="of the weights, for the model card")
    parser.add_argument(
        "--keep-patients", action="store_true", help="with --to hf: keep the digests of the patients seen in training"
    )
    parser.add_argument("--json", action="store_true", help="for machines")


def export(parser: argparse.ArgumentParser) -> None:
    """Add the options of `voco2d export`."""
    parser.add_argument("run", type=Path, metavar="RUN", help="made by `voco2d finetune`, or the weights of one fold")
    out(parser, "folder for the package; it must not exist")
    parser.add_argument("--license", default="unknown", metavar="SPDX", help="of the weights, for the card")
    parser.add_argument("--json", action="store_true", help="for machines")


def info(parser: argparse.ArgumentParser) -> None:
    """Add the options of `voco2d info`."""
    parser.add_argument("--json", action="store_true", help="for machines")
