"""`voco2d phantom`: write a synthetic cohort."""

import argparse
from dataclasses import replace

from voco2d.config import resolve
from voco2d.data.phantom import PhantomArgs, write_cohort


def run(options: argparse.Namespace) -> int:
    """Write the cohort and say what it holds."""
    args = resolve(PhantomArgs, overrides=options.overrides)
    if options.enriched:
        args = replace(args, enriched=True)
    summary = write_cohort(options.out, patients=options.patients, seed=options.seed, args=args)
    print(f"{summary.patients} patients, {summary.series} series, {summary.slices} slices in {options.out}")
    return 0
