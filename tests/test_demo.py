"""The demo tells the whole story and leaves every file it promises."""

import json
from pathlib import Path

import pytest

from voco2d.cli import main
from voco2d.commands import demo


@pytest.mark.slow
@pytest.mark.usefixtures("no_pages")
@pytest.mark.timeout(1200)
def test_the_whole_story(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """All but its length, trainings being a tenth and a quarter as long, and the page of each of its runs."""
    monkeypatch.setattr(demo, "_PRETRAIN", (*demo._PRETRAIN, "steps=24", "checkpoint_every=12"))
    monkeypatch.setattr(demo, "_FINETUNE", (*demo._FINETUNE, "epochs=2"))
    out = tmp_path / "demo"
    assert main(["demo", "--out", str(out), "--patients", "12"]) == 0
    assert "proves nothing" in capsys.readouterr().out
    for arm in ("random", "voco2d"):
        assert json.loads((out / f"scores-{arm}.json").read_text())["rsna"]["mean"] > 0
        assert len(list((out / f"finetune-{arm}").glob("fold_*.safetensors"))) == 2
    page = (out / "report.html").read_text()
    assert page.count("<img") > 10
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "Research use only" in page
    same_folds = [(out / f"finetune-{arm}" / "folds.csv").read_text() for arm in ("random", "voco2d")]
    assert same_folds[0] == same_folds[1]
    seen = (out / "unseen_predictions.csv").read_text()
    assert "assessed" in seen


def test_a_folder_that_is_no_demo_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    assert main(["demo", "--out", str(tmp_path)]) == 2
    assert "choose another --out" in capsys.readouterr().err
    assert (tmp_path / "thesis.txt").read_text() == "mine"
