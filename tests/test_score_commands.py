"""`voco2d ensemble` and `voco2d evaluate` write their files, and say what is wrong in one line."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from voco2d.targets import CLASS_COLUMNS, TARGETS

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    generator = np.random.default_rng(0)
    ids = pd.DataFrame({"patient_id": np.arange(60)})
    truth = {name: np.eye(len(t.classes))[generator.integers(len(t.classes), size=60)] for name, t in TARGETS.items()}
    written = {}
    for title in ("labels", "one", "two"):
        blocks = []
        for values in truth.values():
            scores = np.exp(values + generator.normal(size=values.shape))
            blocks.append(values if title == "labels" else scores / scores.sum(axis=1, keepdims=True))
        written[title] = tmp_path / f"{title}.csv"
        table = ids.join(pd.DataFrame(np.concatenate(blocks, axis=1), columns=list(CLASS_COLUMNS)))
        table.to_csv(written[title], index=False)
    return written


def test_writes_weights_predictions_and_a_submission(files: dict[str, Path], run: Run, tmp_path: Path):
    out, models = tmp_path / "out", (files["one"], files["two"])
    sample = files["two"]
    words = (*models, "--labels", files["labels"], "--test", *models, "--sample", sample, "--out", out)
    code, printed, _ = run("ensemble", *words, "--scaling", "classes")
    assert code == 0
    assert "ensemble, out-of-fold" in printed
    told = json.loads((out / "weights.json").read_text())
    assert set(told["weights"]) == set(TARGETS)
    assert all(sum(weights) == pytest.approx(1) for weights in told["weights"].values())
    submission = pd.read_csv(out / "submission.csv")
    assert list(submission.columns) == ["patient_id", *CLASS_COLUMNS]
    assert len(pd.read_csv(out / "oof_predictions.csv")) == 60
    assert run("evaluate", out / "oof_predictions.csv", "--labels", files["labels"])[0] == 0


SEEN = "pretraining has seen patients that are graded here"


@pytest.mark.parametrize(
    ("seen", "words"), [(True, SEEN), (None, "doesn't say which patients it has seen"), (False, None)]
)
def test_what_pretraining_has_seen_is_told(
    files: dict[str, Path], run: Run, tmp_path: Path, seen: bool | None, words: str | None
):
    origin, out, blend = files["one"].with_suffix(".json"), tmp_path / "scores.json", tmp_path / "blend"
    origin.write_text(json.dumps({"table": "one.csv", "transductive": seen}))
    labels = ("--labels", files["labels"])
    printed = " ".join(run("evaluate", files["one"], *labels, "--json", out)[1].split())
    told = json.loads(out.read_text())
    assert told["transductive"] is seen
    for text in (printed, " ".join(told["warnings"])):
        assert (words is None) == ("seen" not in text)
        assert words is None or words in text
    code, printed, _ = run("ensemble", files["one"], files["two"], *labels, "--out", blend)
    assert code == 0
    assert words is None or f"warning: {files['one']}: " in printed
    assert json.loads((blend / "weights.json").read_text())["transductive"] == {str(files["one"]): seen}
    # of the other model nothing is known
    assert json.loads((blend / "oof_predictions.json").read_text())["transductive"] is (True if seen else None)
    origin.unlink()
    assert run("ensemble", files["one"], files["two"], *labels, "--out", blend)[0] == 0
    assert not (blend / "oof_predictions.json").exists()
    assert run("evaluate", files["one"], *labels, "--json", out)[0] == 0
    assert "transductive" not in json.loads(out.read_text())


def test_the_page_says_what_pretraining_has_seen(files: dict[str, Path], run: Run, tmp_path: Path):
    files["one"].with_suffix(".json").write_text('{"transductive": true}')
    assert run("evaluate", files["one"], "--labels", files["labels"], "--out", tmp_path, "--bootstrap", 5)[0] == 0
    assert SEEN in (tmp_path / "report.html").read_text()
    assert json.loads((tmp_path / "scores.json").read_text())["transductive"] is True


def test_wrong_use(files: dict[str, Path], run: Run, tmp_path: Path):
    words = (files["one"], files["two"], "--labels", files["labels"], "--out", tmp_path / "out")
    code, _, error = run("ensemble", *words, "--test", files["one"])
    assert (code, "give as many" in error) == (2, True)
    code, _, error = run("ensemble", *words, "--sample", files["one"])
    assert (code, "--sample goes with --test" in error) == (2, True)
    assert not (tmp_path / "out").exists()


def test_evaluate_scores_subgroups_on_the_screen_in_the_file_and_on_the_page(
    files: dict[str, Path], run: Run, tmp_path: Path
):
    sites = tmp_path / "sites.csv"
    pd.DataFrame({"patient_id": np.arange(60), "site": ["north", "south"] * 30}).to_csv(sites, index=False)
    out = tmp_path / "scores"
    words = ("evaluate", files["one"], "--labels", files["labels"], "--out", out, "--subgroups")
    code, printed, _ = run(*words, sites, "--bootstrap", 20)
    assert code == 0
    assert "north" in printed
    told = json.loads((out / "scores.json").read_text())["subgroups"]["site"]
    assert told["north"]["n_patients"] == 30
    assert told["south"]["intervals"]["rsna"][0] < told["south"]["rsna"]
    assert "Subgroups" in (out / "report.html").read_text()
    code, _, error = run(*words, tmp_path / "nowhere.csv")
    assert (code, "no such file" in error) == (2, True)
