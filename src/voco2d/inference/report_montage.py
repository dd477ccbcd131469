"""The section that shows a few studies: slices beside what was predicted and what is true."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib import rc_context
from matplotlib.figure import Figure as Canvas

from voco2d.evaluation.tables import ASSESSED, check_labels, check_predictions
from voco2d.inference.report_canvas import STYLE, png
from voco2d.inference.report_page import Block, Cell, Figure, Heading, Paragraph, Section, Table
from voco2d.preprocessing.intensity import window_hu
from voco2d.store.volume_store import VolumeStore
from voco2d.targets import RSNA_2023, TargetSet

WINDOW_HU: Final = (-160.0, 240.0)
"""Soft tissue: level 40, width 400."""
_SLICES = 6


def montage_section(
    store_path: Path | str,
    predictions: pd.DataFrame,
    labels: pd.DataFrame,
    studies: int = 3,
    targets: TargetSet = RSNA_2023,
) -> Section:
    """Show prepared volumes with their predicted probabilities beside the true labels.

    About two thirds of the studies shown are injured, spread evenly over the store; how well the model does on them
    plays no part in the choice.

    Args:
        store_path: The store that the predicted series lie in.
        predictions: A row a series or a patient.
        labels: A row a patient.
        studies: How many to show.
        targets: What is graded; every patient needs each label.

    Raises:
        StoreError: There is no store.
        LabelError: A table is not as it must be.
    """
    store = VolumeStore(store_path)
    rows = _joined(
        store.index, check_predictions(predictions, targets=targets), check_labels(labels, targets=targets), targets
    )
    chosen = _choose(rows, studies, targets)
    if not len(chosen):
        return Section("Studies", (Paragraph("No study of the store is in both the predictions and the labels."),))
    blocks: list[Block] = [
        Paragraph(
            f"{len(chosen)} of {len(rows)} studies, injured ones first, chosen without regard to how well they were "
            f"predicted. Window {WINDOW_HU[0]:.0f} to {WINDOW_HU[1]:.0f} HU; the patient's right (R) is on the left. "
            "Bold: a true injury, or an answer that differs from the truth."
        )
    ]
    for row in chosen.to_dict("records"):
        blocks += [
            Heading(f"Patient {row['patient_id']}, series {row['series_id']}"),
            _slices(store, row),
            _grades(row, targets),
        ]
    return Section("Studies", tuple(blocks))


def slice_montage(
    slices: Sequence[tuple[str, Float[np.ndarray, "H W"]]], pixel_aspect: float, alt: str, caption: str = ""
) -> Figure:
    """Show slices in three columns, the patient's right on the left as radiologists look at them.

    Args:
        slices: Title and grey values 0 to 1 of each.
        pixel_aspect: Height of a pixel over its width, both in mm.
        alt: What is shown, for those who can't see it.
        caption: Stands below.
    """
    columns = min(3, len(slices))
    rows = -(-len(slices) // columns)
    height, width = slices[0][1].shape
    cell_inches = 2.1
    with rc_context(STYLE):
        shape = min(2.0, max(0.5, height * pixel_aspect / width))
        canvas = Canvas(figsize=(cell_inches * columns, (cell_inches * shape + 0.25) * rows), layout="constrained")
        grid = canvas.subplots(rows, columns, squeeze=False).ravel()
        for axes in grid:
            axes.set_axis_off()
        for axes, (title, pixels) in zip(grid, slices, strict=False):
            axes.imshow(pixels, cmap="gray", vmin=0, vmax=1, aspect=pixel_aspect, interpolation="nearest")
            axes.set_title(title, fontsize=10)
            box = {"facecolor": "black", "edgecolor": "none", "pad": 1.5}
            axes.text(0.03, 0.93, "R", transform=axes.transAxes, color="#E69F00", fontsize=9, va="center", bbox=box)
        return Figure(png(canvas), alt, caption)


def _joined(index: pd.DataFrame, predictions: pd.DataFrame, labels: pd.DataFrame, targets: TargetSet) -> pd.DataFrame:
    """Join the volumes of a store with their predictions (`*_predicted`) and labels (`*_true`)."""
    columns = list(targets.columns)
    if "status" in predictions:
        predictions = predictions[predictions["status"] == ASSESSED]
    keys = ["patient_id", "series_id"] if "series_id" in predictions else ["patient_id"]
    predictions = predictions[[*keys, *columns]].drop_duplicates(keys)
    volumes = index.assign(volume=np.arange(len(index)))
    volumes = volumes.astype({"patient_id": object, "series_id": object})
    joined = volumes.merge(predictions, on=keys)
    return joined.merge(labels[["patient_id", *columns]], on="patient_id", suffixes=("_predicted", "_true"))


def _choose(rows: pd.DataFrame, studies: int, targets: TargetSet) -> pd.DataFrame:
    healthy = rows[[f"{target.columns[0]}_true" for target in targets.values()]].min(axis=1) == 1
    injured, sound = rows[~healthy], rows[healthy]
    from_sound = min(len(sound), max(studies // 3, studies - len(injured)))
    return pd.concat([_spread(injured, studies - from_sound), _spread(sound, from_sound)])


def _spread(rows: pd.DataFrame, count: int) -> pd.DataFrame:
    """Take `count` rows at even distances, never more than there are."""
    places = np.linspace(0, max(len(rows) - 1, 0), min(count, len(rows))).astype(int)
    return rows.iloc[places]


def _slices(store: VolumeStore, row: Mapping[Any, Any]) -> Figure:
    volume = store[int(row["volume"])]
    # the first and last slices often show little of the body
    places = np.linspace(0, len(volume) - 1, _SLICES + 2).round().astype(int)[1:-1]
    slices = [
        (f"slice {place + 1} of {len(volume)}", window_hu(np.asarray(volume[place]), *WINDOW_HU)) for place in places
    ]
    alt = f"{len(slices)} axial slices from head to foot at a soft-tissue window"
    return slice_montage(slices, _pixel_aspect(row, volume.shape), alt)


def _pixel_aspect(row: Mapping[Any, Any], shape: tuple[int, ...]) -> float:
    """Compute height over width of a prepared pixel, both in mm, from the body box that it was resized from."""
    height = (float(row["box_h1"]) - float(row["box_h0"])) * float(row["spacing_h_mm"]) / shape[1]
    width = (float(row["box_w1"]) - float(row["box_w0"])) * float(row["spacing_w_mm"]) / shape[2]
    return height / width if height > 0 and width > 0 else 1.0


def _grades(row: Mapping[Any, Any], targets: TargetSet) -> Table:
    rows = []
    for name, target in targets.items():
        predicted = [float(row[f"{column}_predicted"]) for column in target.columns]
        truth = target.classes[int(np.argmax([float(row[f"{column}_true"]) for column in target.columns]))]
        best = target.classes[int(np.argmax(predicted))]
        each = ", ".join(f"{grade} {value:.2f}" for grade, value in zip(target.classes, predicted, strict=True))
        rows.append((name, Cell(truth, strong=truth != target.classes[0]), Cell(best, strong=best != truth), each))
    return Table(("target", "truth", "most probable", "probabilities"), tuple(rows))
