import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from voco2d import Predictor
from voco2d.errors import CheckpointError, ConfigError, UsageError
from voco2d.inference.export import Export
from voco2d.inference.onnx_package import PackagedFold, write_sums
from voco2d.inference.onnx_runtime import OnnxRuntime, SharedSession, import_onnxruntime
from voco2d.inference.runtime import FEATURES, Runtime, load_models
from voco2d.targets import CLASS_COLUMNS, TARGETS


def test_folds_answer_as_those_of_torch(exported: Export, onnx_run: Path) -> None:
    ours = load_models([exported.path], "cpu", "fp32")
    theirs = load_models([onnx_run], "cpu", "fp32")
    assert ours.settings == theirs.settings
    assert len(ours.runtimes) == len(theirs.runtimes) == 2
    slices = np.random.default_rng(3).random((6, 6, 32, 32), np.float32)
    answers = []
    for one, other in zip(ours.runtimes, theirs.runtimes, strict=True):
        assert isinstance(one, Runtime)
        assert isinstance(one, OnnxRuntime)
        assert (one.name, one.sha256) == (other.name, other.sha256)
        got, expected = one.logits(slices), other.logits(slices)
        assert set(got) == {*TARGETS, FEATURES}
        for name in got:
            assert got[name].dtype == np.float32
            np.testing.assert_allclose(got[name], expected[name], atol=1e-4, rtol=1e-4)
            assert one.logits(slices)[name].tobytes() == got[name].tobytes()
        answers.append(got["liver"])
    assert np.abs(answers[0] - answers[1]).max() > 1e-3  # each fold gives its own


def test_all_folds_are_computed_once_a_view() -> None:
    asked = []

    class Session:
        def run(self, names: list[str], inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
            asked.append(inputs["volumes"].shape)
            return [np.full((1, 2), float(inputs["volumes"].sum()), np.float32) for _ in names]

    shared = SharedSession(Session(), ["a_liver", "b_liver"])
    folds = [OnnxRuntime(shared, PackagedFold(name, "", {"liver": f"{name}_liver"}), "cpu") for name in "ab"]
    views = [np.full((4, 1, 2, 2), value, np.float32) for value in range(4)]
    for fold in folds:
        assert [fold.logits(view)["liver"][0] for view in views] == [0, 16, 32, 48]
    assert asked == [(1, 4, 1, 2, 2)] * 4
    folds[0].logits(views[0])["liver"][:] = -1  # what a caller does to an answer is forgotten
    assert folds[0].logits(views[0])["liver"][0] == 0
    assert folds[0].logits(views[1].reshape(2, 2, 2, 2))["liver"][0] == 16
    assert len(asked) == 5


def test_the_feature_distance_and_the_calibration_come_along(exported: Export, onnx_run: Path) -> None:
    ours, theirs = load_models([exported.path], "cpu", "fp32"), load_models([onnx_run], "cpu", "fp32")
    first, second = (runtime.feature_distance for runtime in ours.runtimes)
    expected = theirs.runtimes[0].feature_distance
    assert first is not None
    assert expected is not None
    assert second is None
    for name, array in first.arrays().items():
        np.testing.assert_array_equal(array, expected.arrays()[name])
    assert ours.calibration == exported.path / "calibration.json"


def test_predictions_are_those_of_torch(exported: Export, onnx_run: Path, scan: Path) -> None:
    package, torch_run = Predictor(exported.path, gates="off"), Predictor(onnx_run, gates="off")
    assert package.test_flips == ("width",)
    graded, expected = package(scan), torch_run(scan)
    assert tuple(graded) == CLASS_COLUMNS
    np.testing.assert_allclose(list(graded.values()), list(expected.values()), atol=1e-4)
    uncalibrated = Predictor(exported.path, gates="off", calibration=None)(scan)
    assert np.abs(np.subtract(list(graded.values()), list(uncalibrated.values()))).max() > 1e-3


def test_the_command_takes_a_package(
    exported: Export, onnx_run: Path, scan: Path, tmp_path: Path, run: Callable[..., tuple[int, str, str]]
) -> None:
    tables = []
    for name, model, words in (("o", exported.path, ["--runtime", "onnx"]), ("t", onnx_run, [])):
        table = tmp_path / f"{name}.csv"
        run("predict", scan, "--model", model, "--out", table, "--device", "cpu", *words)
        tables.append(pd.read_csv(table))
    assert len(tables[0]) == 1
    pd.testing.assert_frame_equal(tables[0], tables[1], atol=2e-4)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--runtime", "torch"], "an ONNX package holds nothing for torch"),
        (["--device", "tpu"], "device=tpu is not known"),
        (["--device", "cuda:1"], "ONNX Runtime has no GPU here"),
    ],
)
def test_what_a_package_cannot_is_told(
    exported: Export, scan: Path, tmp_path: Path, run: Callable[..., tuple[int, str, str]], words: list[str], told: str
) -> None:
    code, _, error = run("predict", scan, "--model", exported.path, "--out", tmp_path / "o.csv", *words)
    assert code in (1, 2)
    assert told in error


def test_a_run_is_refused_by_onnx(onnx_run: Path) -> None:
    with pytest.raises(CheckpointError, match="write one with voco2d export RUN"):
        load_models([onnx_run], "cpu", "fp32", "onnx")


def test_other_precisions_are_refused(exported: Export) -> None:
    with pytest.raises(ConfigError, match="computes in fp32"):
        load_models([exported.path], "cpu", "bf16")


def test_packages_can_be_averaged(exported: Export, tmp_path: Path) -> None:
    other = Path(shutil.copytree(exported.path, tmp_path / "other"))
    models = load_models([exported.path, other], "cpu", "fp32")
    assert len(models.runtimes) == 4
    assert models.calibration is None
    settings = json.loads((other / "preprocessing.json").read_text())
    settings["readout"]["slices"] = 5
    (other / "preprocessing.json").write_text(json.dumps(settings))
    write_sums(other)
    with pytest.raises(CheckpointError, match="different settings"):
        load_models([exported.path, other], "cpu", "fp32")


def test_a_graph_that_is_none_is_told(exported: Export, tmp_path: Path) -> None:
    other = Path(shutil.copytree(exported.path, tmp_path / "other"))
    (other / "model.onnx").write_bytes(b"no graph")
    write_sums(other)
    with pytest.raises(CheckpointError, match=r"model\.onnx: can't be loaded"):
        load_models([other], "cpu", "fp32")
    shutil.copy(exported.path / "model.onnx", other)
    (other / "feature_distance.safetensors").write_bytes(b"nothing")
    write_sums(other)
    with pytest.raises(CheckpointError, match=r"feature_distance\.safetensors: damaged"):
        load_models([other], "cpu", "fp32")


def test_onnx_runtime_is_told_to_report_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    import_onnxruntime()
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")  # who wants it so
    import_onnxruntime()
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "0"


def test_without_onnx_runtime_the_extra_is_named(exported: Export, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(UsageError, match=r"pip install 'voco2d\[onnx\]'"):
        load_models([exported.path], "cpu", "fp32")
