"""`voco2d prepare`: from CT files to a store."""

import argparse
import sys
from dataclasses import replace

from voco2d.config import resolve
from voco2d.store.build import PrepareArgs, prepare


def run(options: argparse.Namespace) -> int:
    """Prepare what can be prepared, quarantine the rest, and count both; 1 where nothing could be prepared."""
    args = resolve(PrepareArgs, options.config, options.overrides)
    if options.workers is not None:
        args = replace(args, workers=options.workers)
    summary = prepare(options.sources, options.out, args)
    ready = summary.prepared + summary.unchanged
    listed = f", listed in {options.out / 'quarantine.csv'}" if summary.quarantined else ""
    print(f"{summary.prepared} prepared, {summary.unchanged} unchanged, {summary.quarantined} quarantined{listed}")
    if ready == 0:
        print(
            f"voco2d prepare: error: no CT volume in {', '.join(str(source) for source in options.sources)}; "
            f"the reasons are in {options.out / 'quarantine.csv'}",
            file=sys.stderr,
        )
        return 1
    return 0
