"""`voco2d predict`: grade raw scans."""

import argparse

import pandas as pd

from voco2d.commands.tables import write_table
from voco2d.inference.predictor import Predictor
from voco2d.io.readers import ReadArgs


def run(options: argparse.Namespace) -> int:
    """Grade what can be read and count the rest; 1 where nothing could be graded."""
    read = ReadArgs() if options.identity_axes is None else ReadArgs(identity_axes=options.identity_axes)
    predictor = Predictor(options.model, device=options.device, read=read)
    predictions, rejections = predictor.predict_many(options.inputs)
    write_table(options.out, predictions)
    quarantine = options.out.parent / "quarantine.csv"
    if rejections:
        rows = [(rejection.path, rejection.reason) for rejection in rejections]
        write_table(quarantine, pd.DataFrame(rows, columns=["path", "reason"]))
    assessed = int((predictions["status"] == "assessed").sum())
    skipped = f", {len(rejections)} files skipped, listed in {quarantine}" if rejections else ""
    print(f"{assessed} series assessed, {len(predictions) - assessed} not assessed{skipped}; table: {options.out}")
    return 0 if assessed else 1
