"""Bad input ends with one sentence that names the thing and the way out, code 1 or 2, and nothing lost.

Each goes through the command line, as a user would meet it.
"""

import errno
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

import voco2d.store.files
from voco2d.cli import main
from voco2d.models.checkpoint import newest_weights
from voco2d.targets import CLASS_COLUMNS, TARGETS

SIZE = "preprocess.size=[8,32,32]"
BACKBONE = "backbone=test_efficientnet"
PRETRAIN = (
    BACKBONE,
    "steps=2",
    "batch_size=2",
    "method.crop=32",
    "method.grid=2",
    "method.slices=2",
    "method.hidden=16",
)
FINETUNE = (BACKBONE, "epochs=1", "folds=2", "batch_size=2", "readout.slices=2", "readout.crop=32")

Run = Callable[..., tuple[int, str, str]]

pytestmark = pytest.mark.usefixtures("no_pages")


def write_ct(path: Path, seed: int, slices: int = 8) -> None:
    """Write a body of soft tissue with some texture in air, as NIfTI in RAS order."""
    rng = np.random.default_rng(seed)
    hu = np.full((32, 32, slices), -1000, dtype=np.int16)
    hu[4:28, 6:26, :] = rng.integers(-50, 120, size=(24, 20, slices))
    nib.save(nib.Nifti1Image(hu, np.diag([3.0, 3.0, 5.0, 1.0])), path)


def write_labels(path: Path, patients: list[str], injured: int) -> pd.DataFrame:
    """Write a label table in which the first `injured` patients have every injury."""
    table = pd.DataFrame({"patient_id": patients})
    for target in TARGETS.values():
        for index, column in enumerate(target.columns):
            grade = [1 if number < injured else 0 for number in range(len(patients))]
            table[column] = [int(value == index) for value in grade]
    table.to_csv(path, index=False)
    return table


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scans")
    for number in range(6):
        write_ct(folder / f"p{number}.nii.gz", seed=number)
    return folder


@pytest.fixture(scope="module")
def store(scans: Path) -> Path:
    path = scans.parent / f"{scans.name}-store"
    assert main(["prepare", str(scans), "--out", str(path), "--workers", "1", SIZE]) == 0
    return path


@pytest.fixture(scope="module")
def pretrained(store: Path) -> Path:
    path = store.parent / f"{store.name}-pretrained"
    assert main(["pretrain", str(store), "--out", str(path), *PRETRAIN]) == 0
    return path


@pytest.fixture(scope="module")
def finetuned(store: Path) -> Path:
    path = store.parent / f"{store.name}-finetuned"
    labels = path.with_suffix(".csv")
    write_labels(labels, [f"p{number}" for number in range(6)], injured=3)
    words = ["finetune", str(store), "--labels", str(labels), "--init", "random", "--out", str(path), *FINETUNE]
    assert main(words) == 0
    return path


def quarantine(store: Path) -> dict[str, str]:
    table = pd.read_csv(store / "quarantine.csv")
    return {Path(path).name: reason for path, reason in zip(table["path"], table["reason"], strict=True)}


def test_missing_folder(run: Run, tmp_path: Path) -> None:
    code, _, error = run("prepare", tmp_path / "nowhere", "--out", tmp_path / "store")
    assert code == 2
    assert "nowhere" in error
    assert not (tmp_path / "store").exists()


