import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from voco2d.errors import CheckpointError, UsageError
from voco2d.inference import export
from voco2d.inference.export import Export, export_package
from voco2d.inference.parity import Parity, measure_parity
from voco2d.io.volume import Volume


def test_the_package_holds_all_that_is_needed(exported: Export, onnx_run: Path) -> None:
    assert exported.files == (
        "README.md",
        "SHA256SUMS",
        "calibration.json",
        "feature_distance.safetensors",
        "labels.json",
        "model.onnx",
        "package.json",
        "parity.json",
        "preprocessing.json",
        "requirements.txt",
    )
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=exported.path, check=True)
    manifest = json.loads((exported.path / "package.json").read_text())
    assert [fold["name"] for fold in manifest["folds"]] == ["fold_0.safetensors", "fold_1.safetensors"]
    sums = subprocess.run(
        ["sha256sum", *(onnx_run / fold["name"] for fold in manifest["folds"])],
        capture_output=True,
        check=True,
        text=True,
    ).stdout.split()[::2]
    assert [fold["sha256"] for fold in manifest["folds"]] == sums
    assert manifest["versions"]["onnxruntime"]
    assert json.loads((exported.path / "preprocessing.json").read_text())["readout"]["neighbours"] == 1
    assert not list(exported.path.parent.glob(".package.*"))


def test_the_card_says_research_only_and_tells_no_patient(exported: Export) -> None:
    card = (exported.path / "README.md").read_text()
    assert "Research only. This is not a medical device." in card
    assert "The weights: cc-by-4.0." in card
    assert "patients seen by the first of the 2 fold(s): 1" in card
    for file in exported.path.iterdir():
        assert b"0123456789abcdef" not in file.read_bytes(), file


def test_parity_was_measured_on_several_inputs(exported: Export) -> None:
    report = json.loads((exported.path / "parity.json").read_text())
    assert report["holds"] is True
    assert report["tolerance"] == 1e-4
    assert 0 <= report["largest_difference"] <= 1e-4
    assert report["spread_of_probabilities"] > 1e-3
    names = [case["name"] for case in report["cases"]]
    assert sum(name.startswith("noise") for name in names) == 4
    assert "phantom 2" in names
    assert {case["volumes"] for case in report["cases"]} == {1, 2, 3}
    assert len({case["slices"] for case in report["cases"]}) >= 4


def test_the_graph_is_valid_free_in_batch_and_slices_and_tells_no_path(exported: Export) -> None:
    path = exported.path / "model.onnx"
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    shape = [dim.dim_param or dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
    assert shape == ["batch", "slices", 6, 32, 32]
    assert model.producer_name == "voco2d"
    assert {entry.key for entry in model.metadata_props} == {"use", "labels"}
    content = path.read_bytes()
    assert b"site-packages" not in content
    assert b"stack_trace" not in content
    assert str(Path(export.__file__).parent).encode() not in content


def test_parity_that_fails_refuses_the_export(
    onnx_run: Path, phantoms: list[Volume], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changed(model: torch.nn.Module, session: object, inputs: dict[str, np.ndarray]) -> Parity:
        with torch.no_grad():
            model.folds[1].heads["liver"].bias[1] += 0.01  # torch now grades by other weights than were written
        return measure_parity(model, session, inputs)

    monkeypatch.setattr(export, "measure_parity", changed)
    with pytest.raises(CheckpointError, match=r"not exported: ONNX Runtime and torch lie 0\.0\d+ apart"):
        export_package(onnx_run, tmp_path / "package", phantoms)
    assert [path.name for path in tmp_path.iterdir()] == ["package.parity.json"]
    report = json.loads((tmp_path / "package.parity.json").read_text())
    assert report["holds"] is False
    assert report["largest_difference"] > 1e-4


def test_what_is_not_finite_is_no_parity(exported: Export) -> None:
    case = exported.parity.cases[0]
    assert not Parity((replace(case, logits=float("nan")),), 1.0).holds
    assert Parity((replace(case, logits=float("nan")),), 1.0).tree()["largest_difference"] is None


def test_a_folder_that_exists_is_never_replaced(onnx_run: Path, phantoms: list[Volume], tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    with pytest.raises(UsageError, match="exists already"):
        export_package(onnx_run, tmp_path / "package", phantoms)


def test_without_weights_nothing_is_written(phantoms: list[Volume], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(CheckpointError, match=r"no \*\.safetensors"):
        export_package(tmp_path / "run", tmp_path / "package", phantoms)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.slow
def test_the_command_exports_one_fold_and_tells(onnx_run: Path, tmp_path: Path, run: export.Any) -> None:
    shutil.copy(onnx_run / "fold_1.safetensors", tmp_path)
    code, told, _ = run("export", tmp_path / "fold_1.safetensors", "--out", tmp_path / "package", "--json")
    assert code == 0
    tree = json.loads(told)
    assert tree["folds"] == 1
    assert tree["parity"]["holds"] is True
    assert "calibration.json" not in tree["files"]
    assert "feature_distance.safetensors" not in tree["files"]


def test_a_licence_is_an_spdx_id(onnx_run: Path, tmp_path: Path, run: export.Any) -> None:
    code, _, error = run("export", onnx_run, "--out", tmp_path / "package", "--license", "mine: yes")
    assert code == 2
    assert "give an SPDX id" in error
