"""The command line: what each command takes; the work itself lies in `commands/` and is imported only when called."""

import argparse
import logging
import os
import re
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

from voco2d.commands import bench_options
from voco2d.errors import Voco2dError
from voco2d.logs import start_logging, wordless
from voco2d.version import VERSION

_OVERRIDE = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*=")
_CONFIGURABLE = ("phantom", "prepare", "pretrain", "finetune", "study")
"""Commands that take `key=value` words after their options."""
_FLAGS = ("--resume", "--enriched", "--ablation", "--quick", "--slurm-array", "--verbose")
"""Options without a value."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: The words after `voco2d`; by default those of the process.

    Returns:
        0 done, 1 failed, 2 wrong use.
    """
    # torch's threads wait by spinning unless told otherwise: beside another busy process that is 25 times slower
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    words = list(sys.argv[1:] if argv is None else argv)
    parser = build_parser()
    overrides: list[str] = []
    if words and words[0] in _CONFIGURABLE:
        words, overrides = _split(words)
    options, unknown = parser.parse_known_args(words)
    if unknown:
        options.parser.error(f"unrecognized arguments: {' '.join(unknown)}; see {options.parser.prog} --help")
    options.overrides = overrides
    options.main = main  # the demo runs the other commands
    start_logging(options.verbose)
    try:
        code: int = import_module(f"voco2d.commands.{options.command}").run(options)
    except Voco2dError as error:
        return _fail(options, str(error), error.exit_code, error)
    except KeyboardInterrupt as error:
        return _fail(options, "interrupted; the same command goes on where it was, see --help", 1, error)
    except OSError as error:
        return _fail(options, f"{error.filename or options.command}: {error.strerror or error}", 1, error)
    except Exception as error:  # whatever it is, a user gets one line; its words may hold identifiers
        advice = "a fault of voco2d: please report it with the traceback that --verbose shows"
        return _fail(options, f"unexpected {type(error).__name__}; {advice}", 1, error)
    return code


