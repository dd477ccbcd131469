"""Draw the figures of docs/concepts.md from phantoms, with the program's own functions.

    python tools/concept_figures.py WORK

WORK is a folder for phantoms, a store and a short pretraining run; what is there is used again. Takes some minutes on
two cores.
"""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from voco2d.cli import main as voco2d
from voco2d.data.crop_dataset import CropDataset, CropPlan
from voco2d.data.crops import base_centers, first_pixels
from voco2d.data.pretrain_dataset import DataArgs
from voco2d.methods.method import CropBatch
from voco2d.methods.voco import VoCo
from voco2d.methods.voco_args import VoCoArgs
from voco2d.models.backbones import build_backbone
from voco2d.models.checkpoint import newest_weights, read_weights
from voco2d.preprocessing.intensity import window_hu
from voco2d.store.volume_store import VolumeStore

IMAGES = Path(__file__).parents[1] / "docs" / "images"
BACKBONE = "test_efficientnet"
UNSEEN = 4
"""Patients that the run doesn't see; the figures show them."""
STEP = 3
"""Which drawing of chance is shown."""
COLOURS = ("tab:orange", "tab:cyan")


def main() -> None:
    """Make what is missing in the folder and draw."""
    work = Path(sys.argv[1])
    store = make_store(work)
    patients = sorted(set(store.index["patient_id"].astype(str)))
    args = VoCoArgs(crop=32, slices=4, hidden=256)
    data = DataArgs((-175.0, 250.0), UNSEEN, seed=1, shuffle=False)
    shown = replace(args, flips=False, intensity=0.0)
    dataset = CropDataset(store, shown, data, patients[:-UNSEEN])
    plan, batch = dataset.plan(STEP), dataset.batch(STEP, torch.device("cpu"))
    draw_crops(store, args, plan, batch).savefig(IMAGES / "concept_crops.png", dpi=110)
    draw_depth(store, args, plan).savefig(IMAGES / "concept_depth.png", dpi=110)
    untrained, trained = (VoCo(build_backbone(BACKBONE), args).eval() for _ in range(2))
    trained.load_weights(read_weights(newest_weights(make_run(work, args, patients[-UNSEEN:])))[0])
    draw_similarity(batch, untrained, trained).savefig(IMAGES / "concept_similarity.png", dpi=110)


def make_store(work: Path) -> VolumeStore:
    """Write phantoms and prepare them; a store that is there stays."""
    store = work / "store"
    if not store.is_dir():
        call("phantom", work / "RSNA", "--patients", 40, "--enriched", "size=160", "mean_slices=40")
        call("prepare", work / "RSNA", "--out", store, "preprocess.size=[32,96,96]")
    return VolumeStore(store)


def make_run(work: Path, args: VoCoArgs, unseen: list[str]) -> Path:
    """Pretrain a small backbone without some patients; a run that is there stays."""
    run = work / "concepts"
    if not run.is_dir():
        table = work / "unseen.csv"
        table.write_text("\n".join(["patient_id", *unseen]) + "\n", encoding="utf-8")
        words = [f"backbone={BACKBONE}", "steps=600", "checkpoint_every=600", "device=cpu", "optim.lr=3e-3"]
        words += [f"method.{key}={getattr(args, key)}" for key in ("crop", "slices", "hidden")]
        call("pretrain", work / "store", "--out", run, "--exclude", table, *words)
    return run


def draw_crops(store: VolumeStore, args: VoCoArgs, plan: CropPlan, batch: CropBatch) -> Figure:
    """Draw the grid with two random crops on a slice, and the overlap of each."""
    figure = Figure(figsize=(10, 3.7), layout="constrained")
    axes: Any = figure.subplots(1, 3, width_ratios=(1.15, 1, 1))
    show_slice(axes[0], store, int(plan.volumes[0]))
    for number, (row, column) in enumerate(base_centers(args.grid, args.crop)):
        frame(axes[0], row, column, args.crop, "white", dashed=True)
        axes[0].text(column, row, str(number + 1), color="white", ha="center", va="center", fontsize=11)
    for colour, (row, column) in zip(COLOURS, plan.centers[0], strict=True):
        frame(axes[0], row, column, args.crop, colour)
    axes[0].set_title("3 × 3 base crops, two random crops")
    for axis, colour, overlap in zip(axes[1:], COLOURS, batch.overlap[0], strict=True):
        show_grid(axis, overlap.numpy(), colour)
        axis.set_title(f"overlap, sums to {float(overlap.sum()):.2f}")
    return figure


def draw_depth(store: VolumeStore, args: VoCoArgs, plan: CropPlan) -> Figure:
    """Draw, on a coronal cut, which slices the base crops and each random crop take."""
    volume = window_hu(np.array(store[int(plan.volumes[0])]), -175.0, 250.0)
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    axes: Any = figure.subplots(1, 1 + args.random_crops)
    names = ("base crops", *(f"random crop {number + 1}" for number in range(args.random_crops)))
    for axis, name, colour, slices in zip(axes, names, ("white", *COLOURS), plan.slices[0], strict=True):
        axis.imshow(volume[:, volume.shape[1] // 2], cmap="gray", vmin=0, vmax=1, aspect=1.6)
        for position in slices:
            axis.axhline(position, color=colour, linewidth=1.6)
        axis.set_title(f"slices of the {name}")
        axis.set_axis_off()
    return figure


def draw_similarity(batch: CropBatch, untrained: VoCo, trained: VoCo) -> Figure:
    """Draw, for the two random crops of a patient that the run never saw, overlap and both similarities."""
    figure = Figure(figsize=(10, 6.2), layout="constrained")
    axes: Any = figure.subplots(2, 3)
    columns = [("overlap: what is to be said", batch.overlap)]
    for name, method in (("similarity, untrained", untrained), ("similarity, after 600 steps", trained)):
        with torch.no_grad():
            similarity = method(batch).similarity
        assert similarity is not None
        columns.append((name, similarity))
    for column, (name, values) in enumerate(columns):
        for row, colour in enumerate(COLOURS):
            show_grid(axes[row, column], values[0, row].numpy(), colour)
            axes[row, column].set_title(name)
    return figure


def show_slice(axis: Any, store: VolumeStore, volume: int) -> None:
    """Show the middle slice of a volume, which is as large as the grid."""
    hu = np.array(store[volume])
    axis.imshow(window_hu(hu[hu.shape[0] // 2], -175.0, 250.0), cmap="gray", vmin=0, vmax=1)
    axis.set_axis_off()


def frame(axis: Any, row: float, column: float, crop: int, colour: str, dashed: bool = False) -> None:
    """Draw the border of a crop with this centre."""
    top, left = first_pixels(np.array([row, column]), crop)
    style = {"linestyle": ":", "linewidth": 1} if dashed else {"linewidth": 2.5}
    axis.add_patch(Rectangle((left - 0.5, top - 0.5), crop, crop, fill=False, edgecolor=colour, **style))


def show_grid(axis: Any, values: np.ndarray, colour: str) -> None:
    """Show a number a base crop where it lies in the slice."""
    side = round(len(values) ** 0.5)
    axis.imshow(values.reshape(side, side), cmap="magma", vmin=0, vmax=1)
    for place, value in enumerate(values):
        shade = "white" if value < 0.6 else "black"
        axis.text(place % side, place // side, f"{value:.2f}", color=shade, ha="center", va="center", fontsize=11)
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set(color=colour, linewidth=3)


def call(*words: object) -> None:
    """Run a command."""
    if voco2d([str(word) for word in words]) != 0:
        raise SystemExit(f"voco2d {words[0]} failed")


if __name__ == "__main__":
    main()
