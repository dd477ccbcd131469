"""`voco2d cohort` through the command line, and the commands that keep to what it wrote."""

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from voco2d.cli import main
from voco2d.data.cohort import patient_digests
from voco2d.models.checkpoint import newest_weights, read_weights
from voco2d.targets import TARGETS
from voco2d.training.fold import FoldTraining

BACKBONE = "backbone=test_efficientnet"
PRETRAIN = (BACKBONE, "steps=2", "batch_size=2", "method.crop=32", "method.grid=2", "method.slices=2")
PRETRAIN = (*PRETRAIN, "method.hidden=16", "device=cpu")
FINETUNE = (BACKBONE, "epochs=1", "batch_size=2", "readout.slices=2", "readout.crop=32", "device=cpu")
PATIENTS = [f"p{number}" for number in range(7)]
LABELLED = PATIENTS[:6]

Run = Callable[..., tuple[int, str, str]]

pytestmark = pytest.mark.usefixtures("no_pages")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of six labelled patients and one without labels, with a label table beside it."""
    folder = tmp_path_factory.mktemp("cohort")
    (folder / "scans").mkdir()
    for seed, name in enumerate(PATIENTS):
        rng = np.random.default_rng(seed)
        hu = np.full((32, 32, 8), -1000, dtype=np.int16)
        hu[4:28, 6:26, :] = rng.integers(-50, 120, size=(24, 20, 8))
        nib.save(nib.Nifti1Image(hu, np.diag([3.0, 3.0, 5.0, 1.0])), folder / "scans" / f"{name}.nii.gz")
    table = pd.DataFrame({"patient_id": LABELLED})
    for target in TARGETS.values():
        for grade, column in enumerate(target.columns):
            table[column] = [int(grade == number % len(target.classes)) for number in range(len(LABELLED))]
    table.to_csv(folder / "train.csv", index=False)
    words = ["prepare", folder / "scans", "--out", folder / "store", "--workers", 1, "preprocess.size=[8,32,32]"]
    assert main([str(word) for word in words]) == 0
    return folder / "store"


@pytest.fixture(scope="module")
def cohort(store: Path) -> Path:
    out = store.parent / "cohort"
    words = ["cohort", store, "--labels", store.parent / "train.csv", "--folds", 2, "--out", out]
    assert main([str(word) for word in words]) == 0
    return out


@pytest.fixture(scope="module")
def pretrained(store: Path, cohort: Path) -> Path:
    """A run that has seen all but the patients of fold 1."""
    out = store.parent / "pretrained"
    words = ["pretrain", store, "--cohort", cohort, "--fold", 1, "--out", out, *PRETRAIN]
    assert main([str(word) for word in words]) == 0
    return out


def held_out(cohort: Path, fold: int) -> set[str]:
    folds = pd.read_csv(cohort / "folds.csv")
    return set(folds["patient_id"][folds["fold"] == fold])


def test_files_are_written_and_counts_shown(run: Run, store: Path, cohort: Path, tmp_path: Path) -> None:
    labels = store.parent / "train.csv"
    code, printed, _ = run("cohort", store, "--labels", labels, "--folds", 2, "--out", tmp_path / "again")
    assert code == 0
    assert "fold 0" in printed
    assert "any_injury" in printed
    assert "6 patients in 2 folds, 7 series, 1 of them without labels" in printed
    names = {file.name for file in cohort.iterdir()}
    lists = {"pretrain_fold0.csv", "pretrain_fold1.csv"}
    assert names == {"folds.csv", "series.csv", "labels.csv", "cohort.json", *lists}
    assert {name: (tmp_path / "again" / name).read_text() for name in names} == {
        name: (cohort / name).read_text() for name in names
    }
    summary = json.loads((cohort / "cohort.json").read_text())
    assert summary["pretraining_patients"] == {"0": 4, "1": 4}


def test_labels_of_the_store_are_taken_where_none_are_given(run: Run, store: Path, tmp_path: Path) -> None:
    code, _, error = run("cohort", store, "--folds", 2, "--out", tmp_path / "cohort")
    assert (code, "give --labels CSV" in error) == (2, True)
    (store / "labels.csv").write_bytes((store.parent / "train.csv").read_bytes())
    try:
        assert run("cohort", store, "--folds", 2, "--out", tmp_path / "cohort")[0] == 0
    finally:
        (store / "labels.csv").unlink()


def test_another_cohort_is_not_overwritten(run: Run, store: Path, cohort: Path) -> None:
    before = (cohort / "folds.csv").read_text()
    words = ("cohort", store, "--labels", store.parent / "train.csv", "--folds", 3, "--out", cohort)
    code, _, error = run(*words)
    assert (code, "name a new folder" in error) == (2, True)
    assert (cohort / "folds.csv").read_text() == before


def test_public_folds_are_adopted(run: Run, store: Path, tmp_path: Path) -> None:
    rows = "".join(f"{name},{number % 2},{1 - number % 2}\n" for number, name in enumerate([*LABELLED, "other"]))
    (tmp_path / "public.csv").write_text("patient_id,fold1,fold2\n" + rows)
    words = ("cohort", store, "--labels", store.parent / "train.csv", "--out", tmp_path / "cohort")
    assert run(*words, "--use-folds", tmp_path / "public.csv")[0] == 0
    assert held_out(tmp_path / "cohort", 0) == {"p1", "p3", "p5"}
    (tmp_path / "public.csv").write_text("patient_id,fold\np0,0\np1,1\n")
    code, _, error = run(*words, "--use-folds", tmp_path / "public.csv")
    assert (code, "4 of the 6 labelled patients" in error) == (1, True)


def test_a_list_that_overlaps_validation_patients_is_refused(
    run: Run, store: Path, cohort: Path, tmp_path: Path
) -> None:
    listed = tmp_path / "seen.csv"
    listed.write_text("patient_id\n" + "\n".join(sorted(held_out(cohort, 1))) + "\n")
    words = ("cohort", store, "--labels", store.parent / "train.csv", "--folds", 2, "--out", tmp_path / "out")
    code, _, error = run(*words, "--pretrain-list", listed)
    assert code == 1
    assert "pretraining sees 3 patients that are validated on (3 of fold 1)" in error
    assert "validate on fold 0 alone" in error
    assert not any(patient in error.replace(str(listed), "") for patient in PATIENTS)
    assert not (tmp_path / "out").exists()
    assert run(*words, "--pretrain-list", listed, "--fold", 0)[0] == 0


def test_pretraining_keeps_to_the_fold(run: Run, store: Path, cohort: Path, pretrained: Path, tmp_path: Path) -> None:
    _, metadata = read_weights(newest_weights(pretrained))
    assert metadata["patients_seen"] == patient_digests(set(PATIENTS) - held_out(cohort, 1))
    words = ("cohort", store, "--labels", store.parent / "train.csv", "--folds", 2, "--out", tmp_path / "out")
    code, _, error = run(*words, "--pretrain-list", pretrained)
    assert (code, "3 of fold 0" in error) == (1, True)
    assert run(*words, "--pretrain-list", pretrained, "--fold", 1)[0] == 0
    code, _, error = run(
        "pretrain", store, "--cohort", cohort, "--fold", 0, "--out", tmp_path / "on", *PRETRAIN, f"init={pretrained}"
    )
    assert (code, "3 of fold 0" in error) == (1, True)
    assert not (tmp_path / "on").exists()


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--cohort", "COHORT"), "--fold K"),
        (("--fold", "0"), "needs --cohort"),
        (("--cohort", "COHORT", "--fold", "7"), "has folds 0…1"),
        (("--cohort", "nowhere", "--fold", "0"), "voco2d cohort"),
    ],
)
def test_wrong_use_of_a_cohort(
    run: Run, store: Path, cohort: Path, tmp_path: Path, words: tuple[str, ...], problem: str
) -> None:
    words = tuple(str(cohort) if word == "COHORT" else word for word in words)
    code, _, error = run("pretrain", store, *words, "--out", tmp_path / "run", *PRETRAIN)
    assert (code, problem in error) == (2, True), error
    assert not (tmp_path / "run").exists()


def test_finetune_takes_folds_and_labels_of_the_cohort(
    run: Run, store: Path, cohort: Path, pretrained: Path, tmp_path: Path
) -> None:
    words = ("finetune", store, "--cohort", cohort, "--init", pretrained, "--out", tmp_path / "run", *FINETUNE)
    code, _, error = run(*words)
    assert (code, "3 of fold 0" in error) == (1, True)
    assert not (tmp_path / "run").exists()
    code, _, error = run(*words, "folds=3")
    assert (code, "has 2 folds" in error) == (2, True)
    assert run(*words, "--fold", 1)[0] == 0
    assert (tmp_path / "run" / "folds.csv").read_text() == (cohort / "folds.csv").read_text()
    predicted = pd.read_csv(tmp_path / "run" / "oof_predictions.csv")
    assert set(predicted["patient_id"]) == held_out(cohort, 1)
    assert json.loads((tmp_path / "run" / "scores.json").read_text())["transductive"] is False


def test_one_fold_is_refused_before_anything_is_read(
    run: Run, store: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    words = ("cohort", store, "--labels", store.parent / "train.csv", "--folds", 1, "--out", tmp_path / "cohort")
    with caplog.at_level("INFO"):
        code, printed, error = run(*words)
    assert (code, printed, caplog.messages) == (2, "", [])
    assert error == "voco2d cohort: error: --folds 1: at least 2 are needed, one of them to validate on"
    assert not (tmp_path / "cohort").exists()


def break_off(run: Run, monkeypatch: pytest.MonkeyPatch, epochs: int, *words: object) -> None:
    """Fine-tune, and stop as if by Ctrl-C after some epochs, of whatever model they are."""
    save = FoldTraining._save_state
    saved: list[int] = []

    def stop(self: FoldTraining) -> None:
        save(self)
        saved.append(1)
        if len(saved) == epochs:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(FoldTraining, "_save_state", stop)
        code, _, error = run("finetune", *words)
    assert (code, "interrupted" in error) == (1, True)


def test_a_fine_tuning_goes_on_with_what_it_began_with(
    run: Run, store: Path, cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without --cohort it made folds of its own and refused to go on, since they differed from those of the run."""
    words = (store, "--cohort", cohort, "--init", "random", *FINETUNE, "epochs=2", "--out")
    assert run("finetune", *words, tmp_path / "whole")[0] == 0
    break_off(run, monkeypatch, 3, *words, tmp_path / "half")
    assert not (tmp_path / "half" / "scores.json").exists()
    code, _, error = run("finetune", store, "--out", tmp_path / "half", "--resume")
    assert (code, error) == (0, "")
    for name in ("oof_predictions.csv", "folds.csv", "labels.csv", "config.yaml"):
        assert (tmp_path / "half" / name).read_text() == (tmp_path / "whole" / name).read_text()
    inputs = json.loads((tmp_path / "half" / "environment.json").read_text())["inputs"]
    assert inputs["labels"] == str(cohort / "labels.csv")


