import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from voco2d.errors import UsageError
from voco2d.inference.report import (
    prediction_section,
    report_run,
    scores_section,
    text_section,
    write_report,
)
from voco2d.inference.report_page import Cell, Gallery, Section, Table, scored
from voco2d.targets import CLASS_COLUMNS, TARGETS


def tables(patients: int, healthy: tuple[str, ...] = ()) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Random predictions and labels; targets in `healthy` have no injury."""
    generator = np.random.default_rng(0)
    ids = pd.DataFrame({"patient_id": [str(100 + index) for index in range(patients)]})
    labels, predictions = {}, {}
    for name, target in TARGETS.items():
        classes = len(target.classes)
        drawn = np.zeros(patients, dtype=int) if name in healthy else np.arange(patients) % classes
        labels |= dict(zip(target.columns, np.eye(classes)[drawn].T, strict=True))
        predictions |= dict(zip(target.columns, generator.dirichlet(np.ones(classes), patients).T, strict=True))
    return ids.assign(**predictions), ids.assign(**labels)


def make_run(folder: Path, kind: str, records: list[dict], config: str = "backbone: resnet10t\n") -> Path:
    folder.mkdir()
    (folder / "config.yaml").write_text(config)
    environment = {"kind": kind, "voco2d": "0.1", "host": "a-private-name", "gpus": [], "packages": {"torch": "2.15"}}
    (folder / "environment.json").write_text(json.dumps(environment))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


class Links(HTMLParser):
    """Collects what a browser would ask for, and the scripts it would run."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.scripts = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        self.asked += [value or "" for name, value in attrs if name in {"src", "href", "srcset", "data", "action"}]


def assert_self_contained(page: str) -> None:
    links = Links()
    links.feed(page)
    assert links.scripts == 0
    assert all(link.startswith(("data:image/", "#")) for link in links.asked)
    assert "url(" not in page
    assert "@import" not in page


PRETRAIN = {
    "loss": 1.0,
    "intra": 0.5,
    "inter": 0.4,
    "reg": 0.1,
    "lr": 1e-4,
    "grad_norm": 2.0,
    "effective_rank": 30.0,
    "feature_std": 0.1,
    "localisation_accuracy": 0.3,
    "similarity_mean": 0.2,
}


@pytest.mark.parametrize("steps", [1, 300])
def test_a_pretraining_run(tmp_path: Path, steps: int):
    run = make_run(tmp_path / "run", "pretrain", [{"step": step, **PRETRAIN} for step in range(1, steps + 1)])
    assert report_run(run) == run / "report.html"
    page = (run / "report.html").read_text(encoding="utf-8")
    assert_self_contained(page)
    for text in ("Research use only", "Effective rank", "Localisation accuracy", "Gradient norm", f"step {steps}."):
        assert text in page
    assert "resnet10t" in page
    assert "a-private-name" not in page
    assert page.count("<figure>") == 7


