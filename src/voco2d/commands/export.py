"""`voco2d export`: a fine-tuned run as an ONNX package that predicts without torch."""

import argparse
import json
import logging
import re

import numpy as np

from voco2d.data.phantom import PhantomArgs, PhantomSeries, make_series
from voco2d.errors import UsageError
from voco2d.inference.export import Export, export_package
from voco2d.io.volume import Volume

_LICENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]*")
_PHANTOM = PhantomArgs(size=192, mean_slices=48, enriched=True, two_series_share=0.0, incomplete_share=0.0)
_PHANTOMS = 3
_SEED = 6
"""Of the patients that parity is measured on: two are injured, one is not."""


def run(options: argparse.Namespace) -> int:
    """Export, and tell what was measured.

    Raises:
        UsageError: The licence is no SPDX id; else as `export_package`.
    """
    if not _LICENCE.fullmatch(options.license):
        raise UsageError(f"--license {options.license}: give an SPDX id such as apache-2.0, or unknown")
    for chatty in ("onnxscript", "onnx_ir", "torch.onnx", "torch.export"):  # of their own optimisations
        logging.getLogger(chatty).setLevel(logging.ERROR)
    phantoms = [_volume(make_series(_SEED, patient, _PHANTOM)[0]) for patient in range(_PHANTOMS)]
    export = export_package(options.run, options.out, phantoms, options.license)
    print(json.dumps(_tree(export), indent=2) if options.json else _told(export))
    return 0


def _told(export: Export) -> str:
    parity = export.parity
    return (
        f"{export.path}: {export.folds} {'fold' if export.folds == 1 else 'folds'}, {', '.join(export.files)}\n"
        f"ONNX Runtime and torch agree on {len(parity.cases)} inputs: largest difference {parity.worst:.2g}, while "
        f"probabilities vary by {parity.spread:.2g} between the inputs\n"
        f"use: voco2d predict STUDY --model {export.path} --runtime onnx --out predictions.csv"
    )


def _tree(export: Export) -> dict[str, object]:
    return {
        "path": str(export.path),
        "folds": export.folds,
        "files": list(export.files),
        "parity": export.parity.tree(),
    }


def _volume(series: PhantomSeries) -> Volume:
    """Take a phantom for a volume as a reader gives it."""
    return Volume(
        hu=series.hu,
        spacing_mm=series.spacing_mm,
        direction=np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]]),
        origin_mm=series.scan.origin_mm,
        patient_id=str(series.patient_id),
        study_id="",
        series_id=str(series.series_id),
        source="phantom",
    )
