"""Each example is the whole method: it runs, it learns, and what it leaves can be used."""

import contextlib
import io
import json
import os
import re
import runpy
from pathlib import Path
from unittest.mock import patch

import pandas as pd
import pytest
import timm
import torch

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(name: str, *words: object) -> str:
    """Run an example as a script and return what it printed."""
    said = io.StringIO()
    with patch("sys.argv", [name, *map(str, words)]), contextlib.redirect_stdout(said):
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    return said.getvalue()


@pytest.fixture(scope="session")
def pretrained(cohort: Path) -> tuple[Path, str]:
    out = cohort / "minimal.safetensors"
    return out, run("pretrain_minimal.py", cohort / "store", out, 21)


def test_pretraining_learns_where_crops_lie(pretrained: tuple[Path, str]) -> None:
    intra = [float(value) for value in re.findall(r"intra ([0-9.]+)", pretrained[1])]
    assert len(intra) == 2
    assert intra[1] < 0.8 * intra[0]


def test_its_backbone_loads_in_plain_timm(pretrained: tuple[Path, str]) -> None:
    settings = {"checkpoint_path": str(pretrained[0]), "in_chans": 1, "num_classes": 0}
    model = timm.create_model("test_efficientnet", **settings).eval()
    with torch.no_grad():
        assert model(torch.rand(2, 1, 64, 64)).isfinite().all()


def test_classifying_learns_and_scores_the_held_out(cohort: Path, pretrained: tuple[Path, str]) -> None:
    said = run("classify_minimal.py", cohort / "store", cohort / "RSNA" / "train.csv", pretrained[0], 5)
    losses = [float(value) for value in re.findall(r"loss ([0-9.]+)", said)]
    assert len(losses) == 5
    assert losses[-1] < losses[0]
    assert re.search(r"'any_injury': [0-9.]+, 'mean': [0-9.]+\}", said)


@pytest.mark.realdata
def test_organ_presence_goes_from_real_masks_to_scores(tmp_path: Path) -> None:
    data = Path(os.environ.get("VOCO2D_REAL_DATA", Path(__file__).parents[3] / "shared" / "data"))
    if not data.is_dir():
        pytest.skip(f"no real data at {data}; set VOCO2D_REAL_DATA")
    run("organ_presence.py", data.resolve(), tmp_path / "out", "epochs=1", "device=cpu")
    labels = pd.read_csv(tmp_path / "out" / "labels.csv").set_index("patient_id")
    seen = labels.filter(like="whole-", axis=0)["kidneys_visible"]
    assert set(seen) == {"present", "absent"}  # slabs from the liver to the thighs
    assert pd.isna(labels.loc["chest_pe", "spleen_visible"])
    splits = pd.read_csv(tmp_path / "out" / "splits.csv")
    patients = splits["patient_id"].str.split("-").str[0]
    assert splits.groupby(patients)["split"].nunique().max() == 1
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert scores["targets"]["spleen_visible"]["n"] == len(patients[splits["split"] == "test"]) - 1
    assert "rsna" not in scores