def test_what_a_pretraining_run_lacks_is_said(tmp_path: Path):
    record = {"step": 1, "loss": 1.0, "grad_norm": 0.0, "effective_rank": None}
    run = make_run(tmp_path / "run", "pretrain", [record])
    with (run / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 2, "lo')  # an abort cut this line
    (run / "config.yaml").unlink()
    page = report_run(run, tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Not recorded in this run, so not drawn: localisation_accuracy, localisation_chance, effective_rank" in page
    assert "Configuration: not recorded" in page
    assert "1 lines were logged, the last at step 1" in page


@pytest.mark.parametrize(("kind", "text"), [("pretrain", "No step has been"), ("finetune", "No epoch has been")])
def test_a_run_that_has_just_begun(tmp_path: Path, kind: str, text: str):
    run = make_run(tmp_path / "run", kind, [])
    assert text in report_run(run).read_text(encoding="utf-8")
    (run / "metrics.jsonl").unlink()
    assert text in report_run(run).read_text(encoding="utf-8")


def test_a_fine_tuning_run(tmp_path: Path):
    epochs = [
        {"fold": fold, "epoch": epoch, "train_loss": 2.0 - epoch, "val_loss": 2.0, "val_rsna": 0.9 - 0.1 * epoch}
        for fold in range(2)
        for epoch in range(2)
    ]
    run = make_run(tmp_path / "run", "finetune", epochs)
    predictions, labels = tables(30, healthy=("bowel",))
    predictions.to_csv(run / "oof_predictions.csv", index=False)
    labels.to_csv(run / "labels.csv", index=False)
    page = report_run(run).read_text(encoding="utf-8")
    assert_self_contained(page)
    for text in ("Validation RSNA score", "0.800", "ROC curves", "RSNA of three organs", "undefined"):
        assert text in page
    assert "bowel_injury never occurs" in page
    assert "bowel: injury is never there, so no curve." in page


def test_a_fine_tuning_run_without_scores(tmp_path: Path):
    run = make_run(tmp_path / "run", "finetune", [{"fold": 0, "epoch": 0, "train_loss": 2.0, "val_rsna": None}])
    page = report_run(run).read_text(encoding="utf-8")
    assert "No fold has been finished yet" in page
    assert "No epoch has a validation score" in page
    assert "Not recorded in this run, so not drawn: val_loss, val_rsna" in page


def test_a_fine_tuning_run_that_holds_nobody_out(tmp_path: Path):
    run = make_run(tmp_path / "run", "finetune", [{"fold": 0, "epoch": 0, "train_loss": 2.0, "val_rsna": None}])
    predictions, labels = tables(3)
    predictions.head(0).to_csv(run / "oof_predictions.csv", index=False)
    labels.to_csv(run / "labels.csv", index=False)
    assert "The split names nobody to validate on" in report_run(run).read_text(encoding="utf-8")


def test_what_is_no_run_is_refused(tmp_path: Path):
    with pytest.raises(UsageError, match="no run there"):
        report_run(tmp_path)
    with pytest.raises(UsageError, match="'probe'"):
        report_run(make_run(tmp_path / "run", "probe", []))


HOSTILE = '"><script>alert(1)</script><img src=http://evil.example/x>'


def test_hostile_ids_and_names_stay_text(tmp_path: Path):
    predictions, _ = tables(3)
    predictions = predictions.assign(patient_id=HOSTILE, series_id="$\\frac{", status="not_assessed", reason=HOSTILE)
    run = make_run(tmp_path / "run", "pretrain", [{"step": 1, **PRETRAIN}], config=json.dumps({"backbone": HOSTILE}))
    page = report_run(run).read_text(encoding="utf-8")
    assert_self_contained(page)
    sections = [text_section(HOSTILE, [HOSTILE, "\ud800"]), prediction_section(predictions)]
    write_report(tmp_path / "page.html", HOSTILE, sections)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert_self_contained(page)
    assert "&lt;script&gt;" in page


def test_predictions_are_listed(tmp_path: Path):
    predictions, _ = tables(60)
    predictions = predictions.assign(series_id=np.arange(60), status="assessed", reason="")
    predictions.loc[1, ["status", "reason"]] = ["not_assessed", "only 2 slices"]
    predictions.loc[1, list(CLASS_COLUMNS)] = np.nan
    section = prediction_section(predictions)
    write_report(tmp_path / "page.html", "predictions", [section])
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "only 2 slices" in page
    assert "10 more rows" in page
    table = section.blocks[0]
    assert isinstance(table, Table)
    first = predictions.iloc[0]
    cell = table.rows[0][3]
    assert isinstance(cell, Cell)
    values = {grade: first[f"kidney_{grade}"] for grade in TARGETS["kidney"].classes}
    best = max(values, key=values.__getitem__)
    assert cell.text == f"{best} {values[best]:.2f}"


def test_scores_without_intervals_and_figures_that_are_images():
    section = scores_section(*tables(30), bootstrap=0)
    galleries = [block for block in section.blocks if isinstance(block, Gallery)]
    assert [len(gallery.figures) for gallery in galleries] == [6, 6, 6]
    kind, content = galleries[0].figures[0].source.split(",")
    assert kind == "data:image/svg+xml;base64"
    svg = base64.b64decode(content).decode()
    assert "<svg" in svg
    assert not re.search(r"<script|<image|href=\"http", svg)


def test_a_page_is_the_same_when_written_again(tmp_path: Path):
    for name in ("a.html", "b.html"):
        write_report(tmp_path / name, "scores", [scores_section(*tables(30), bootstrap=20)])
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_an_abort_leaves_the_old_page(tmp_path: Path, monkeypatch):
    out = tmp_path / "new" / "page.html"
    write_report(out, "old", [])
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_report(out, "new", [Section("s", ())])
    assert "old" in out.read_text()
    assert [path.name for path in out.parent.iterdir()] == ["page.html"]


def test_a_folder_is_no_page(tmp_path: Path):
    with pytest.raises(UsageError, match="is a folder"):
        write_report(tmp_path, "page", [])


def test_cells_of_scores():
    assert scored(None) == Cell("undefined")
    assert scored(0.5, [0.25, 0.75]) == Cell("0.500", "0.250 to 0.750")
    assert scored(-0.5, [-0.75, 0.25], sign=True) == Cell("−0.500", "−0.750 to +0.250")
