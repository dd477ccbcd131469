import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from voco2d.commands.tables import write_text
from voco2d.errors import LabelError, ReadError, UsageError
from voco2d.evaluation.pairing import aggregate_rows
from voco2d.evaluation.scaler_file import read_scalers, scalers_text
from voco2d.evaluation.scaling import Scaler
from voco2d.evaluation.tables import check_predictions
from voco2d.inference.predictor import Predictor
from voco2d.inference.result_files import results_text
from voco2d.inference.result_table import prediction_table
from voco2d.inference.results import SeriesResult, StudyResult
from voco2d.targets import CLASS_COLUMNS, TARGETS

Run = Callable[..., tuple[int, str, str]]
ID = "SMITH-1234567"


def write_scan(path: Path, patient: str = ID, seed: int = 0, brightness: int = 40) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows, columns = np.mgrid[:40, :40]
    body = (rows - 20) ** 2 + (columns - 20) ** 2 < 18**2
    hu = np.where(body, brightness, -1000) + np.random.default_rng(seed).integers(-80, 80, (8, 40, 40))
    np.save(path, hu.astype(np.int16))
    sidecar = {"axes": "IPL", "spacing_mm": [5, 1, 1], "intensity": "hu", "patient_id": patient}
    path.with_suffix(".json").write_text(json.dumps(sidecar))
    return path


def scaler_file(path: Path) -> Path:
    scalers = {name: Scaler(2.0, (1.0,) * len(target.classes)) for name, target in TARGETS.items()}
    write_text(path, scalers_text(scalers, {}))
    return path


def test_the_same_input_gives_the_same_bytes_and_the_report_has_no_identifier(
    run: Run, make_run: Callable[[Path], Path], tmp_path: Path
) -> None:
    model = make_run(tmp_path / "model")
    write_scan(tmp_path / ID / "a.npy")
    write_scan(tmp_path / ID / "b.npy", seed=1)
    (tmp_path / ID / "note.txt").write_text("no scan")
    written = []
    for name in ("first", "second"):
        out = tmp_path / name / "predictions.csv"
        words = ("--model", model, "--out", out, "--gates", "flag", "--device", "cpu")
        code, printed, _ = run("predict", tmp_path / ID, *words)
        assert code == 0
        assert "Research use only" in printed
        assert "gates=flag" in printed
        written.append((out.read_bytes(), out.with_suffix(".json").read_bytes()))
        report_text = out.with_suffix(".report.json").read_text()
        assert ID not in report_text
        report = json.loads(report_text)
    assert written[0] == written[1]
    table = check_predictions(pd.read_csv(tmp_path / "first" / "predictions.csv"))
    assert table["reason"].str.startswith("gates=flag; too few slices").all()
    results = json.loads(written[0][1])
    assert results["notice"].startswith("Research use only")
    assert [study["gates"] for study in results["studies"]] == ["flag"]
    assert len(results["studies"][0]["series"]) == 2
    assert (report["gates"], report["assessed"], report["skipped_files"]) == ("flag", 2, {"not a CT format: .txt": 1})
    assert len(report["models"][0]["sha256"]) == 64
    assert report["preprocess"]["size"] == [8, 32, 32]
    assert {"read", "prepare", "gates", "model"} == set(report["series"][0]["seconds"])
    assert report["versions"]["voco2d"]
    assert report["started"] not in written[0][1].decode()


def test_by_default_what_the_gates_refuse_has_no_number(
    run: Run, make_run: Callable[[Path], Path], tmp_path: Path
) -> None:
    out = tmp_path / "predictions.csv"
    code, _, _ = run("predict", write_scan(tmp_path / "a.npy"), "--model", make_run(tmp_path / "m"), "--out", out)
    assert code == 1
    table = pd.read_csv(out)
    assert table["status"].tolist() == ["not_assessed"]
    assert table["reason"][0].startswith("too few slices: 8, at least 20")
    assert table[list(CLASS_COLUMNS)].isna().all(axis=None)
    (study,) = json.loads(out.with_suffix(".json").read_text())["studies"]
    assert study["probabilities"] is None
    assert study["intervals"] is None
    assert study["any_injury"] is None


@pytest.mark.parametrize("name", ["table.json", "store/table.csv"])
def test_an_output_of_the_wrong_kind_is_refused_before_anything_is_loaded(name: str, run: Run, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "store.json").write_text("{}")
    code, _, error = run("predict", tmp_path, "--model", tmp_path / "nowhere", "--out", tmp_path / name)
    assert code == 2
    assert name in error


def test_inputs_and_a_watched_folder_do_not_go_together(run: Run, tmp_path: Path) -> None:
    words = ("--model", tmp_path / "nowhere", "--out", tmp_path / "out")
    assert "takes no INPUT" in run("predict", tmp_path, "--watch", tmp_path, *words)[2]
    assert "no INPUT was named" in run("predict", *words)[2]


