"""What the commands that make and prepare data take; imports nothing heavy."""

import argparse
from pathlib import Path

from voco2d.commands.option_types import count, location, out, source, targets


def demo(parser: argparse.ArgumentParser) -> None:
    """Add the options of `voco2d demo`."""
    out(parser, "folder for everything the demo makes; an earlier demo there is replaced")
    parser.add_argument("--patients", type=count, default=48, help="size of the phantom cohort (default %(default)s)")
    parser.add_argument("--seed", type=count, default=0, help="default %(default)s")


def phantom(parser: argparse.ArgumentParser) -> None:
    """Add the options of `voco2d phantom`."""
    parser.add_argument("out", type=Path, metavar="OUT", help="folder for the cohort, in the RSNA 2023 layout")
    parser.add_argument("--patients", type=count, required=True, help="number of patients")
    parser.add_argument("--seed", type=count, default=0, help="default %(default)s")
    parser.add_argument("--enriched", action="store_true", help="raise the share of injuries, for small cohorts")


def prepare(parser: argparse.ArgumentParser) -> None:
    """Add the options of `voco2d prepare`."""
    parser.add_argument(
        "sources", nargs="+", type=source, metavar="SRC", help="scans, trees, lists: see docs/formats.md"
    )
    parser.add_argument(
        "--out",
        type=location,
        required=True,
        metavar="STORE",
        help="the store to make or to continue: a folder, or a URL such as s3://bucket/store",
    )
    parser.add_argument("--config", metavar="FILE", help="YAML with the keys of `prepare`")
    parser.add_argument("--workers", type=count, metavar="N", help="processes; 0 starts one a core (default: 0)")
    parser.add_argument(
        "--dask",
        metavar="ADDRESS",
        help="dask scheduler whose workers do the work, or local:N; they must see SRC and STORE at the same paths",
    )
    parser.add_argument("--masks", type=Path, metavar="DIR", help="organ masks; sets preprocess.organ_crop=masks")


def cohort(parser: argparse.ArgumentParser) -> None:
    """Add the options of `voco2d cohort`."""
    parser.add_argument("store", type=location, metavar="STORE", help="made by `voco2d prepare`")
    out(parser, "folder for folds.csv, series.csv, pretrain_fold<k>.csv, labels.csv and cohort.json")
    parser.add_argument("--labels", type=Path, metavar="CSV", help="as RSNA's train.csv (default: STORE/labels.csv)")
    targets(parser)
    parser.add_argument("--folds", type=count, default=5, help="default %(default)s")
    parser.add_argument("--seed", type=count, default=0, help="default %(default)s")
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
    parser.add_argument("--fold", type=count, metavar="K", help="with --pretrain-list: only this fold is validated on")
