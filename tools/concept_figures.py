"""Draw the figures of docs/concepts.md from phantoms, with the program's own functions.

    python tools/concept_figures.py WORK

WORK is a folder for phantoms, a store and a short pretraining run; what is there is used again. Takes some minutes on
two cores.
"""

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from voco2d.cli import main as voco2d
from voco2d.data.crop_dataset import CropDataset, CropPlan
from voco2d.data.crops import base_centers, first_pixels
from voco2d.data.pretrain_dataset import DataArgs
from voco2d.methods.method import CropBatch
from voco2d.methods.voco import VoCo
from voco2d.methods.voco_args import VoCoArgs
from voco2d.models.backbones import build_backbone
from voco2d.preprocessing.intensity import window_hu
from voco2d.store.volume_store import VolumeStore
from voco2d.training.localisation import load_method

IMAGES = Path(__file__).parents[1] / "docs" / "images"
BACKBONE = "test_efficientnet"
UNSEEN = 4
"""Patients that the run doesn't see; the figures show them."""
STEPS = 600
"""Of the run."""
STEP = 3
"""Which drawing of chance is shown."""
COLOURS = ("tab:orange", "tab:cyan")


def main() -> None:
    """Make what is missing in the folder and draw."""
    torch.set_num_threads(1)  # the pictures that are committed: several threads sum in another order
    work = Path(sys.argv[1])
    store = make_store(work)
    patients = sorted(set(store.index["patient_id"].astype(str)))
    args = VoCoArgs(crop=32, slices=4, hidden=256)
    data = DataArgs((-175.0, 250.0), UNSEEN, seed=1, shuffle=False)
    shown = replace(args, flips=False, intensity=0.0)
    torch.manual_seed(0)  # of the untrained network
    dataset = CropDataset(store, shown, data, patients[:-UNSEEN])
    plan, batch = dataset.plan(STEP), dataset.batch(STEP, torch.device("cpu"))
    draw_crops(store, args, plan, batch).savefig(IMAGES / "concept_crops.png", dpi=110)
    draw_depth(store, args, plan).savefig(IMAGES / "concept_depth.png", dpi=110)
    methods = {
        "untrained": VoCo(build_backbone(BACKBONE), args).eval(),
        f"after {STEPS} steps": load_method(make_run(work, args, patients[-UNSEEN:]))[0].eval(),
    }
    draw_similarity(store, args, plan, batch, methods).savefig(IMAGES / "concept_similarity.png", dpi=110)


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
        words = [f"backbone={BACKBONE}", f"steps={STEPS}", f"checkpoint_every={STEPS}", "device=cpu", "optim.lr=3e-3"]
        words += [f"method.{key}={getattr(args, key)}" for key in ("crop", "slices", "hidden")]
        call("pretrain", work / "store", "--out", run, "--exclude", table, *words)
    return run


def draw_crops(store: VolumeStore, args: VoCoArgs, plan: CropPlan, batch: CropBatch) -> Figure:
    """Draw the grid with two random crops on a slice, and the overlap of each."""
    figure = Figure(figsize=(10, 3.7), layout="constrained")
    axes: Any = figure.subplots(1, 3, width_ratios=(1.15, 1, 1))
    show_grid_on_slice(axes[0], store, args, int(plan.volumes[0]))
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


def draw_similarity(
    store: VolumeStore, args: VoCoArgs, plan: CropPlan, batch: CropBatch, methods: Mapping[str, VoCo]
) -> Figure:
    """Draw, for the random crops of a patient that no run saw, the overlaps beside what each method says of them."""
    figure = Figure(figsize=(10, 5.4), layout="constrained")
    axes: Any = figure.subplots(args.random_crops, 1 + len(methods), width_ratios=(1, *(1.5 for _ in methods)))
    said = {name: similarities(method, batch) for name, method in methods.items()}
    for row, colour in enumerate(COLOURS):
        show_grid_on_slice(axes[row, 0], store, args, int(plan.volumes[0]))
        frame(axes[row, 0], *plan.centers[0, row], args.crop, colour)
        for axis, (name, values) in zip(axes[row, 1:], said.items(), strict=True):
            show_bars(axis, batch.overlap[0, row].numpy(), values[row], colour)
            if row == 0:
                axis.set_title(name)
    for axis in axes[-1, 1:]:
        axis.set_xlabel("base crop")
    axes[0, -1].legend(loc="upper left", frameon=False)
    return figure


def similarities(method: VoCo, batch: CropBatch) -> np.ndarray:
    """Return (R, K) what a method says of the random crops of the first volume."""
    with torch.no_grad():
        similarity = method(batch).similarity
    assert similarity is not None
    return np.asarray(similarity[0].numpy())


def show_bars(axis: Any, overlap: np.ndarray, similarity: np.ndarray, colour: str) -> None:
    """Show both numbers of each base crop."""
    places = np.arange(1, len(overlap) + 1)
    axis.bar(places - 0.2, overlap, width=0.4, color=colour, label="overlap: what is to be said")
    axis.bar(places + 0.2, similarity, width=0.4, color="0.45", label="similarity: what is said")
    axis.axhline(0, color="black", linewidth=0.8)
    axis.set_ylim(-0.6, 1)
    axis.set_xticks(places)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


def show_slice(axis: Any, store: VolumeStore, volume: int) -> None:
    """Show the middle slice of a volume, which is as large as the grid."""
    hu = np.array(store[volume])
    axis.imshow(window_hu(hu[hu.shape[0] // 2], -175.0, 250.0), cmap="gray", vmin=0, vmax=1)
    axis.set_axis_off()


def show_grid_on_slice(axis: Any, store: VolumeStore, args: VoCoArgs, volume: int) -> None:
    """Show the middle slice of a volume under the numbered base crops."""
    show_slice(axis, store, volume)
    for number, (row, column) in enumerate(base_centers(args.grid, args.crop)):
        frame(axis, row, column, args.crop, "white", dashed=True)
        text = axis.text(column, row, str(number + 1), color="white", ha="center", va="center", fontsize=11)
        text.set_path_effects([withStroke(linewidth=2.5, foreground="black")])


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
