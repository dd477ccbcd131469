from pathlib import Path
from typing import Any

import pytest
import yaml

from voco2d.config import to_tree
from voco2d.errors import ConfigError
from voco2d.training.study.args import StudyArgs
from voco2d.training.study.config import images, pixels, read_study

CONFIGS = sorted((Path(__file__).parents[3] / "configs").glob("study_*.yaml"))


def read(tree: dict[str, Any], folder: Path, *words: str, quick: bool = False) -> StudyArgs:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
    return read_study(path, words, quick)


def test_presets_shared_settings_and_an_arms_own_lie_over_each_other(tree: dict[str, Any], tmp_path: Path) -> None:
    tree["arms"]["paper-v2"] = {"preset": "paper-v2", "optim": {"lr": 0.5}}
    args = read(tree, tmp_path)
    random, corrected, paper = args.arms
    assert (random.start, random.pretrain, corrected.start) == ("random", None, "pretrain")
    assert paper.pretrain is not None
    assert paper.pretrain.method.partners == "next"  # of the preset
    assert paper.pretrain.init == "random"  # shared, over the preset's imagenet
    assert paper.pretrain.optim.lr == 0.5
    assert paper.pretrain.optim.amsgrad
    assert args.finetune.backbone == "test_resnet"
    assert images(random) == 0
    assert images(corrected) == images(paper) == 2 * 2 * 2 * 11
    assert pixels(paper) == images(paper) * 12**2


def test_an_arm_without_pretraining_has_the_backbone_of_the_others(tree: dict[str, Any], tmp_path: Path) -> None:
    tree |= {"arms": {"random": {"start": "random"}}, "analysis": {}}
    assert read(tree, tmp_path).finetune.backbone == "test_resnet"


def test_words_and_the_small_version_change_the_file(tree: dict[str, Any], tmp_path: Path) -> None:
    assert read(tree, tmp_path, quick=True).seeds == (7,)
    words = ("seeds=[1,2]", "arms.voco2d.method.momentum=0.5", "pretrain.steps=3", "cohort.phantom.train=9")
    args = read(tree, tmp_path, *words)
    assert args.seeds == (1, 2)
    assert args.cohort.phantom.train == 9
    pretrain = args.arms[1].pretrain
    assert pretrain is not None
    assert (pretrain.method.momentum, pretrain.steps) == (0.5, 3)
    del tree["quick"]
    with pytest.raises(ConfigError, match="no section quick"):
        read(tree, tmp_path, quick=True)


