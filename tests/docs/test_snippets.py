"""Each command line of the documentation is one the program takes, and each piece of Python runs."""

import ast
import importlib
import re
import shutil
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
import timm
import torch
from safetensors.torch import save_file

from voco2d import read_volume
from voco2d.cli import _CONFIGURABLE, _split, build_parser, main
from voco2d.config import from_tree, override, resolve
from voco2d.data.phantom import PhantomArgs
from voco2d.errors import ConfigError
from voco2d.store.build import PrepareArgs
from voco2d.targets import CLASS_COLUMNS, TARGETS
from voco2d.training import finetune_args, pretrain_args
from voco2d.training.finetune_args import FinetuneArgs
from voco2d.training.pretrain_args import PretrainArgs
from voco2d.training.study.config import read_study

sys.path.insert(0, str(Path(__file__).parent))
from snippets import PAGES, ROOT, Snippet, command_lines, python_snippets, words_of

SHORTENED = {"results/phantom_study/pilots.md": "an ellipsis stands for words that the page tells before"}
"""Pages whose command lines can't be parsed, and why."""
_SETTINGS = {
    "phantom": (PhantomArgs, None),
    "prepare": (PrepareArgs, None),
    "pretrain": (PretrainArgs, pretrain_args.PRESETS),
    "finetune": (FinetuneArgs, finetune_args.PRESETS),
}
COMMANDS = [line for line in command_lines() if line.page not in SHORTENED]
PYTHON = list(python_snippets())


def test_there_are_snippets() -> None:
    assert len(COMMANDS) > 70
    assert len(PYTHON) > 8
    assert {snippet.page for snippet in COMMANDS} >= {"README.md", "docs/start.md", "docs/how-to/pretrain-gpus.md"}


@pytest.mark.parametrize("snippet", COMMANDS, ids=str)
def test_the_parser_takes_the_command_line(snippet: Snippet, capsys: pytest.CaptureFixture[str]) -> None:
    words, overrides = words_of(snippet.text.replace("$k", "0")), []  # of a loop of the shell
    if words[0] in _CONFIGURABLE:
        words, overrides = _split(words)
    if words[-1] in ("--help", "--version", "COMMAND"):
        return
    try:
        options = build_parser().parse_args(words)
    except SystemExit:
        pytest.fail(f"{snippet.text}\n{capsys.readouterr().err}")
    if words[0] in _SETTINGS:
        cls, presets = _SETTINGS[words[0]]
        source = getattr(options, "config", None)
        known = source if presets is not None and source in presets else None
        resolve(cls, known, overrides, presets)
    elif words[0] == "study" and overrides:
        read_study(ROOT / "configs" / "study_phantom.yaml", overrides)


def test_a_wrong_command_line_would_be_found() -> None:
    with pytest.raises(SystemExit):
        build_parser().parse_args(["pretrain", "store", "--out", "run", "--holdout", "labels.csv"])
    tree: dict[str, object] = {}
    override(tree, ["method.crops=32"])
    with pytest.raises(ConfigError, match=r"method\.crop"):
        from_tree(PretrainArgs, tree)


@pytest.mark.parametrize("snippet", PYTHON, ids=str)
def test_python_names_what_there_is(snippet: Snippet) -> None:
    for node in ast.walk(ast.parse(snippet.text)):
        if isinstance(node, ast.Import):
            for name in node.names:
                importlib.import_module(name.name)
        elif isinstance(node, ast.ImportFrom) and node.module:
            module = importlib.import_module(node.module)
            assert all(hasattr(module, name.name) for name in node.names), str(snippet)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "voco2d":
            assert hasattr(importlib.import_module("voco2d"), node.attr), f"{snippet}: voco2d.{node.attr}"


