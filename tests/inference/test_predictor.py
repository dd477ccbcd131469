import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from voco2d import Predictor
from voco2d.config import to_tree
from voco2d.errors import CheckpointError, ConfigError, ReadError, UsageError
from voco2d.evaluation.tables import check_predictions
from voco2d.inference.result_table import prediction_columns
from voco2d.inference.results import SeriesResult
from voco2d.inference.series_grader import SeriesGrader
from voco2d.inference.torch_runtime import TorchRuntime
from voco2d.io.readers import ReadArgs, read_volume
from voco2d.models.checkpoint import save_weights
from voco2d.models.classifier import CLASSIFIER_KIND, Classifier, ClassifierArgs, class_probabilities
from voco2d.preprocessing.preprocess import PreprocessArgs, preprocess
from voco2d.preprocessing.readout import ReadoutArgs, read_out
from voco2d.targets import CLASS_COLUMNS, TARGETS

NETWORK = ClassifierArgs(backbone="test_efficientnet", hidden=8)
PREPROCESS = PreprocessArgs(size=(8, 32, 32))
READOUT = ReadoutArgs(slices=4, crop=28, window=(-100.0, 200.0))


def write_scan(path: Path, patient_id: str = "", seed: int = 0, slices: int = 8) -> Path:
    rows, columns = np.mgrid[:40, :40]
    body = (rows - 20) ** 2 + (columns - 20) ** 2 < 18**2
    hu = np.where(body, 40, -1000) + np.random.default_rng(seed).integers(-80, 80, (slices, 40, 40))
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, hu.astype(np.int16))
    sidecar = {"axes": "IPL", "spacing_mm": [5, 1, 1], "intensity": "hu", "patient_id": patient_id or path.stem}
    path.with_suffix(".json").write_text(json.dumps(sidecar))
    return path


def write_fold(run: Path, fold: int, **changes: object) -> Classifier:
    run.mkdir(exist_ok=True)
    torch.manual_seed(fold)
    classifier = Classifier(NETWORK).eval()
    metadata: dict[str, object] = {
        "kind": CLASSIFIER_KIND,
        "classifier": to_tree(NETWORK),
        "preprocess": to_tree(PREPROCESS),
        "readout": to_tree(READOUT),
        "targets": {name: list(target.classes) for name, target in TARGETS.items()},
        "fold": fold,
    }
    save_weights(run / f"fold_{fold}.safetensors", classifier.state_dict(), metadata | changes)
    return classifier


@pytest.fixture
def run(tmp_path: Path) -> Path:
    for fold in range(2):
        write_fold(tmp_path / "run", fold)
    return tmp_path / "run"


def test_probabilities_are_the_mean_of_the_folds_on_the_read_out_of_training(tmp_path: Path) -> None:
    folds = [write_fold(tmp_path / "run", fold) for fold in range(2)]
    scan = write_scan(tmp_path / "scan.npy")
    predictor = Predictor(tmp_path / "run", gates="off")
    assert len(predictor) == 2
    assert (predictor.preprocess_args, predictor.readout_args) == (PREPROCESS, READOUT)
    slices = read_out(preprocess(read_volume(scan), PREPROCESS), READOUT)
    with torch.no_grad():
        expected = sum(class_probabilities(fold(torch.from_numpy(slices)[None, :, None])) for fold in folds) / 2
    graded = predictor(scan)
    assert tuple(graded) == CLASS_COLUMNS
    np.testing.assert_allclose(list(graded.values()), expected[0].numpy(), atol=1e-6)
    for target in TARGETS.values():
        assert sum(graded[column] for column in target.columns) == pytest.approx(1, abs=1e-9)
    assert predictor(scan) == graded
    assert predictor(read_volume(scan)) == graded
    assert predictor.predict(scan).probabilities == graded


def test_one_fold_may_be_named(run: Path, tmp_path: Path) -> None:
    scan = write_scan(tmp_path / "scan.npy")
    single = Predictor(run / "fold_1.safetensors", gates="off")
    assert len(single) == 1
    assert single(scan) != Predictor(run, gates="off")(scan)