def test_empty_folder(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    code, _, error = run("prepare", tmp_path / "empty", "--out", tmp_path / "store")
    assert code == 2
    assert "empty" in error
    assert not (tmp_path / "store").exists()


def test_text_file_named_dcm(run: Run, scans: Path, tmp_path: Path) -> None:
    bad = tmp_path / "notes.dcm"
    bad.write_text("not an image\n")
    code, out, _ = run("prepare", bad, scans / "p0.nii.gz", "--out", tmp_path / "store", SIZE)
    assert code == 0
    assert "1 prepared, 0 unchanged, 1 quarantined" in out
    assert "DICOM" in quarantine(tmp_path / "store")["notes.dcm"]


def test_vanished_sources_are_counted_last(run: Run, tmp_path: Path) -> None:
    """A run after scans were deleted told only of those that were left, and failed without a count if none were."""
    (tmp_path / "scans").mkdir()
    for number in range(3):
        write_ct(tmp_path / "scans" / f"p{number}.nii.gz", seed=number)
    words = ("prepare", tmp_path / "scans", "--out", tmp_path / "store", "--workers", "1", "isolate=false", SIZE)
    assert run(*words)[0] == 0
    (tmp_path / "scans" / "p0.nii.gz").unlink()
    code, out, _ = run(*words)
    assert code == 0
    last = "0 prepared, 2 unchanged, 0 quarantined; 1 kept although their sources are gone; the store holds 3 volumes"
    assert out.splitlines()[-1] == last
    (tmp_path / "scans" / "p2.nii.gz").rename(tmp_path / "scans" / "other.nii.gz")
    (tmp_path / "scans" / "p1.nii.gz").unlink()
    assert "1 prepared, 0 unchanged, 0 quarantined; 3 kept although" in run(*words)[1]
    (tmp_path / "scans" / "other.nii.gz").unlink()
    code, out, error = run(*words)
    assert (code, "its scans are gone" in error) == (1, True)
    last = "0 prepared, 0 unchanged, 0 quarantined; 4 kept although their sources are gone; the store holds 4 volumes"
    assert out.splitlines()[-1] == last


@pytest.mark.realdata
def test_truncated_dicom(run: Run, real_data: Path, tmp_path: Path) -> None:
    code, _, error = run("prepare", real_data / "dicom" / "truncated", "--out", tmp_path / "store", SIZE)
    assert code == 1
    assert "quarantine.csv" in error
    assert len(quarantine(tmp_path / "store")) == 4


def test_nifti_of_two_slices(run: Run, tmp_path: Path) -> None:
    write_ct(tmp_path / "two.nii.gz", seed=0, slices=2)
    code, _, _ = run("prepare", tmp_path / "two.nii.gz", "--out", tmp_path / "store", SIZE)
    assert code == 1
    assert "2 axial slices" in quarantine(tmp_path / "store")["two.nii.gz"]


def test_nan_voxels(run: Run, tmp_path: Path) -> None:
    voxels = np.random.default_rng(0).normal(0, 100, size=(32, 32, 8)).astype(np.float32)
    voxels[3, 4, 5] = np.nan
    nib.save(nib.Nifti1Image(voxels, np.eye(4) * 2), tmp_path / "nan.nii.gz")
    code, _, _ = run("prepare", tmp_path / "nan.nii.gz", "--out", tmp_path / "store", SIZE)
    assert code == 1
    assert "1 of 8192 voxels are NaN" in quarantine(tmp_path / "store")["nan.nii.gz"]


def test_label_table_with_a_missing_column(run: Run, store: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    table = write_labels(labels, [f"p{number}" for number in range(6)], injured=3)
    table.drop(columns="liver_low").to_csv(labels, index=False)
    out = tmp_path / "run"
    code, _, error = run("finetune", store, "--labels", labels, "--init", "random", "--out", out, *FINETUNE)
    assert code == 1
    assert "liver_low" in error
    assert str(labels) in error
    assert not out.exists()


def test_unknown_patient(run: Run, store: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    write_labels(labels, ["someone", "else"], injured=1)
    code, _, error = run(
        "finetune", store, "--labels", labels, "--init", "random", "--out", tmp_path / "run", *FINETUNE
    )
    assert code == 1
    assert str(labels) in error or "label" in error


def test_predictions_of_an_unknown_patient(run: Run, finetuned: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    write_labels(labels, ["p0", "p1"], injured=1)
    code, _, error = run("evaluate", finetuned / "oof_predictions.csv", "--labels", labels)
    assert code == 1
    assert "4" in error


def test_a_class_that_never_occurs(run: Run, finetuned: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    write_labels(labels, [f"p{number}" for number in range(6)], injured=3)
    scores_file = tmp_path / "scores.json"
    code, out, _ = run("evaluate", finetuned / "oof_predictions.csv", "--labels", labels, "--json", scores_file)
    assert code == 0
    assert "warning" in out
    assert "liver_high" in out
    scores = json.loads(scores_file.read_text())
    assert scores["rsna"]["mean"] is not None


def test_a_target_without_any_injury_is_null(run: Run, finetuned: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    write_labels(labels, [f"p{number}" for number in range(6)], injured=0)
    scores_file = tmp_path / "scores.json"
    code, out, _ = run("evaluate", finetuned / "oof_predictions.csv", "--labels", labels, "--json", scores_file)
    assert code == 0
    assert "warning" in out
    scores = json.loads(scores_file.read_text())
    assert scores["targets"]["bowel"]["roc_auc"] is None
    assert scores["map"] is None


def test_checkpoint_of_another_architecture(run: Run, store: Path, pretrained: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    write_labels(labels, [f"p{number}" for number in range(6)], injured=3)
    words = ("finetune", store, "--labels", labels, "--init", pretrained, "--out", tmp_path / "run", *FINETUNE)
    code, _, error = run(*words, "backbone=test_resnet")
    assert code == 1
    assert "test_resnet" in error
    assert "test_efficientnet" in error
    assert not (tmp_path / "run").exists()


def test_predicting_with_a_pretraining_run(run: Run, scans: Path, pretrained: Path, tmp_path: Path) -> None:
    code, _, error = run("predict", scans, "--model", pretrained, "--out", tmp_path / "predictions.csv")
    assert code == 1
    assert "voco2d finetune" in error
    assert not (tmp_path / "predictions.csv").exists()


def test_damaged_weights(run: Run, scans: Path, finetuned: Path, tmp_path: Path) -> None:
    weights = tmp_path / "fold_0.safetensors"
    weights.write_bytes(newest_weights(finetuned).read_bytes()[:1000])
    code, _, error = run("predict", scans, "--model", weights, "--out", tmp_path / "predictions.csv")
    assert code == 1
    assert "fold_0.safetensors" in error


def test_weights_without_a_description(run: Run, scans: Path, finetuned: Path, tmp_path: Path) -> None:
    weights = tmp_path / "fold_0.safetensors"
    save_file(load_file(newest_weights(finetuned)), weights)
    code, _, error = run("predict", scans, "--model", weights, "--out", tmp_path / "predictions.csv")
    assert code == 1
    assert "fold_0.safetensors" in error


@pytest.mark.parametrize(
    ("command", "word", "known"),
    [
        (("prepare", "scans", "--out", "new"), "preprocess.sise=[8,32,32]", "preprocess.size"),
        (("pretrain", "store", "--out", "new"), "step=3", "steps"),
        (("finetune", "store", "--labels", "x.csv", "--init", "random", "--out", "new"), "epoch=3", "epochs"),
        (("phantom", "new", "--patients", "1"), "sice=64", "size"),
    ],
)
def test_unknown_config_key(run: Run, tmp_path: Path, command: tuple[str, ...], word: str, known: str) -> None:
    words = [str(tmp_path / "new") if part == "new" else part for part in command]
    code, _, error = run(*words, word)
    assert code == 2
    assert repr(word.partition("=")[0]) in error
    assert known in error
    assert not (tmp_path / "new").exists()


def test_full_disk_while_the_store_is_written(
    run: Run, scans: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "store"
    run("prepare", scans / "p0.nii.gz", "--out", out, "--workers", "1", SIZE)
    before = {path.name: path.read_bytes() for path in (out / "volumes").iterdir()}

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(voco2d.store.files.os, "fsync", full)
    code, _, error = run("prepare", scans, "--out", out, "isolate=false", SIZE)
    monkeypatch.undo()
    assert code == 1
    assert str(out) in error
    assert "full" in error
    assert {path.name: path.read_bytes() for path in (out / "volumes").iterdir()} == before
    code, printed, _ = run("prepare", scans, "--out", out, "--workers", "1", SIZE)
    assert code == 0
    assert "5 prepared, 1 unchanged" in printed
    written = {path.name: path.read_bytes() for path in (out / "volumes").iterdir()}
    assert written == {path.name: path.read_bytes() for path in (store / "volumes").iterdir()}


def test_a_store_without_volumes(run: Run, tmp_path: Path) -> None:
    code, _, error = run("pretrain", tmp_path, "--out", tmp_path / "run", *PRETRAIN)
    assert code == 2
    assert "voco2d prepare" in error


def test_a_run_folder_that_is_taken(run: Run, store: Path, pretrained: Path) -> None:
    before = newest_weights(pretrained).read_bytes()
    code, _, error = run("pretrain", store, "--out", pretrained, *PRETRAIN)
    assert code == 2
    assert "--resume" in error
    assert newest_weights(pretrained).read_bytes() == before


def test_imagenet_offline(run: Run, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    labels = tmp_path / "labels.csv"
    write_labels(labels, [f"p{number}" for number in range(6)], injured=3)
    words = ("finetune", store, "--labels", labels, "--init", "imagenet", "--out", tmp_path / "run", *FINETUNE)
    code, _, error = run(*words, "backbone=mobilenetv3_small_050")
    assert code == 1
    assert "mobilenetv3_small_050" in error
    assert "HF_HOME" in error


def test_one_bad_scan_does_not_stop_the_others(run: Run, scans: Path, finetuned: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    for number in range(2):
        (folder / f"p{number}.nii.gz").write_bytes((scans / f"p{number}.nii.gz").read_bytes())
    (folder / "cut.nii.gz").write_bytes((scans / "p2.nii.gz").read_bytes()[:500])
    words = ("--model", finetuned, "--out", tmp_path / "predictions.csv", "--gates", "flag")
    code, out, _ = run("predict", folder, *words)
    assert code == 0
    assert "2 series assessed" in out
    assert "gates=flag" in out
    table = pd.read_csv(tmp_path / "predictions.csv")
    assessed = table[table["status"] == "assessed"]
    assert sorted(assessed["patient_id"]) == ["p0", "p1"]
    sums = [assessed[list(target.columns)].sum(axis=1) for target in TARGETS.values()]
    assert np.allclose(sums, 1)
    left = table[table["status"] == "not_assessed"]
    assert left[list(CLASS_COLUMNS)].isna().all(axis=None)


def test_a_checkpoint_that_would_run_code_is_refused(run: Run, store: Path, tmp_path: Path) -> None:
    weights = tmp_path / "evil.pth"
    torch.save({"state_dict": Path}, weights)
    labels = tmp_path / "labels.csv"
    write_labels(labels, [f"p{number}" for number in range(6)], injured=3)
    code, _, error = run("finetune", store, "--labels", labels, "--init", weights, "--out", tmp_path / "run", *FINETUNE)
    assert code == 1
    assert "evil.pth" in error


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x81\xff,\n\xfe",
        b"name\nx\n",
        b"patient_id,x\np0,1\n,2\n",
        b"patient_id\nzz\n",
        b"patient_id\n",
    ],
)
def test_a_wrong_table_of_excluded_patients(run: Run, store: Path, tmp_path: Path, content: bytes) -> None:
    table = tmp_path / "excluded.csv"
    table.write_bytes(content)
    code, _, error = run("pretrain", store, "--exclude", table, "--out", tmp_path / "run", *PRETRAIN)
    assert code == 1
    assert str(table) in error
    assert not (tmp_path / "run").exists()


def test_held_out_patients_are_the_validated_ones(run: Run, store: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    write_labels(labels, [f"p{number}" for number in range(6)], injured=3)
    pretrained, tuned = tmp_path / "pretrained", tmp_path / "tuned"
    assert run("pretrain", store, "--hold-out", labels, "--folds", 2, "--out", pretrained, *PRETRAIN)[0] == 0
    words = ("finetune", store, "--labels", labels, "--init", pretrained, "--out", tuned, *FINETUNE)
    assert run(*words, "run_folds=1")[0] == 0
    assert json.loads((tuned / "scores.json").read_text())["transductive"] is False


def test_predicting_nothing_leaves_an_earlier_table(run: Run, finetuned: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    table = tmp_path / "predictions.csv"
    table.write_text("precious")
    code, _, error = run("predict", tmp_path / "empty", "--model", finetuned, "--out", table)
    assert code == 2
    assert "no file in" in error
    assert table.read_text() == "precious"


def test_inputs_that_can_all_not_be_read_are_listed(run: Run, finetuned: Path, tmp_path: Path) -> None:
    inputs = tmp_path / "scans"
    inputs.mkdir()
    (inputs / "DOE_JANE_19600101.dcm").write_bytes(bytes(128) + b"DICM and no more")
    (inputs / "notes.txt").write_text("nothing")
    table = tmp_path / "out" / "a.csv"
    code, printed, error = run("predict", inputs, "--model", finetuned, "--out", table)
    assert code == 1
    assert f"2 files skipped, listed in {table.with_suffix('.quarantine.csv')}" in printed
    assert "DOE" not in printed + error
    listed = pd.read_csv(table.with_suffix(".quarantine.csv"))
    assert [Path(path).name for path in listed["path"]] == ["DOE_JANE_19600101.dcm", "notes.txt"]
    assert pd.read_csv(table).empty
    other = tmp_path / "out" / "b.csv"
    write_ct(tmp_path / "fine.nii.gz", 0)
    assert run("predict", tmp_path / "fine.nii.gz", "--model", finetuned, "--gates", "off", "--out", other)[0] == 0
    assert table.with_suffix(".quarantine.csv").is_file()


def test_an_output_that_cannot_be_written_is_told_before_the_work(run: Run, finetuned: Path, tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    (tmp_path / "file").write_text("")
    for word in ("--out", "--explain"):
        outputs = {"--out": tmp_path / "a.csv", word: tmp_path / "file" / "c.csv"}
        words = [part for pair in outputs.items() for part in pair]
        code, _, error = run("predict", tmp_path / "scans", "--model", finetuned, *words)
        assert code == 2
        assert "file is a file, not a folder" in error


def test_a_prediction_table_does_not_go_into_a_store(run: Run, scans: Path, store: Path, finetuned: Path) -> None:
    code, _, error = run("predict", scans, "--model", finetuned, "--out", store / "predictions.csv")
    assert code == 2
    assert "choose another --out" in error


def test_an_output_that_is_a_folder(run: Run, scans: Path, finetuned: Path, tmp_path: Path) -> None:
    code, _, error = run("predict", scans, "--model", finetuned, "--out", tmp_path)
    assert code == 2
    assert "is a folder" in error


@pytest.mark.parametrize("preset", ["[1]", "huge", "mine.yaml"])
def test_a_preset_inside_a_file_must_be_known(run: Run, store: Path, tmp_path: Path, preset: str) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text(f"preset: {preset}\n")
    code, _, error = run("pretrain", store, "--config", config, "--out", tmp_path / "run")
    assert code == 2
    assert "presets: voco2d, paper-v2" in error


def test_a_fault_of_ours_is_one_line_without_its_words(
    run: Run, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("Smith^John")

    monkeypatch.setattr("voco2d.commands.pretrain.resolve", fail)
    code, _, error = run("pretrain", store, "--out", tmp_path / "run")
    assert code == 1
    assert "RuntimeError" in error
    assert "Smith" not in error


def test_the_value_of_an_option_is_no_setting(run: Run, store: Path, tmp_path: Path) -> None:
    out = tmp_path / "lr=3"
    assert run("pretrain", store, "--out", out, *PRETRAIN)[0] == 0
    assert out.is_dir()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("pretrain", "NOWHERE", "--out", "RUN"), "no store there; make one with"),
        (("finetune", "NOWHERE", "--init", "random", "--out", "RUN"), "no store there; make one with"),
        (("cohort", "NOWHERE", "--out", "RUN"), "no store there; make one with"),
        (("study", "--ablation", "NOWHERE", "--out", "RUN"), "no store there; make one with"),
        (("prepare", "NOWHERE", "--out", "RUN"), "missing; name an existing file or folder"),
        (("predict", "NOWHERE", "--model", "NOWHERE", "--out", "RUN"), "missing; name an existing file or folder"),
        (("predict", "HERE", "--model", "NOWHERE", "--out", "RUN"), "missing; name a run of voco2d finetune"),
        (("convert", "NOWHERE", "--out", "x.safetensors"), "no such file; give a run folder"),
        (("report", "NOWHERE"), "no run there"),
        (("evaluate", "NOWHERE", "--labels", "NOWHERE"), "no such file"),
    ],
)
def test_a_place_that_is_not_there_is_wrong_use(words: tuple[str, ...], told: str, tmp_path: Path, run: Run) -> None:
    places = {"NOWHERE": tmp_path / "nowhere", "HERE": tmp_path, "RUN": tmp_path / "run"}
    code, _, error = run(*(places.get(word, word) for word in words))
    assert (code, told in error, "nowhere" in error) == (2, True, True)
    assert not (tmp_path / "run").exists()


def test_what_left_a_file_out_is_told_in_words_and_traced_on_demand(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Class names are for whoever looks into the reader; the trace comes from the process that read."""
    source = tmp_path / "scans"
    source.mkdir()
    write_ct(source / "a.nii.gz", 0)
    write_ct(source / "b.nii.gz", 1)
    content = (source / "b.nii.gz").read_bytes()
    (source / "b.nii.gz").write_bytes(content[: len(content) // 2])
    words = ["-m", "voco2d", "prepare", str(source), "--out", str(tmp_path / "store"), SIZE]
    subprocess.run([sys.executable, *words], check=True)
    reasons = pd.read_csv(tmp_path / "store" / "quarantine.csv")["reason"].tolist()
    assert reasons == ["voxels damaged or cut short"]
    assert "ReadError" not in capfd.readouterr().err
    subprocess.run([sys.executable, *words[:3], "-v", *words[3:-3], "--out", str(tmp_path / "other"), SIZE], check=True)
    assert "ReadError" in capfd.readouterr().err
