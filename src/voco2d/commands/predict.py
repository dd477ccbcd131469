"""`voco2d predict`: grade raw scans."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from voco2d.commands.tables import refuse_folder, write_table
from voco2d.errors import UsageError
from voco2d.inference.predictor import Predictor
from voco2d.io.readers import ReadArgs
from voco2d.io.source import Rejection


def run(options: argparse.Namespace) -> int:
    """Grade what can be read and count the rest; 1 where nothing could be graded.

    Raises:
        UsageError: The output is a folder or lies in a store, the inputs hold no scan at all, or the folder of
            masks is missing or of no use to the model.
    """
    refuse_folder(options.out)
    if (options.out.parent / "store.json").is_file():
        raise UsageError(f"{options.out}: lies in a store, whose quarantine.csv it would replace; choose another --out")
    read = None if options.identity_axes is None else ReadArgs(identity_axes=options.identity_axes)
    predictor = Predictor(
        options.model, device=options.device, read=read, masks=options.masks, flips=options.test_flips
    )
    predictions, rejections = predictor.predict_many(options.inputs)
    if predictions.empty:
        reason = f"; {rejections[0].path}: {rejections[0].reason}" if rejections else ""
        inputs = ", ".join(str(path) for path in options.inputs)
        raise UsageError(f"no scan in {inputs}{reason}; give DICOM folders, NIfTI, NRRD, MetaImage or NumPy files")
    write_table(options.out, predictions)
    quarantine = options.out.parent / "quarantine.csv"
    _write_quarantine(quarantine, rejections)
    assessed = int((predictions["status"] == "assessed").sum())
    skipped = f", {len(rejections)} files skipped, listed in {quarantine}" if rejections else ""
    print(f"{assessed} series assessed, {len(predictions) - assessed} not assessed{skipped}; table: {options.out}")
    return 0 if assessed else 1


def _write_quarantine(path: Path, rejections: Sequence[Rejection]) -> None:
    """List what was skipped; an older list is removed where nothing was."""
    if rejections:
        rows = [(rejection.path, rejection.reason) for rejection in rejections]
        write_table(path, pd.DataFrame(rows, columns=["path", "reason"]))
    else:
        path.unlink(missing_ok=True)