def test_bad_inputs_do_not_stop_the_others(run: Path, tmp_path: Path) -> None:
    scans = tmp_path / "scans"
    write_scan(scans / "good.npy", "a")
    write_scan(scans / "short.npy", "b", slices=2)
    air = np.random.default_rng(0).integers(-1010, -990, (8, 40, 40)).astype(np.int16)
    air[:, ::7, ::7] = 40  # specks, no body
    np.save(write_scan(scans / "air.npy", "c"), air)
    (scans / "note.txt").write_text("no scan")
    write_scan(scans / "zz.npy", "d", seed=1)
    predictor = Predictor(run, gates="off")
    table, rejections = predictor.predict_many([scans])
    assert list(table.columns) == prediction_columns()
    assert table["patient_id"].tolist() == ["c", "a", "d"]
    assert table["status"].tolist() == ["not_assessed", "assessed", "assessed"]
    assert "no body" in table["reason"][0]
    assert table.loc[0, list(CLASS_COLUMNS)].isna().all()
    assert not table.loc[1:, list(CLASS_COLUMNS)].isna().any(axis=None)
    assert {Path(rejection.path).name for rejection in rejections} == {"note.txt", "short.npy"}
    again, _ = predictor.predict_many([scans])
    pd.testing.assert_frame_equal(again, table)
    assert len(check_predictions(table)) == 3


def test_a_decoder_that_breaks_is_a_row_without_its_words(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = write_scan(tmp_path / "scan.npy", "a")
    predictor = Predictor(run)

    def broken(*_: object) -> SeriesResult:
        raise AttributeError("Doe^John")

    monkeypatch.setattr(SeriesGrader, "grade", broken)
    table, _ = predictor.predict_many([scan])
    assert table["reason"].tolist() == [
        "could not be graded, in a way that was not foreseen; --verbose tells where it failed"
    ]


def test_an_answer_that_is_not_finite_is_not_given(run: Path, tmp_path: Path) -> None:
    predictor = Predictor(run, gates="off")
    damaged = predictor.models.runtimes[1]
    assert isinstance(damaged, TorchRuntime)
    for parameter in damaged.classifier.parameters():
        parameter.data.fill_(float("nan"))
    with pytest.raises(ReadError, match="not finite"):
        predictor(write_scan(tmp_path / "scan.npy"))


def test_nothing_found_is_an_empty_table(run: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    table, rejections = Predictor(run).predict_many([tmp_path / "empty"])
    assert len(table) == len(rejections) == 0
    assert list(table.columns) == prediction_columns()
    with pytest.raises(UsageError, match="nowhere"):
        Predictor(run).predict_many([tmp_path / "nowhere"])


def test_a_pretraining_run_is_refused(tmp_path: Path) -> None:
    save_weights(tmp_path / "weights_00000020.safetensors", {"x": torch.zeros(1)}, {"kind": "pretrain"})
    with pytest.raises(CheckpointError, match="not a classifier but a pretrain checkpoint"):
        Predictor(tmp_path)


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no \*\.safetensors"):
        Predictor(tmp_path)
    with pytest.raises(CheckpointError, match="nowhere"):
        Predictor(tmp_path / "nowhere")


def test_folds_of_different_settings_are_not_mixed(run: Path) -> None:
    write_fold(run, 1, readout=to_tree(replace(READOUT, slices=6)))
    with pytest.raises(CheckpointError, match="different settings"):
        Predictor(run)


def test_settings_of_another_version_are_refused(tmp_path: Path) -> None:
    write_fold(tmp_path / "run", 0, preprocess={"shape": [1, 2, 3]})
    with pytest.raises(CheckpointError, match="shape"):
        Predictor(tmp_path / "run")


@pytest.mark.parametrize("device", ["tpu", "cuda:x", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(run: Path, device: str) -> None:
    with pytest.raises(ConfigError, match=f"device={device}"):
        Predictor(run, device=device)


def test_a_model_of_organ_masks_says_where_it_had_none(tmp_path: Path) -> None:
    write_fold(tmp_path / "run", 0, preprocess=to_tree(replace(PREPROCESS, organ_crop="masks")))
    scan = write_scan(tmp_path / "scans" / "one.npy")
    table, _ = Predictor(tmp_path / "run", masks=tmp_path / "scans", gates="flag").predict_many([scan])
    assert table["status"].tolist() == ["assessed"]
    assert table["reason"][0].startswith("gates=flag; too few slices: 8, at least 20; ")
    assert table["reason"][0].endswith("; remark: organ box: none, no mask of this series, crop to the body instead")
    check_predictions(table)


def test_masks_are_refused_for_a_model_that_was_trained_without(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="organ_crop=masks"):
        Predictor(run, masks=tmp_path)


def test_settings_of_older_runs_mean_what_was_done_then(tmp_path: Path) -> None:
    write_fold(tmp_path / "run", 0, preprocess={"size": [8, 32, 32]}, read={"identity_axes": "ARI"})
    predictor = Predictor(tmp_path / "run")
    assert predictor.preprocess_args == replace(PREPROCESS, drop_partial=False)
    assert predictor.read_args == ReadArgs(identity_axes="ARI", correct_tilt=False)
