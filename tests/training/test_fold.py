from pathlib import Path

import numpy as np
import pytest

from voco2d.models.classifier import ClassifierArgs
from voco2d.training.finetune_args import FinetuneArgs
from voco2d.training.fold import derived_seed, resume_path
from voco2d.training.fold_plan import FoldPlan


@pytest.mark.parametrize(("series", "steps"), [(1, 1), (4, 1), (5, 2), (8, 2)])
def test_the_last_batch_of_an_epoch_may_be_smaller(series: int, steps: int) -> None:
    plan = FoldPlan(
        number=0,
        train=np.arange(series),
        held_out=np.arange(2),
        test=np.arange(0),
        args=FinetuneArgs(epochs=3, batch_size=4),
        classifier=ClassifierArgs(),
        metadata={},
    )
    assert plan.steps_per_epoch == steps


def test_seeds_of_folds_and_epochs_differ_and_repeat() -> None:
    seeds = {derived_seed(seed, fold, epoch) for seed in range(3) for fold in range(3) for epoch in range(3)}
    assert len(seeds) == 27
    assert derived_seed(1, 2, 3) == derived_seed(1, 2, 3)


def test_resume_state_is_no_weights_file() -> None:
    assert resume_path(Path("run"), 3).suffix != ".safetensors"
