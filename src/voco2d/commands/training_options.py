"""What the commands that train take; imports nothing heavy."""

import argparse
from pathlib import Path

from voco2d.commands.option_types import count, location, positive, targets


def pretrain(parser: argparse.ArgumentParser) -> None:
    """Add the options of `voco2d pretrain`."""
    parser.add_argument("store", type=location, metavar="STORE", help="made by `voco2d prepare`")
    parser.add_argument("--out", type=Path, required=True, metavar="RUN", help="run folder")
    parser.add_argument(
        "--config",
        metavar="PRESET|FILE",
        help="voco2d (default), paper-v2, paper-v1, simclr, byol, dino, simmim, or a YAML file",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="continue the run in --out; give --hold-out, --exclude, or --cohort and --fold again",
    )
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
    parser.add_argument("--folds", type=count, default=5, help="folds of that fine-tuning (default %(default)s)")
    targets(parser)
    parser.add_argument(
        "--cohort", type=Path, metavar="DIR", help="made by `voco2d cohort`: pretrain on what --fold K allows, no more"
    )
    parser.add_argument("--fold", type=count, metavar="K", help="with --cohort: the fold to be validated on")


def finetune(parser: argparse.ArgumentParser) -> None:
    """Add the options of `voco2d finetune`."""
    parser.add_argument("store", type=location, metavar="STORE", help="made by `voco2d prepare`")
    parser.add_argument(
        "--labels", type=Path, metavar="CSV", help="as RSNA's train.csv (default: the cohort's, or STORE/labels.csv)"
    )
    parser.add_argument("--cohort", type=Path, metavar="DIR", help="made by `voco2d cohort`: take its folds")
    parser.add_argument("--fold", type=count, metavar="K", help="with --cohort: train and validate this fold alone")
    parser.add_argument(
        "--splits",
        type=Path,
        metavar="CSV",
        help="patient_id and split (train, validation or test): train one model and grade the test patients",
    )
    parser.add_argument(
        "--init",
        metavar="CKPT|imagenet|random",
        help="a pretraining run or weights file, or a word; needed but with --resume",
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
    parser.add_argument(
        "--resume",
        action="store_true",
        help="continue the run in --out, with the start, tables, folds and settings it has unless told otherwise",
    )


def study(parser: argparse.ArgumentParser) -> None:
    """Add the options of `voco2d study`."""
    parser.add_argument("store", nargs="?", type=location, metavar="STORE", help="in the place of the file's store")
    parser.add_argument("--config", metavar="FILE", help="the study; with --ablation a preset or file of `pretrain`")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the study; what is there goes on")
    parser.add_argument("--quick", action="store_true", help="the small version that the file describes")
    parser.add_argument(
        "--jobs", type=positive, default=1, metavar="N", help="processes of one thread; 1 works in this one"
    )
    parser.add_argument("--dask", metavar="ADDRESS", help="dask scheduler whose workers do the work, or local:N")
    parser.add_argument("--slurm-array", action="store_true", help="write the scripts for a SLURM cluster instead")
    parser.add_argument("--job", type=count, metavar="K", help="do one job, numbered from 0, as the scripts do")
    parser.add_argument("--tables", type=Path, metavar="DIR", help="make tables and page of a study anew")
    parser.add_argument(
        "--ablation", action="store_true", help="take back each of 2D-VoCo's corrections and measure localisation"
    )
    parser.add_argument("--seeds", type=count, default=3, metavar="N", help="of the ablation (default %(default)s)")
    parser.add_argument(
        "--held-out", type=float, default=0.2, metavar="SHARE", help="of the patients, of the ablation (default 0.2)"
    )
