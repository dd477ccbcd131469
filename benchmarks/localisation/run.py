"""Pretrains with each preset on phantoms and measures localisation on patients that none of them saw.

    voco2d phantom COHORT --patients 80 --seed 11
    voco2d prepare COHORT --out STORE 'preprocess.size=[48,192,192]'
    python benchmarks/localisation/run.py STORE RUNS [lcnet_050|test_efficientnet]

Runs that are there are kept, and one that was interrupted goes on. Results: `results_<backbone>.json` beside this
file and `docs/images/localisation_<backbone>.png`.
"""

import json
import os
import platform
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from voco2d.config import resolve
from voco2d.store.volume_store import VolumeStore
from voco2d.training.ablation import held_out_patients
from voco2d.training.localisation import measure_localisation
from voco2d.training.pretrain import PRESETS, PretrainArgs, pretrain

HERE = Path(__file__).resolve().parent
IMAGES = HERE.parents[1] / "docs" / "images"
STEPS = 2000
RATES = {"lcnet_050": "1e-3", "test_efficientnet": "3e-3"}
"""Backbones and their learning rates, for all presets alike."""
SHARED = ("init=random", f"steps={STEPS}", f"schedule_steps={STEPS}", "checkpoint_every=500",
          "keep_checkpoints=1", "log_every=20", "seed=0", "device=cpu", "method.slices=4",
          "method.hidden=512")  # fmt: skip
SIZES = {
    "voco2d": ("batch_size=4", "method.crop=32"),
    "paper-v2": ("batch_size=4", "method.crop=32"),
    "paper-v1": ("batch_size=1", "method.crop=48", "method.encoded=32"),
}
"""Every side is half of the preset's, and slices and width are fewer, so that it runs on two cores."""


def main() -> None:
    """Train what is missing, measure, and draw."""
    store, backbone = Path(sys.argv[1]), (*sys.argv[3:], "lcnet_050")[0]
    runs = Path(sys.argv[2], backbone)
    shared = (f"backbone={backbone}", f"optim.lr={RATES[backbone]}", *SHARED)
    volumes = VolumeStore(store)
    unseen = held_out_patients(volumes.index["patient_id"].astype(str), 0.25)
    results: dict[str, Any] = {
        "steps": STEPS,
        "volumes": len(volumes),
        "held_out_patients": len(unseen),
        "hardware": f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, no GPU",
        "shared": shared,
        "presets": {},
    }
    curves = {}
    for name, sizes in SIZES.items():
        args = resolve(PretrainArgs, name, (*shared, *sizes), PRESETS)
        start = replace(args, steps=1, schedule_steps=STEPS)
        before = pretrain(store, runs / f"{name}-1", start, resume=True, exclude_patients=unseen)
        after = pretrain(store, runs / name, args, resume=True, exclude_patients=unseen)
        found = {}
        for when, run in (("after_1_step", before), ("after_all", after)):
            measured = measure_localisation(run, volumes, unseen)
            low, high = measured.interval()
            found[when] = {
                "accuracy": measured.accuracy,
                "interval": [low, high],
                "chance": measured.chance,
                "frequent": measured.frequent,
                "volumes": len(measured.hits),
                "effective_rank": measured.effective_rank,
                "feature_std": measured.feature_std,
            }
        results["presets"][name] = {"sizes": sizes, **found}
        curves[name] = [json.loads(line) for line in (after / "metrics.jsonl").read_text().splitlines()]
        (HERE / f"results_{backbone}.json").write_text(json.dumps(results, indent=1) + "\n")
    draw(curves, results, IMAGES / f"localisation_{backbone}.png")


def draw(curves: dict[str, list[dict[str, Any]]], results: dict[str, Any], out: Path) -> None:
    """Draw what was watched in training, and what was measured on unseen patients at the end."""
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    axes = figure.subplots(1, 3)
    for (name, records), color in zip(curves.items(), ("#0072B2", "#D55E00", "#009E73"), strict=True):
        steps = np.array([record["step"] for record in records])
        for place, key in zip(axes, ("localisation_accuracy", "effective_rank", "loss"), strict=True):
            values = np.array([record[key] for record in records], dtype=float)
            smooth = np.convolve(np.pad(values, 4, mode="edge"), np.ones(9) / 9, mode="valid")
            place.plot(steps, values, color=color, alpha=0.2, linewidth=0.8)
            place.plot(steps, smooth, color=color, label=name)
            place.set_xlabel("step")
        end = results["presets"][name]["after_all"]
        low, high = end["interval"]
        axes[0].errorbar([STEPS * 1.04], [end["accuracy"]], [[end["accuracy"] - low], [high - end["accuracy"]]],
                         color=color, marker="o", markersize=4)  # fmt: skip
        axes[0].axhline(end["frequent"], color=color, linestyle=":", linewidth=0.8)
    for place, title in zip(axes, ("localisation accuracy", "effective rank of features", "loss"), strict=True):
        place.set_title(title, fontsize=10)
        place.spines[["top", "right"]].set_visible(False)
    axes[0].legend(frameon=False, fontsize=9)
    figure.savefig(out, dpi=110)


if __name__ == "__main__":
    main()
