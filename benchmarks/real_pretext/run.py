"""Pretrains on real abdominal scans and probes organ presence on patients that no run saw.

    VOCO2D_REAL_DATA=DATA python benchmarks/real_pretext/run.py WORK

Runs that are there are kept, and one that was interrupted goes on. Results: `predictions.csv.gz`, `results.json` and
`results.md` beside this file, and `docs/images/real_pretext.png`.
"""

import json
import logging
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import timm
import torch
from torch import nn

from presence import PATIENTS, SIDE, read_slices
from probe import features, predict, settle_norms
from publish import publish
from scores import HERE
from voco2d.config import resolve
from voco2d.data.cohort import patient_digests
from voco2d.io.source import ReadArgs
from voco2d.models.checkpoint import load_backbone, newest_weights, read_weights
from voco2d.preprocessing.preprocess import PreprocessArgs
from voco2d.store.build import PrepareArgs, prepare
from voco2d.store.volume_store import VolumeStore
from voco2d.training.pretrain import PRESETS, PretrainArgs, pretrain

SCANS = (
    *(f"abdomen/{name}" for name in ("ircad", "crlm", "cptac", "acrin_flt_breast", "nsclc_radiomics", "lidc")),
    *(f"abdomen/{name}" for name in ("cmb_crc", "chest_pe", "kits", "rsna2023", "amos/amos_0001.nii.gz")),
    *(f"abdomen/totalsegmentator/{name}.nii.gz" for name in ("example_ct", "aorta_ct_cropped")),
    "dicom/jpeg2000_series",
)
BACKBONE = "test_efficientnet"
STEPS = 300
SHARED = (f"backbone={BACKBONE}", "init=random", f"steps={STEPS}", "checkpoint_every=100", "keep_checkpoints=1",
          "log_every=20", "device=cpu", "writers=[]", "optim.lr=3e-3", "method.crop=32",
          "method.hidden=512")  # fmt: skip
STARTS = {
    "voco2d": ("batch_size=4", "method.slices=4"),
    "simclr": ("batch_size=8", "method.slices=11"),
}
"""Presets and their sizes: 176 images of 32 × 32 a step each."""
SEEDS = (0, 1, 2)

_log = logging.getLogger("real_pretext")


def main() -> None:
    """Prepare, pretrain what is missing, probe, score and draw."""
    logging.basicConfig(level=logging.WARNING)
    torch.set_num_threads(1)
    data = Path(os.environ.get("VOCO2D_REAL_DATA", HERE.parents[2] / "shared" / "data"))
    work = Path(sys.argv[1])
    read = ReadArgs(identity_axes="ARI")  # what the axes of the RSNA conversion truly are; its header is an identity
    settings = PrepareArgs(preprocess=PreprocessArgs(size=(48, SIDE, SIDE)), read=read)
    prepare([data / scan for scan in SCANS], work / "store", settings)
    store = VolumeStore(work / "store")
    columns = ["reading", "patient", "organ", "slice", "block", "start", "seed", "present", "score"]
    table = pd.DataFrame(_predictions(data, store, work / "runs"), columns=columns)
    table.to_csv(HERE / "predictions.csv.gz", index=False, float_format="%.6g",
                 compression={"method": "gzip", "mtime": 0})  # fmt: skip
    facts = {
        "steps": STEPS,
        "images_per_step": {name: _args(name, 0).images_per_step for name in STARTS},
        "scans": len(store),
        "hardware": f"{platform.machine()}, one thread, no GPU",
        "shared": SHARED,
        "starts": STARTS,
        "pretraining": _told(store, work / "runs"),
    }
    publish(facts)


def _args(start: str, seed: int) -> PretrainArgs:
    return resolve(PretrainArgs, start, (*SHARED, f"seed={seed}", *STARTS[start]), PRESETS)


def _run(runs: Path, tested: str, start: str, seed: int) -> Path:
    """Return the run's folder, which tested patients share whose pretraining leaves out the same."""
    never_seen = PATIENTS[tested].never_seen
    first = next(name for name, patient in PATIENTS.items() if patient.never_seen == never_seen)
    return runs / f"without_{first}" / f"{start}_{seed}"


def _predictions(data: Path, store: VolumeStore, runs: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of the table of predictions."""
    patients = {name: read_slices(data, patient) for name, patient in PATIENTS.items()}
    for seed in SEEDS:
        for tested in PATIENTS:
            for start in ("random", *STARTS):
                backbone = _backbone(store, runs, tested, start, seed)
                settle_norms(backbone, store, PATIENTS[tested].never_seen)
                found = {name: features(backbone, patient) for name, patient in patients.items()}
                for prediction in predict(tested, patients, found):
                    rows = prediction.rows(patients[tested])
                    yield from ({**row, "patient": tested, "start": start, "seed": seed} for row in rows)
                _log.warning("seed %d, without %s: %s is probed", seed, tested, start)


def _backbone(store: VolumeStore, runs: Path, tested: str, start: str, seed: int) -> nn.Module:
    """Return a start for the tested patient; pretrain it where that is missing."""
    if start == "random":
        torch.manual_seed(seed)
        model: nn.Module = timm.create_model(BACKBONE, in_chans=1, num_classes=0)
        return model.eval()
    never_seen = PATIENTS[tested].never_seen
    out = _run(runs, tested, start, seed)
    run = pretrain(store.path, out, _args(start, seed), resume=True, exclude_patients=never_seen)
    seen = read_weights(newest_weights(run))[1]["patients_seen"]
    assert not set(seen) & set(patient_digests(never_seen)), f"{run} has seen a tested patient"
    return load_backbone(run)


def _told(store: VolumeStore, runs: Path) -> dict[str, Any]:
    """Say how each pretraining ended: its last record, and how many scans it saw."""
    told: dict[str, Any] = {}
    for tested, patient in PATIENTS.items():
        kept = ~store.index["patient_id"].astype(str).isin(patient.never_seen)
        told[tested] = {"scans": int(kept.sum())}
        for start in STARTS:
            logs = [(_run(runs, tested, start, seed) / "metrics.jsonl").read_text().splitlines() for seed in SEEDS]
            first, last = ([json.loads(log[at]) for log in logs] for at in (0, -1))
            keys = ("loss", "effective_rank", "feature_std", "localisation_accuracy", "localisation_chance")
            told[tested][start] = {
                key: {"first": [one[key] for one in first], "last": [one[key] for one in last]}
                for key in keys
                if key in last[0]
            }
    return told


if __name__ == "__main__":
    main()