@pytest.fixture(scope="session")
def workplace(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make what the snippets read: a backbone's file, tiny runs, and a phantom's scan that the gates let through."""
    folder = tmp_path_factory.mktemp("snippets")
    network = timm.create_model("efficientnet_b0", in_chans=1, num_classes=0)
    for name in ("backbone.safetensors", "paper.safetensors"):
        save_file(network.state_dict(), folder / name)
    torch.save(network.state_dict(), folder / "paper.pth")
    tiny = ("backbone=test_efficientnet", "device=cpu")
    words = ("steps=1", "batch_size=2", "method.crop=12", "method.slices=2", "method.hidden=8", "writers=[]")
    run("pretrain", cohort / "store", "--out", folder / "runs" / "pretrain", *tiny, *words)
    run("convert", folder / "runs" / "pretrain", "--out", folder / "hub" / "my-backbone", "--to", "hf")
    words = ("folds=2", "run_folds=1", "epochs=1", "hidden=8", "readout.slices=4", "readout.crop=36")
    labels = ("--labels", cohort / "RSNA" / "train.csv", "--init", "random")
    run("finetune", cohort / "store", *labels, "--out", folder / "runs" / "voco2d", *tiny, *words)
    words = ("size=96", "mean_slices=48", "masks=false", "two_series_share=0", "incomplete_share=0", "workers=1")
    run("phantom", folder / "one", "--patients", "1", "--seed", "3", *words)
    run("export", folder / "runs" / "voco2d", "--out", folder / "package")
    (series,) = (folder / "one" / "train_images").glob("*/*")
    shutil.copytree(series, folder / "scans" / "one_study")
    volume = read_volume(series)
    affine = np.diag([*(-step for step in reversed(volume.spacing_mm)), 1])  # axes are I, P, L; NIfTI's are R, A, S
    nibabel.save(nibabel.Nifti1Image(volume.hu.transpose(2, 1, 0), affine), folder / "scan.nii.gz")
    return folder


@pytest.fixture(scope="session")
def given(cohort: Path) -> dict[str, object]:
    """Make what snippets take for granted: labels, what two arms of two seeds predicted, slices, volumes, an import."""
    labels = pd.read_csv(cohort / "RSNA" / "train.csv", dtype={"patient_id": str})
    tables: dict[str, object] = {"labels": labels, "slices": torch.zeros(2, 1, 64, 64), "timm": timm}
    tables["volumes"] = np.zeros((1, 4, 1, 36, 36), np.float32)
    for seed, name in enumerate(("random_seed0", "random_seed1", "voco_seed0", "voco_seed1")):
        noise = np.random.default_rng(seed).random((len(labels), len(CLASS_COLUMNS)))
        said = pd.DataFrame(noise, columns=list(CLASS_COLUMNS))
        for target in TARGETS.values():
            said[list(target.columns)] = said[list(target.columns)].div(said[list(target.columns)].sum(axis=1), axis=0)
        tables[name] = said.assign(patient_id=labels["patient_id"])
    return tables


def run(*words: object) -> None:
    assert main([str(word) for word in words]) == 0


@pytest.mark.parametrize("snippet", PYTHON, ids=str)
def test_python_runs(
    snippet: Snippet, workplace: Path, given: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workplace)
    exec(compile(snippet.text, str(snippet), "exec"), {"__name__": "__main__", **given})  # what a reader would run


def test_the_array_of_the_snippet_is_read(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (own,) = (snippet for snippet in PYTHON if snippet.page == "docs/how-to/prepare-own.md")
    monkeypatch.chdir(workplace)
    exec(compile(own.text, str(own), "exec"), {})
    volume = read_volume("scan.npy")
    assert volume.hu.shape == (40, 128, 128)


def test_every_extra_that_a_page_installs_exists() -> None:
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    named = {extra for page, extra in _named_extras() if page != "0004-torch-free-prediction.md"}  # weighs one
    assert named <= extras, sorted(set(_named_extras()))


def test_no_page_installs_voco2d_by_its_name() -> None:
    named = re.compile(r"pip install [^`#&\n]*?\bvoco2d(?![\w/-])")  # it is on no index: a clone or a file
    found = {page.name: named.findall(page.read_text(encoding="utf-8")) for page in PAGES}
    assert not {page: lines for page, lines in found.items() if lines}


def _named_extras() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for found in re.finditer(r"(?:voco2d|['\"]\.)\[([\w,-]+)\]", page.read_text(encoding="utf-8")):
            yield from ((page.name, extra) for extra in found[1].split(","))
