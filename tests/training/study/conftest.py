"""A study so small that it takes seconds: seven phantoms to learn from, two arms, two fractions."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from voco2d.training.study.args import StudyArgs
from voco2d.training.study.config import read_study
from voco2d.training.study.execution import run_study

TREE: dict[str, Any] = {
    "cohort": {
        "phantom": {
            "seed": 3,
            "unlabeled": 3,
            "train": 8,
            "validation": 3,
            "test": 12,
            "enriched": {"train": 1.0, "validation": 1.0, "test": 0.75},
            "draw": {"size": 48, "mean_slices": 12, "masks": False, "two_series_share": 0.2, "incomplete_share": 0.0},
            "preprocess": {"size": [8, 36, 36]},
        }
    },
    "fractions": [0.5, 1.0],
    "seeds": [0],
    "pretrain": {
        "backbone": "test_resnet",
        "init": "random",
        "device": "cpu",
        "steps": 2,
        "batch_size": 2,
        "checkpoint_every": 1,
        "log_every": 1,
        "schedule_steps": None,
        "method": {"crop": 12, "slices": 2},
    },
    "arms": {"random": {"start": "random"}, "voco2d": {"preset": "voco2d", "method": {"hidden": 16}}},
    "finetune": {"device": "cpu", "epochs": 2, "hidden": 8, "readout": {"slices": 4, "crop": 32}},
    "analysis": {"resamples": 20, "permutations": 39, "claims": ["voco2d@0.5 vs random@1.0"]},
    "quick": {"seeds": [7], "fractions": [1.0], "analysis": {"claims": []}},
}


@pytest.fixture
def tree() -> dict[str, Any]:
    """Return the study's values, to be changed."""
    return deepcopy(TREE)


@pytest.fixture(scope="session")
def study_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of the study."""
    path = tmp_path_factory.mktemp("study") / "study.yaml"
    path.write_text(yaml.safe_dump(TREE, sort_keys=False))
    return path


@pytest.fixture(scope="session")
def args(study_file: Path) -> StudyArgs:
    """Return what the file says."""
    return read_study(study_file)


@pytest.fixture(scope="session")
def finished(args: StudyArgs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the study once all its jobs are done; don't change it."""
    out = tmp_path_factory.mktemp("finished")
    run_study(args, out)
    return out