def test_a_watched_folder_is_graded_by_the_command(run: Run, make_run: Callable[[Path], Path], tmp_path: Path) -> None:
    model, out = make_run(tmp_path / "model"), tmp_path / "out"
    write_scan(tmp_path / "inbox" / "one" / "scan.npy")
    words = ("--quiet-seconds", 0, "--once", "--gates", "off", "--model", model, "--model", model, "--out", out)
    code, printed, _ = run("predict", "--watch", tmp_path / "inbox", *words)
    assert code == 0
    assert "entries: 1 graded, 0 failed" in printed
    assert pd.read_csv(out / "predictions.csv")["reason"].tolist() == ["gates=off: nothing was checked"]
    assert not [path.name for path in out.rglob("*") if ID in path.name]


def test_series_are_combined_as_the_evaluation_does(mean_predictor: Callable[..., Predictor], tmp_path: Path) -> None:
    write_scan(tmp_path / "scans" / "a.npy")
    write_scan(tmp_path / "scans" / "b.npy", brightness=150)
    write_scan(tmp_path / "scans" / "c.npy", patient="other", brightness=90)
    predictor = mean_predictor(0.5, 3.0, size=(8, 32, 32), gates="off")
    studies, _ = predictor.predict_studies([tmp_path / "scans"])
    assert [len(study.series) for study in studies] == [2, 1]
    expected, _ = aggregate_rows(check_predictions(prediction_table(studies)))
    for study, (_, row) in zip(studies, expected.iterrows(), strict=True):
        assert study.probabilities is not None
        np.testing.assert_allclose(list(study.probabilities.values()), row[list(CLASS_COLUMNS)].to_list(), atol=2e-6)
        assert study.any_injury == pytest.approx(max(1 - row[f"{name}_healthy"] for name in TARGETS), abs=2e-6)
        assert study.intervals is not None
        for column, (low, high) in study.intervals.items():
            assert low < study.probabilities[column] < high
    with pytest.raises(ReadError, match="2 studies"):
        predictor.predict(tmp_path / "scans")


def test_one_network_has_no_interval_and_flips_are_averaged(
    mean_predictor: Callable[..., Predictor], tmp_path: Path
) -> None:
    scan = write_scan(tmp_path / "a.npy")
    plain = mean_predictor(size=(8, 32, 32), gates="off")
    flipped = mean_predictor(size=(8, 32, 32), gates="off", flips=("depth", "width"))
    assert plain.predict(scan).intervals is None
    assert plain.predict(scan).probabilities == pytest.approx(flipped.predict(scan).probabilities)
    assert [runtime.calls for runtime in flipped.models.runtimes] == [3]


def test_a_given_calibration_is_used(mean_predictor: Callable[..., Predictor], tmp_path: Path) -> None:
    scan = write_scan(tmp_path / "a.npy")
    file = scaler_file(tmp_path / "calibration.json")
    plain = mean_predictor(size=(8, 32, 32), gates="off").predict(scan)
    scaled = mean_predictor(size=(8, 32, 32), gates="off", calibration=file).predict(scan)
    assert plain.probabilities is not None
    assert scaled.probabilities is not None
    odds = [result.probabilities["bowel_injury"] / result.probabilities["bowel_healthy"] for result in (plain, scaled)]
    assert odds[1] == pytest.approx(odds[0] ** 0.5)


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("[", LabelError, "not JSON"),
        ("[]", LabelError, "no scaler"),
        ('{"scalers": {}}', LabelError, "no scaler"),
        ('{"models": ["a", "b"], "scalers": {}}', UsageError, "a blend of 2 models"),
        (None, UsageError, "no such file"),
    ],
)
def test_a_file_without_scalers_is_refused(
    text: str | None, error: type[Exception], words: str, tmp_path: Path
) -> None:
    path = tmp_path / "calibration.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(error, match=words):
        read_scalers(path)


@pytest.mark.parametrize("temperature", ["0", "-1", "1e999", '"warm"'])
def test_a_temperature_that_is_none_is_refused(temperature: str, tmp_path: Path) -> None:
    file = scaler_file(tmp_path / "calibration.json")
    file.write_text(file.read_text().replace("2.0", temperature, 1))
    with pytest.raises(LabelError, match="no scaler"):
        read_scalers(file)


def test_a_study_without_an_assessed_series_has_no_number() -> None:
    study = StudyResult("p", "", (SeriesResult("p", "", "s", "refuse", error="damaged"),))
    assert (study.status, study.reason, study.probabilities) == ("not_assessed", "damaged", None)
    assert '"probabilities": null' in results_text([study])