def build_parser() -> argparse.ArgumentParser:
    """Describe every command; importing nothing heavy, so that `--help` answers at once."""
    parser = argparse.ArgumentParser(prog="voco2d", description=_DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"voco2d {VERSION}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, summary, describe in _COMMANDS:
        command = commands.add_parser(
            name,
            help=summary,
            description=summary,
            epilog=_OVERRIDES_HINT if name in _CONFIGURABLE else None,
            allow_abbrev=False,
        )
        command.add_argument("-v", "--verbose", action="store_true", help="tell more, and show tracebacks")
        command.set_defaults(parser=command)  # so that wrong use shows the usage of the command
        describe(command)
    return parser


def _split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Part `key=value` words from the others; the value of an option is never one of them."""
    plain: list[str] = []
    overrides: list[str] = []
    for before, word in pairwise(words):
        is_value = before.startswith("--") and before not in _FLAGS
        is_override = _OVERRIDE.match(word) and not is_value and not os.path.lexists(word)
        (overrides if is_override else plain).append(word)
    return [words[0], *plain], overrides


def _fail(options: argparse.Namespace, message: str, code: int, error: BaseException) -> int:
    if options.verbose:
        logging.getLogger(__name__).debug("traceback of the error below, without words\n%s", wordless(error))
    print(f"voco2d {options.command}: error: {' '.join(message.split())}", file=sys.stderr)
    return code


def _count(text: str) -> int:
    if not re.fullmatch("[0-9]{1,18}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 0")
    return int(text)


def _source(text: str) -> Path:
    if not text:  # as of a shell variable that is not set; as a path it would mean this folder
        raise argparse.ArgumentTypeError("an empty path")
    return Path(text)


def _positive(text: str) -> int:
    number = _count(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return number


def _location(text: str) -> Any:
    """Take a path or a URL; what URLs need is imported only for one."""
    if "://" not in text:
        return Path(text)
    location: Any = import_module("voco2d.store.location")
    try:
        return location.parse_location(text)
    except Voco2dError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _out(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help=what)


def _demo(parser: argparse.ArgumentParser) -> None:
    _out(parser, "folder for everything the demo makes; an earlier demo there is replaced")
    parser.add_argument("--patients", type=_count, default=48, help="size of the phantom cohort (default %(default)s)")
    parser.add_argument("--seed", type=_count, default=0, help="default %(default)s")


def _phantom(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", type=Path, metavar="OUT", help="folder for the cohort, in the RSNA 2023 layout")
    parser.add_argument("--patients", type=_count, required=True, help="number of patients")
    parser.add_argument("--seed", type=_count, default=0, help="default %(default)s")
    parser.add_argument("--enriched", action="store_true", help="raise the share of injuries, for small cohorts")


def _prepare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "sources", nargs="+", type=_source, metavar="SRC", help="scans, trees, lists: see docs/formats.md"
    )
    parser.add_argument(
        "--out",
        type=_location,
        required=True,
        metavar="STORE",
        help="the store to make or to continue: a folder, or a URL such as s3://bucket/store",
    )
    parser.add_argument("--config", metavar="FILE", help="YAML with the keys of `prepare`")
    parser.add_argument("--workers", type=_count, metavar="N", help="processes; 0 starts one a core (default: 0)")
    parser.add_argument(
        "--dask",
        metavar="ADDRESS",
        help="dask scheduler whose workers do the work, or local:N; they must see SRC and STORE at the same paths",
    )
    parser.add_argument("--masks", type=Path, metavar="DIR", help="organ masks; sets preprocess.organ_crop=masks")


def _cohort(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("store", type=_location, metavar="STORE", help="made by `voco2d prepare`")
    _out(parser, "folder for folds.csv, series.csv, pretrain_fold<k>.csv, labels.csv and cohort.json")
    parser.add_argument("--labels", type=Path, metavar="CSV", help="as RSNA's train.csv (default: STORE/labels.csv)")
    parser.add_argument("--folds", type=_count, default=5, help="default %(default)s")
    parser.add_argument("--seed", type=_count, default=0, help="default %(default)s")
    parser.add_argument(
        "--use-folds", type=Path, metavar="CSV", help="adopt folds: patient_id and fold, or fold1, fold2, … as 0/1"
    )
    parser.add_argument("--meta", type=Path, metavar="CSV", help="as RSNA's train_series_meta.csv (default: as stored)")
    parser.add_argument(
        "--pretrain-list",
        type=Path,
        metavar="CSV|RUN|CKPT",
        help="patients that pretraining sees, or a pretraining run: refused where patients are validated on",
    )
    parser.add_argument("--fold", type=_count, metavar="K", help="with --pretrain-list: only this fold is validated on")


def _pretrain(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("store", type=_location, metavar="STORE", help="made by `voco2d prepare`")
    parser.add_argument("--out", type=Path, required=True, metavar="RUN", help="run folder")
    parser.add_argument(
        "--config",
        metavar="PRESET|FILE",
        help="voco2d (default), paper-v2, paper-v1, simclr, byol, dino, simmim, or a YAML file",
    )
    parser.add_argument("--resume", action="store_true", help="continue the run in --out")
    parser.add_argument(
        "--exclude", type=Path, metavar="CSV", help="table whose patient_id column must never be pretrained on"
    )
    parser.add_argument(
        "--hold-out",
        type=Path,
        metavar="CSV",
        help="label table: never pretrain on the patients that `finetune` with these labels, the same seed and "
        "run_folds=1 validates on",
    )
    parser.add_argument("--folds", type=_count, default=5, help="folds of that fine-tuning (default %(default)s)")
    parser.add_argument(
        "--cohort", type=Path, metavar="DIR", help="made by `voco2d cohort`: pretrain on what --fold K allows, no more"
    )
    parser.add_argument("--fold", type=_count, metavar="K", help="with --cohort: the fold to be validated on")


def _finetune(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("store", type=_location, metavar="STORE", help="made by `voco2d prepare`")
    parser.add_argument(
        "--labels", type=Path, metavar="CSV", help="as RSNA's train.csv (default: the cohort's, or STORE/labels.csv)"
    )
    parser.add_argument("--cohort", type=Path, metavar="DIR", help="made by `voco2d cohort`: take its folds")
    parser.add_argument("--fold", type=_count, metavar="K", help="with --cohort: train and validate this fold alone")
    parser.add_argument(
        "--splits",
        type=Path,
        metavar="CSV",
        help="patient_id and split (train, validation or test): train one model and grade the test patients",
    )
    parser.add_argument(
        "--init", required=True, metavar="CKPT|imagenet|random", help="a pretraining run or weights file, or a word"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="RUN", help="run folder")
    parser.add_argument("--config", metavar="PRESET|FILE", help="paper, or YAML with the keys of `finetune`")
    parser.add_argument(
        "--slice-labels", type=Path, metavar="CSV", help="as RSNA's image_level_labels.csv: learn from slices besides"
    )
    parser.add_argument(
        "--slice-organs",
        type=Path,
        metavar="CSV",
        help="patient_id, series_id, instance_number and a column an organ: how visible it is, 0 to 1",
    )
    parser.add_argument("--resume", action="store_true", help="continue the run in --out")


def _predict(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("inputs", nargs="+", type=_source, metavar="INPUT", help="raw scans: whatever `prepare` takes")
    parser.add_argument("--model", type=Path, required=True, metavar="RUN", help="made by `voco2d finetune`")
    parser.add_argument("--out", type=Path, required=True, metavar="CSV", help="table of predictions")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default %(default)s)")
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


def _evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("predictions", type=Path, metavar="PREDICTIONS", help="table of predictions")
    parser.add_argument("--labels", type=Path, required=True, metavar="CSV", help="as RSNA's train.csv")
    parser.add_argument("--aggregate", choices=("max", "mean", "none"), default="max", help="default %(default)s")
    parser.add_argument("--bootstrap", type=_count, default=0, metavar="N", help="resamples for 95 %% intervals")
    parser.add_argument("--seed", type=_count, default=0, help="of the bootstrap (default %(default)s)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for scores.json and report.html")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the scores for machines")
    parser.add_argument("--subgroups", type=Path, metavar="CSV", help="patient_id and columns to score the values of")


def _ensemble(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("predictions", nargs="+", type=Path, metavar="OOF", help="out-of-fold predictions, one a model")
    parser.add_argument("--labels", type=Path, required=True, metavar="CSV", help="as RSNA's train.csv")
    _out(parser, "folder for weights.json, oof_predictions.csv and, with --test, submission.csv")
    parser.add_argument("--folds", type=Path, metavar="CSV", help="patient_id and fold (default: five, stratified)")
    parser.add_argument("--test", nargs="+", type=Path, metavar="PRED", help="predictions to blend, in the same order")
    parser.add_argument("--sample", type=Path, metavar="CSV", help="sample submission that the submission must match")
    parser.add_argument("--scaling", choices=("none", "temperature", "classes"), default="none", help="of each target")
    parser.add_argument("--aggregate", choices=("max", "mean"), default="max", help="default %(default)s")


def _report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN", help="a pretraining or fine-tuning run")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: report.html in the run folder")


def _study(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("store", nargs="?", type=_location, metavar="STORE", help="in the place of the file's store")
    parser.add_argument("--config", metavar="FILE", help="the study; with --ablation a preset or file of `pretrain`")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the study; what is there goes on")
    parser.add_argument("--quick", action="store_true", help="the small version that the file describes")
    parser.add_argument(
        "--jobs", type=_positive, default=1, metavar="N", help="processes of one thread; 1 works in this one"
    )
    parser.add_argument("--dask", metavar="ADDRESS", help="dask scheduler whose workers do the work, or local:N")
    parser.add_argument("--slurm-array", action="store_true", help="write the scripts for a SLURM cluster instead")
    parser.add_argument("--job", type=_count, metavar="K", help="do one job, numbered from 0, as the scripts do")
    parser.add_argument("--tables", type=Path, metavar="DIR", help="make tables and page of a study anew")
    parser.add_argument(
        "--ablation", action="store_true", help="take back each of 2D-VoCo's corrections and measure localisation"
    )
    parser.add_argument("--seeds", type=_count, default=3, metavar="N", help="of the ablation (default %(default)s)")
    parser.add_argument(
        "--held-out", type=float, default=0.2, metavar="SHARE", help="of the patients, of the ablation (default 0.2)"
    )


def _convert(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, metavar="SOURCE", help="run folder, or weights file of anyone")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DEST", help="*.safetensors, or a folder with --to hf"
    )
    parser.add_argument("--to", choices=("timm", "hf"), default="timm", help="default %(default)s")
    parser.add_argument("--backbone", metavar="NAME", help="timm name, where SOURCE doesn't tell it")
    parser.add_argument(
        "--in-chans", type=_count, default=1, metavar="C", help="channels of the result's images (default %(default)s)"
    )
    parser.add_argument("--license", default="unknown", metavar="SPDX", help="of the weights, for the model card")
    parser.add_argument(
        "--keep-patients", action="store_true", help="with --to hf: keep the digests of the patients seen in training"
    )
    parser.add_argument("--json", action="store_true", help="for machines")


def _bench(parser: argparse.ArgumentParser) -> None:
    bench_options.describe(parser, _count)


def _info(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for machines")


_DESCRIPTION = "Pretrain on unlabeled CT slices (2D-VoCo), grade abdominal injuries (CNN-LSTM). Research use only."
_OVERRIDES_HINT = "After the options, key=value words change settings, for example seed=1; a wrong key lists all."
_COMMANDS: tuple[tuple[str, str, Callable[[argparse.ArgumentParser], None]], ...] = (
    ("demo", "the whole story on a phantom cohort, with a report", _demo),
    ("phantom", "write a synthetic cohort in the RSNA 2023 layout", _phantom),
    ("prepare", "turn CT files of any kind into a store of prepared volumes", _prepare),
    ("cohort", "split the patients of a store into folds, and keep pretraining off them", _cohort),
    ("pretrain", "pretrain a backbone on a store, without labels", _pretrain),
    ("finetune", "train the injury classifier on a store and a label table", _finetune),
    ("study", "compare starts over label fractions and seeds, with significance", _study),
    ("predict", "grade raw scans with a trained classifier", _predict),
    ("evaluate", "score a table of predictions", _evaluate),
    ("ensemble", "blend models with weights fitted on out-of-fold predictions", _ensemble),
    ("report", "write the HTML page of a run", _report),
    ("convert", "write a checkpoint's backbone for plain timm or the Hugging Face hub", _convert),
    ("bench", "measure what a step costs, beside the paper's code or 3D VoCo", _bench),
    ("info", "versions and hardware, for bug reports", _info),
)
