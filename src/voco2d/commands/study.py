"""`voco2d study`: which part of the method matters; with `--ablation`, each correction of 2D-VoCo taken back."""

import argparse

from voco2d.config import resolve
from voco2d.errors import UsageError
from voco2d.inference.report_ablation import write_ablation
from voco2d.training.ablation import run_ablation
from voco2d.training.pretrain import PRESETS, PretrainArgs


def run(options: argparse.Namespace) -> int:
    """Run the arms, and write the table and the page."""
    if not options.ablation:
        raise UsageError("study: choose what is studied; --ablation is what there is")
    if not 0 < options.held_out < 1:
        raise UsageError(f"--held-out {options.held_out}: a share above 0 and below 1")
    args = resolve(PretrainArgs, options.config or "voco2d", options.overrides, PRESETS)
    table = run_ablation(options.store, options.out, args, range(options.seeds), options.held_out)
    page = write_ablation(table, options.out)
    print(f"{len(table)} runs; table: {options.out / 'ablation.csv'}; page: {page}")
    return 0
