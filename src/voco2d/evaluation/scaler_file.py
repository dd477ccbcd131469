"""Fitted scalers as JSON: what prediction reads to calibrate, beside a run or given by the user."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from voco2d.errors import LabelError, UsageError
from voco2d.evaluation.scaling import Scaler
from voco2d.targets import RSNA_2023, TargetSet

CALIBRATION_NAME: Final = "calibration.json"
"""What a run keeps them in."""
_WAY_OUT = "give calibration.json of a run, or weights.json of `voco2d ensemble` with one model"


def scalers_text(scalers: Mapping[str, Scaler], about: Mapping[str, Any]) -> str:
    """Write scalers as JSON.

    Args:
        scalers: Target → its scaler.
        about: What else the file tells, for example how many patients they were fitted on.
    """
    tree = {**about, "scalers": {name: vars(scaler) for name, scaler in scalers.items()}}
    return json.dumps(tree, indent=2, allow_nan=False) + "\n"


def read_scalers(path: Path, targets: TargetSet = RSNA_2023) -> dict[str, Scaler]:
    """Read what `scalers_text` wrote, or the scalers of an ensemble of one model.

    Raises:
        UsageError: There is no such file, or it belongs to a blend of several models.
        LabelError: It holds no scalers of these targets.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file; {_WAY_OUT}")
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise LabelError(f"{path}: not JSON; {_WAY_OUT}") from error
    models = tree.get("models", ()) if isinstance(tree, dict) else ()
    if len(models) > 1:
        raise UsageError(f"{path}: was fitted on a blend of {len(models)} models, not on one; {_WAY_OUT}")
    try:
        return {name: _scaler(tree["scalers"][name], len(target.classes)) for name, target in targets.items()}
    except (KeyError, TypeError, ValueError) as error:
        raise LabelError(f"{path}: holds no scaler for each of {', '.join(targets)}; {_WAY_OUT}") from error


def _scaler(tree: Mapping[str, Any], classes: int) -> Scaler:
    scaler = Scaler(float(tree["temperature"]), tuple(float(factor) for factor in tree["factors"]))
    limits = (0 < scaler.temperature < float("inf"), len(scaler.factors) == classes)
    if not all(limits) or not all(0 < factor < float("inf") for factor in scaler.factors):
        raise ValueError("not a scaler")
    return scaler
