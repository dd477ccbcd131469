"""Targets of one's own: learn from real organ masks which organs a slab of CT shows, and grade other patients.

    python examples/organ_presence.py DATA OUT [key=value ...]

DATA holds `abdomen/` and `dicom/`; docs/how-to/other-targets.md lists the files and where they come from. One patient
has a mask from the thighs to the liver's dome; slabs of 30 mm of it are learnt from. Slabs of two other patients with
masks, and three whole scans of which only words tell what they show, are graded; what the words leave open is a missing
label.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd

from voco2d import read_volume
from voco2d.cli import main

CONFIG = Path(__file__).parents[1] / "configs" / "targets_organs.yaml"
SLAB_MM = 30.0
SEEN_ML = 2.0  # of an organ in a slab, from which it counts as visible
MUCH_ML = 150.0
ABDOMEN = Path("abdomen")


@dataclass(frozen=True)
class Scan:
    """A scan with a mask: organ → the numbers that stand for it."""

    name: str
    split: str
    image: Path
    mask: Path
    organs: Mapping[str, tuple[int, ...]]
    step_mm: float


TOTAL = {"liver": (5,), "kidneys": (2, 3), "spleen": (1,)}
SCANS = (
    Scan(
        "whole", "train", ABDOMEN / "totalsegmentator/example_ct.nii.gz",
        ABDOMEN / "totalsegmentator/example_ct_labels.nii.gz", TOTAL, 6.0,
    ),
    Scan(
        "amos", "test", ABDOMEN / "amos/amos_0001.nii.gz", ABDOMEN / "amos/amos_0001_labels.nii.gz",
        {"liver": (6,), "kidneys": (2, 3), "spleen": (1,)}, 5.0,
    ),
    Scan(
        "upper", "test", Path("dicom/jpeg2000_series"),
        ABDOMEN / "totalsegmentator/example_ct_dicom_labels.nii.gz", TOTAL, 4.0,
    ),
)  # fmt: skip
WORDS = {  # scans without a mask: what the data's own description says they show
    ABDOMEN / "kits/kits-00072.nii.gz": {"liver": True, "kidneys": False, "spleen": True},
    ABDOMEN / "chest_pe/9328.50.1.0117.nii.gz": {"liver": True, "kidneys": False, "spleen": None},
    ABDOMEN / "no_abdomen/a056396.nii.gz": {"liver": False, "kidneys": False, "spleen": False},
}


def read_mask(path: Path) -> np.ndarray:
    """Read a mask as voco2d reads its image: from head to foot, front to back, the patient's right to left."""
    canonical = nibabel.as_closest_canonical(nibabel.load(path))
    return np.asarray(canonical.dataobj).astype(int).transpose(2, 1, 0)[::-1, ::-1, ::-1]


def cut(data: Path, scan: Scan) -> Iterator[tuple[np.ndarray, tuple[float, ...], dict[str, str]]]:
    """Yield the HU of each slab, its spacing, and its labels."""
    volume, mask = read_volume(data / scan.image), read_mask(data / scan.mask)
    assert mask.shape == volume.hu.shape
    slices = max(1, round(SLAB_MM / volume.spacing_mm[0]))
    step = max(1, round(scan.step_mm / volume.spacing_mm[0]))
    voxel_ml = float(np.prod(volume.spacing_mm)) / 1000
    for start in range(0, len(mask) - slices + 1, step):
        slab = slice(start, start + slices)
        amounts = {organ: float(np.isin(mask[slab], n).sum()) * voxel_ml for organ, n in scan.organs.items()}
        labels = {f"{organ}_visible": _word(amount >= SEEN_ML) for organ, amount in amounts.items()}
        liver = amounts["liver"]
        labels["liver_amount"] = "none" if liver < SEEN_ML else "much" if liver >= MUCH_ML else "some"
        yield volume.hu[slab], volume.spacing_mm, labels


def write_slabs(data: Path, out: Path) -> None:
    """Write slabs as NumPy files, `labels.csv` with a column a target, and `splits.csv`; a patient is on one side."""
    for split in ("train", "test"):
        (out / split).mkdir(parents=True)
    rows = []
    for scan in SCANS:
        for number, (hu, spacing, labels) in enumerate(cut(data, scan)):
            rows.append({"patient_id": f"{scan.name}-{number:02d}", "split": scan.split, **labels})
            _write(out / scan.split / rows[-1]["patient_id"], hu, spacing)
    for path, shown in WORDS.items():
        volume = read_volume(data / path)
        labels = {f"{organ}_visible": "" if seen is None else _word(seen) for organ, seen in shown.items()}
        amount = "" if shown["liver"] else "none"  # how much is seen of a liver nobody has outlined isn't known
        rows.append({"patient_id": path.parent.name, "split": "test", **labels, "liver_amount": amount})
        _write(out / "test" / path.parent.name, volume.hu, volume.spacing_mm)
    table = pd.DataFrame(rows)
    table.drop(columns="split").to_csv(out / "labels.csv", index=False)
    table[["patient_id", "split"]].to_csv(out / "splits.csv", index=False)


def voco2d(*words: object) -> None:
    """Run a command as a shell would, and show it."""
    print("voco2d", *words)
    if main([str(word) for word in words]) != 0:
        sys.exit(1)


def run(data: Path, out: Path, overrides: list[str]) -> None:
    """Cut, prepare, fine-tune on one patient, grade the others from their raw slabs, and score."""
    write_slabs(data, out)
    voco2d("prepare", out / "train", out / "test", "--out", out / "store", "preprocess.size=[16,96,96]")
    tables = ("--labels", out / "labels.csv", "--splits", out / "splits.csv")
    voco2d("finetune", out / "store", *tables, "--init", "random", "--config", CONFIG, "--out", out / "run", *overrides)
    # slabs are shorter than what the gates let through
    voco2d("predict", out / "test", "--model", out / "run", "--gates", "off", "--out", out / "predictions.csv")
    tables = ("--labels", out / "labels.csv", "--targets", out / "run", "--json", out / "scores.json")
    voco2d("evaluate", out / "predictions.csv", *tables)


def _word(seen: bool) -> str:
    return "present" if seen else "absent"


def _write(path: Path, hu: np.ndarray, spacing_mm: tuple[float, ...]) -> None:
    np.save(path.with_suffix(".npy"), np.clip(hu, -1024, 3071).astype(np.int16))
    about = {"axes": "IPL", "spacing_mm": list(spacing_mm), "intensity": "hu", "patient_id": path.name}
    path.with_suffix(".json").write_text(json.dumps({**about, "series_id": path.name}))


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    run(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