def test_a_fixed_split_goes_on_too(run: Run, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    splits = tmp_path / "splits.csv"
    parts = ("train", "train", "train", "validation", "validation", "test")
    splits.write_text(
        "patient_id,split\n" + "".join(f"{name},{part}\n" for name, part in zip(LABELLED, parts, strict=True))
    )
    labels = store.parent / "train.csv"
    words = (store, "--labels", labels, "--splits", splits, "--init", "random", *FINETUNE, "epochs=2", "--out")
    assert run("finetune", *words, tmp_path / "whole")[0] == 0
    break_off(run, monkeypatch, 1, *words, tmp_path / "half")
    assert run("finetune", store, "--out", tmp_path / "half", "--resume")[0] == 0
    for name in ("predictions_test.csv", "splits.csv"):
        assert (tmp_path / "half" / name).read_text() == (tmp_path / "whole" / name).read_text()


def test_what_is_said_anew_must_be_the_same(
    run: Run, store: Path, cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (store, "--cohort", cohort, "--init", "random", *FINETUNE, "epochs=2", "--out", tmp_path / "run")
    break_off(run, monkeypatch, 1, *words)
    others = pd.read_csv(cohort / "labels.csv").iloc[::-1]
    others["patient_id"] = others["patient_id"].to_numpy()[::-1]
    others.to_csv(tmp_path / "others.csv", index=False)
    for changed, told in (
        (("--labels", tmp_path / "others.csv"), "labels or folds are others now"),
        (("seed=5",), "seed was 0, now 5"),
    ):
        code, _, error = run("finetune", store, "--out", tmp_path / "run", "--resume", *changed)
        assert code == 2
        assert told in error


def test_a_start_is_needed_where_no_run_says_one(run: Run, store: Path, cohort: Path, tmp_path: Path) -> None:
    for more in ((), ("--resume",)):
        code, _, error = run("finetune", store, "--cohort", cohort, "--out", tmp_path / "run", *FINETUNE, *more)
        assert code == 2
        assert "--init: missing; say where the backbone starts" in error
    assert not (tmp_path / "run").exists()