def test_fine_tuning_may_begin_with_a_preset(tree: dict[str, Any], tmp_path: Path) -> None:
    tree["finetune"] |= {"preset": "paper", "augment": {"cut_out": 1}}
    finetune = read(tree, tmp_path).finetune
    assert (finetune.augment.turn, finetune.augment.histogram, finetune.augment.noise) == (True, 0.5, 0.0)
    assert (finetune.augment.cut_out, finetune.readout.crop, finetune.hidden) == (1, 32, 8)  # the file's own
    with pytest.raises(ConfigError, match=r"finetune.preset: unknown preset 'papr'; presets: paper"):
        read(tree, tmp_path, "finetune.preset=papr")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"armz": {}}, "unknown key 'armz'; known keys: cohort, .*arms, pretrain, quick"),
        ({"arms": {}}, "has no arms"),
        ({"arms": {"voco2d": {}}}, "either start: .* or preset"),
        ({"arms": {"voco2d": {"start": "random", "preset": "voco2d"}}}, "either start"),
        ({"arms": {"voco2d": {"preset": "voco3"}}}, "unknown preset 'voco3'; presets: voco2d"),
        ({"arms": {"voco2d": {"start": "random", "steps": 3}}}, "no other keys"),
        ({"arms": {"a b": {"start": "random"}}}, "use letters"),
        ({"arms": {"voco2d": {"preset": "voco2d", "method": {"x": 1}}}}, "arm voco2d: unknown key 'method.x'"),
        ({"arms": {"random": {"start": "random"}, "b": {"start": "imagenet"}}}, "analysis.primary=voco2d: no such arm"),
        ({"fractions": [0.5, 0.5]}, "none twice"),
        ({"fractions": [1.5]}, "at most 1"),
        ({"seeds": []}, "at least one"),
        ({"split": {"folds": 3}}, "phantoms have test patients of their own"),
        ({"split": {"test": 0.9, "validation": 0.2}}, "must sum below 1"),
        ({"analysis": {"claims": ["voco2d@0.3 vs random@1.0"]}}, "voco2d@0.3 is no arm and fraction"),
        ({"analysis": {"claims": ["better"]}}, "is not ARM@FRACTION vs"),
        ({"analysis": {"metrics": ["mapp"]}}, "metric 'mapp' is unknown"),
        ({"finetune": {"backbone": "resnet18"}}, "different backbones .resnet18, test_resnet"),
        ({"cohort": {"phantom": {"test": 0}}}, "test=0: must be at least 1"),
        ({"analysis": {"claims": ["voco2d@1.2.3 vs random@1"]}}, "is not ARM@FRACTION vs"),
        ({"analysis": {"metrics": ["map", "rsna", "map"]}}, "analysis.metrics: map comes twice"),
        ({"analysis": {"seed": -1}}, "analysis.seed=-1: must be at least 0"),
        ({"seeds": [0, -1]}, "seeds: -1 is no seed"),
        ({"split": {"seed": -1}}, "split.seed: -1 is no seed"),
        ({"finetune": {"run_folds": 2}}, "finetune.run_folds: each fold .* leave it out"),
        ({"finetune": {"fold": 0}}, "finetune.fold: each fold"),
        ({"finetune": {"folds": 3}}, "finetune.folds: split.folds decides it"),
        ({"finetune": {"seed": 1}}, "finetune.seed: seeds decides it"),
        ({"finetune": {"fraction": 0.5}}, "finetune.fraction: fractions decides it"),
        ({"finetune": {"transductive": True}}, "finetune.transductive: a study never"),
        ({"pretrain": {"seed": 1}}, "pretrain.seed: seeds decides it"),
        ({"arms": {"voco2d": {"preset": "voco2d", "seed": 1}}}, "arms.voco2d.seed: seeds decides it"),
        ({"arms": {"voco2d": {"start": "none.pt"}}}, "arms.voco2d.start=none.pt: no such file"),
        ({"cohort": {"store": "store", "labels": "none.csv"}}, "cohort.labels=none.csv: no such file"),
    ],
)
def test_what_can_not_be_is_refused(tree: dict[str, Any], tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read({**tree, **change}, tmp_path)


def test_arms_are_pretrained_on_as_many_images(tree: dict[str, Any], tmp_path: Path) -> None:
    tree["arms"]["simmim"] = {"preset": "simmim", "batch_size": 2, "method": {"crop": 12, "patch": 6}}
    with pytest.raises(ConfigError, match=r"different numbers of images \(voco2d 88, simmim 8\)"):
        read(tree, tmp_path)
    tree["arms"]["simmim"]["batch_size"] = 22
    assert {images(arm) for arm in read(tree, tmp_path).arms} == {0, 88}


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_the_shipped_studies_can_be_read(config: Path) -> None:
    args = read_study(config)
    assert "voco2d" in {arm.name for arm in args.arms}
    assert to_tree(read_study(config, quick=True)) != to_tree(args)


def test_there_are_shipped_studies() -> None:
    assert {path.stem for path in CONFIGS} == {"study_phantom", "study_phantom_slices", "study_rsna"}


def test_a_study_of_another_schema_is_refused(tree: dict[str, Any], tmp_path: Path) -> None:
    assert read({"schema": 1, **tree}, tmp_path) == read(tree, tmp_path)
    with pytest.raises(ConfigError, match="is of schema 2"):
        read({"schema": 2, **tree}, tmp_path)
