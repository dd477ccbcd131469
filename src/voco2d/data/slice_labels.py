"""What is known of single slices, brought from the instance numbers of the source to the slices of the store."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float32

from voco2d.data.cohort import Cohort
from voco2d.data.slice_tables import FINDINGS, SeriesKey, Visibility, read_findings, read_visibility
from voco2d.errors import LabelError
from voco2d.preprocessing.grid import axis_grids
from voco2d.preprocessing.preprocess import PreprocessArgs
from voco2d.preprocessing.spatial import AxisWeights
from voco2d.store.instance_numbers import decode_numbers
from voco2d.targets import TARGETS


@dataclass(frozen=True)
class SliceLabels:
    """Targets of the slices of prepared volumes.

    Args:
        names: What is told of a slice, one name a target.
        series: For each row of `Cohort.series` (Z, targets), 0…1, NaN where it isn't known.
    """

    names: tuple[str, ...]
    series: Sequence[Float32[np.ndarray, "Z targets"]]


@dataclass(frozen=True)
class SliceOrigin:
    """Which slices of the source the slices of a prepared volume are made of.

    Args:
        numbers: Instance numbers of the source slices inside the crop.
        weights: (Z, source slices) their shares.
    """

    numbers: tuple[int, ...]
    weights: AxisWeights


def slice_origin(row: pd.Series, preprocess: PreprocessArgs) -> SliceOrigin | None:
    """Return where the slices of a volume come from, or None where its instance numbers aren't known.

    Args:
        row: Of `VolumeStore.index`.
        preprocess: How the volume was prepared.
    """
    numbers = decode_numbers(row["instance_numbers"])
    if not numbers:
        return None
    z0, z1, h0, h1, w0, w1 = (int(row[f"box_{edge}"]) for edge in ("z0", "z1", "h0", "h1", "w0", "w1"))
    spacing = (float(row["spacing_z_mm"]), float(row["spacing_h_mm"]), float(row["spacing_w_mm"]))
    depth, _, _ = axis_grids((z0, z1, h0, h1, w0, w1), preprocess.size, spacing, preprocess.spacing_mm)
    return SliceOrigin(numbers[z0:z1], depth.weights)


def read_slice_labels(
    index: pd.DataFrame,
    preprocess: PreprocessArgs,
    cohort: Cohort,
    findings: Path | None = None,
    organs: Path | None = None,
) -> SliceLabels | None:
    """Read slice labels for the series of a cohort.

    A prepared slice shows a finding where any source slice it is made of does. Patients without the injury show it
    nowhere; of injured ones, a series without a row about it isn't known. The share of an organ is the mean over the
    source slices, weighted as their voxels are, and isn't known where no row tells of them.

    Args:
        index: `VolumeStore.index`, which holds the instance numbers.
        preprocess: How the volumes were prepared.
        cohort: Series and labels.
        findings: As `read_findings` takes it.
        organs: As `read_visibility` takes it.

    Returns:
        None where neither table is given.

    Raises:
        UsageError: A file is missing.
        LabelError: A table can't be used, findings are given for other targets than RSNA's, or it tells nothing
            about the series of the cohort.
    """
    if findings is not None and not cohort.targets.is_rsna:
        raise LabelError(f"{findings}: slice labels are of RSNA's injuries, not of {', '.join(cohort.targets)}")
    shown = None if findings is None else read_findings(findings)
    visible = None if organs is None else read_visibility(organs)
    if shown is None and visible is None:
        return None
    origins = [slice_origin(index.iloc[position], preprocess) for position in cohort.series["position"]]
    keys = list(zip(cohort.series["patient_id"], cohort.series["series_id"], strict=True))
    for path, told in ((findings, shown), (organs, None if visible is None else visible.shares)):
        if told is not None and not any(origin and key in told for key, origin in zip(keys, origins, strict=True)):
            raise LabelError(
                f"{path}: tells nothing of the series of the store; compare patient_id and series_id, and prepare a "
                "store of an earlier voco2d, which holds no instance numbers, anew"
            )
    injured = _injured(cohort)
    depth = preprocess.size[0]
    values = []
    for key, origin in zip(keys, origins, strict=True):
        columns = [] if shown is None else [_findings(origin, shown.get(key, {}), injured.get(key[0]), depth)]
        columns += [] if visible is None else [_shares(origin, visible, key, depth)]
        values.append(np.concatenate(columns, axis=1))
    names = (*(() if shown is None else FINDINGS.values()), *(() if visible is None else visible.organs))
    return SliceLabels(names, values)


def _findings(
    origin: SliceOrigin | None, shown: Mapping[str, set[int]], injured: Mapping[str, bool] | None, depth: int
) -> Float32[np.ndarray, "Z findings"]:
    columns = np.full((depth, len(FINDINGS)), np.nan, dtype=np.float32)
    for column, target in enumerate(FINDINGS.values()):
        if injured is not None and not injured[target]:
            columns[:, column] = 0
        elif origin is not None and target in shown:
            marked = np.isin(origin.numbers, list(shown[target]))
            columns[:, column] = (origin.weights[:, marked] > 0).any(axis=1)
    return columns


def _shares(
    origin: SliceOrigin | None, visible: Visibility, key: SeriesKey, depth: int
) -> Float32[np.ndarray, "Z organs"]:
    columns = np.full((depth, len(visible.organs)), np.nan, dtype=np.float32)
    shares = visible.shares.get(key)
    if origin is None or shares is None:
        return columns
    known = np.array([number in shares for number in origin.numbers])
    absent = (0.0,) * len(visible.organs)
    table = np.array([shares.get(number, absent) for number in origin.numbers], dtype=np.float32)
    weights = origin.weights * known
    total = weights.sum(axis=1, keepdims=True)
    np.divide(weights @ table, total, out=columns, where=total > 0)
    return columns


def _injured(cohort: Cohort) -> dict[str, dict[str, bool]]:
    """Patient → target of `FINDINGS` → whether it is injured."""
    healthy = {target: TARGETS[target].columns[0] for target in FINDINGS.values()}
    return {
        str(row["patient_id"]): {target: not row[column] for target, column in healthy.items()}
        for row in cohort.labels.to_dict("records")
    }
