"""`voco2d prepare`: from CT files to a store."""

import argparse
import sys
from dataclasses import replace

from voco2d.config import resolve
from voco2d.store.build import PrepareArgs, PrepareSummary, prepare
from voco2d.store.layout import QUALITY_PAGE, QUARANTINE
from voco2d.store.record import load_records


def run(options: argparse.Namespace) -> int:
    """Prepare what can be prepared, quarantine the rest, and count both last; 1 where nothing could be prepared."""
    summary = prepare(options.sources, options.out, _args(options))
    ready = summary.prepared + summary.unchanged
    if ready:
        print(f"quality of each series: {options.out / QUALITY_PAGE}")
    print(_counts(summary))
    if ready == 0:
        places = ", ".join(str(source) for source in options.sources)
        why = f"the reasons are in {options.out / QUARANTINE}" if summary.quarantined else "its scans are gone"
        print(f"voco2d prepare: error: no CT volume in {places}; {why}", file=sys.stderr)
        return 1
    return 0


def _counts(summary: PrepareSummary) -> str:
    """Count in one line what became of everything, and what the store holds now."""
    listed = f", listed in {summary.store / QUARANTINE}" if summary.quarantined else ""
    vanished = f"; {summary.vanished} kept although their sources are gone" if summary.vanished else ""
    done = f"{summary.prepared} prepared, {summary.unchanged} unchanged, {summary.quarantined} quarantined{listed}"
    return f"{done}{vanished}; the store holds {len(load_records(summary.store))} volumes"


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
