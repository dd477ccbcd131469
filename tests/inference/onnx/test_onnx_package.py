import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from voco2d.errors import CheckpointError
from voco2d.inference.export import Export
from voco2d.inference.onnx_package import is_package, read_package, write_sums


@pytest.fixture
def package(exported: Export, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported.path, tmp_path / "package"))


def test_a_package_is_read_back(exported: Export) -> None:
    package = read_package(exported.path)
    assert [fold.name for fold in package.folds] == ["fold_0.safetensors", "fold_1.safetensors"]
    assert package.folds[1].outputs["liver"] == "fold_1_liver"
    assert package.settings["test_flips"] == ["width"]
    assert package.calibration == exported.path / "calibration.json"


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda folder: _flip(folder / "model.onnx"), "model.onnx: changed since it was exported"),
        (lambda folder: _flip(folder / "preprocessing.json"), "preprocessing.json: changed"),
        (lambda folder: (folder / "calibration.json").write_text("{}"), "calibration.json: changed"),
        (lambda folder: (folder / "model.onnx").unlink(), "model.onnx: can't be read"),
        (lambda folder: (folder / "SHA256SUMS").unlink(), "SHA256SUMS: missing or damaged"),
        (lambda folder: (folder / "SHA256SUMS").write_text(""), "doesn.t list calibration.json, .*model.onnx"),
        (lambda folder: (folder / "SHA256SUMS").write_text("0  ../x\n"), "names files outside its folder"),
        (lambda folder: (folder / "package.json").unlink(), "no ONNX package"),
    ],
)
def test_a_changed_package_is_refused(package: Path, damage: Callable[[Path], object], told: str) -> None:
    damage(package)
    with pytest.raises(CheckpointError, match=told):
        read_package(package)


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("package.json", {"format": 2}, "a package of format 2, this version reads 1"),
        ("package.json", {"folds": []}, "lacks outputs of its folds"),
        ("package.json", {"folds": [{"name": "x"}]}, "tells no folds"),
        ("labels.json", {"columns": []}, "grades other targets"),
    ],
)
def test_a_package_of_another_kind_is_refused(package: Path, name: str, change: dict[str, object], told: str) -> None:
    tree = json.loads((package / name).read_text())
    (package / name).write_text(json.dumps({**tree, **change}))
    write_sums(package)
    with pytest.raises(CheckpointError, match=told):
        read_package(package)


def test_a_run_is_no_package(onnx_run: Path) -> None:
    assert not is_package(onnx_run)
    with pytest.raises(CheckpointError, match="no ONNX package; write one with voco2d export"):
        read_package(onnx_run)
