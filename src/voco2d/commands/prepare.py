"""`voco2d prepare`: from CT files to a store."""

import argparse
import sys
from dataclasses import replace

from voco2d.config import resolve
from voco2d.store.build import PrepareArgs, prepare
from voco2d.store.layout import QUALITY_PAGE, QUARANTINE


def run(options: argparse.Namespace) -> int:
    """Prepare what can be prepared, quarantine the rest, and count both; 1 where nothing could be prepared."""
    summary = prepare(options.sources, options.out, _args(options))
    ready = summary.prepared + summary.unchanged
    listed = f", listed in {options.out / QUARANTINE}" if summary.quarantined else ""
    print(f"{summary.prepared} prepared, {summary.unchanged} unchanged, {summary.quarantined} quarantined{listed}")
    if ready == 0:
        print(
            f"voco2d prepare: error: no CT volume in {', '.join(str(source) for source in options.sources)}; "
            f"the reasons are in {options.out / QUARANTINE}",
            file=sys.stderr,
        )
        return 1
    print(f"quality of each series: {options.out / QUALITY_PAGE}")
    return 0


def _args(options: argparse.Namespace) -> PrepareArgs:
    args = resolve(PrepareArgs, options.config, options.overrides)
    if options.workers is not None:
        args = replace(args, workers=options.workers)
    if options.dask is not None:
        args = replace(args, dask=options.dask)
    if options.masks is not None:
        args = replace(args, masks=str(options.masks))
    if args.masks is not None and args.preprocess.organ_crop == "none":
        args = replace(args, preprocess=replace(args.preprocess, organ_crop="masks"))
    return args
