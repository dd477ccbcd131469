"""A package predicts where torch is not installed: each test runs a process that refuses to import it."""

import json
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from voco2d.data.phantom import PhantomArgs, write_cohort
from voco2d.evaluation.tables import ASSESSED
from voco2d.inference.export import Export
from voco2d.inference.torch_free import PACKAGES, requirements_text
from voco2d.targets import CLASS_COLUMNS

REFUSED = ("torch", "torchvision", "timm", "lightning", "lightning_fabric", "pytorch_lightning")
SCRIPT = f"""
import json
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {REFUSED!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name.partition(".")[0])

sys.meta_path.insert(0, Refuse())
from voco2d.cli import main

code = main(sys.argv[1:])
print(json.dumps(sorted({{name.partition(".")[0] for name in sys.modules}})))
sys.exit(code)
"""

LAZY = {"pillow", "python-dateutil", "safetensors", "typeshed_client"}
"""Needed, though this prediction may not touch them."""


def run_without_torch(*words: object) -> tuple[int, set[str], str]:
    """Run a command; return its exit code, the modules that were imported, and its last error line."""
    command = [sys.executable, "-W", "error", "-c", SCRIPT, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    printed = done.stdout.splitlines()
    modules = set(json.loads(printed[-1])) if printed else set()
    return done.returncode, modules, (done.stderr.splitlines() or [""])[-1]


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory, scan: Path) -> Path:
    """A folder with a DICOM series, a NIfTI file and a NumPy file."""
    folder = tmp_path_factory.mktemp("scans")
    write_cohort(folder, patients=1, seed=0, args=PhantomArgs(size=64, mean_slices=10, two_series_share=0.0, workers=1))
    hu = np.load(scan)[::-1].transpose(2, 1, 0)  # left-right, front-back, foot-head
    nib.save(nib.Nifti1Image(hu, np.diag([-1.0, -1.0, 5.0, 1.0])), folder / "b.nii.gz")
    for suffix in (".npy", ".json"):
        (folder / scan.name).with_suffix(suffix).write_bytes(scan.with_suffix(suffix).read_bytes())
    return folder


def _graded(table: Path) -> pd.DataFrame:
    return pd.read_csv(table, dtype={"patient_id": str, "series_id": str}).sort_values("patient_id", ignore_index=True)


def test_a_package_predicts_without_torch(exported: Export, scans: Path, tmp_path: Path) -> None:
    inputs = [scans / "train_images", scans / "b.nii.gz", scans / "scan.npy"]
    words = ["predict", *inputs, "--model", exported.path, "--out", tmp_path / "o.csv", "--gates", "flag"]
    code, modules, error = run_without_torch(*words, "--runtime", "onnx")
    assert code == 0, error
    assert not modules & set(REFUSED)
    table = _graded(tmp_path / "o.csv")
    assert len(table) == 3
    assert set(table["status"]) == {ASSESSED}
    assert not table[list(CLASS_COLUMNS)].isna().any(axis=None)
    owners = packages_distributions()  # reads all that is installed
    imported = {name for module in modules for name in owners.get(module, [])}
    assert {"onnxruntime", "pydicom", "nibabel"} <= imported
    assert set(PACKAGES) - LAZY <= imported


def test_a_package_is_explained_without_torch_by_hiding_slices(exported: Export, scan: Path, tmp_path: Path) -> None:
    words = ["predict", scan, "--model", exported.path, "--out", tmp_path / "o.csv", "--gates", "off"]
    code, modules, error = run_without_torch(*words, "--explain", tmp_path / "pages")
    assert code == 0, error
    assert not modules & set(REFUSED)
    (told,) = [json.loads(path.read_text()) for path in (tmp_path / "pages").glob("*.json")]
    (series,) = told["series"]
    assert (series["ranked_by"], series["maps"]) == ("hidden_slices", False)
    assert len(list((tmp_path / "pages").glob("*.html"))) == 1


def test_the_answers_are_those_of_torch(exported: Export, onnx_run: Path, scans: Path, tmp_path: Path) -> None:
    tables = []
    for model in (exported.path, onnx_run):
        out = tmp_path / f"{model.name}.csv"
        words = ["predict", scans / "train_images", "--model", model, "--out", out, "--gates", "flag"]
        command = [sys.executable, "-m", "voco2d", *map(str, words), "--device", "cpu"]
        subprocess.run(command, capture_output=True, check=True)
        tables.append(_graded(out))
    pd.testing.assert_frame_equal(tables[0], tables[1], atol=2e-4)


def test_a_run_says_what_is_missing(onnx_run: Path, scan: Path, tmp_path: Path) -> None:
    code, _, error = run_without_torch("predict", scan, "--model", onnx_run, "--out", tmp_path / "o.csv")
    assert code == 2
    assert re.search("needs torch, which is not installed; where it is, voco2d export RUN --out FOLDER", error)


def test_commands_that_need_torch_say_so(scans: Path, tmp_path: Path) -> None:
    code, _, error = run_without_torch("finetune", scans, "--labels", "l.csv", "--init", "random", "--out", tmp_path)
    assert code == 2
    assert re.search("needs (torch|timm|lightning_fabric), which is not installed; install voco2d with all", error)
    assert "fault" not in error


def test_the_requirements_are_pinned_and_free_of_torch(exported: Export) -> None:
    text = (exported.path / "requirements.txt").read_text()
    assert text == requirements_text()
    assert "pip install --no-deps PATH" in text  # voco2d is on no index
    assert "--no-deps voco2d" not in (exported.path / "README.md").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert len(lines) == len(PACKAGES)
    for line in lines:
        assert re.fullmatch(r"[A-Za-z0-9_-]+==[0-9][0-9a-z.]*", line), line
    assert not {line.partition("==")[0] for line in lines} & {*REFUSED, "lightning-fabric", "numba"}
