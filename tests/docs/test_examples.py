"""Each example is the whole method: it runs, it learns, and what it leaves can be used."""

import contextlib
import io
import re
import runpy
from pathlib import Path
from unittest.mock import patch

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
