from collections.abc import Callable
from itertools import pairwise

import pandas as pd
import pytest

from voco2d.data.label_fraction import label_order, labelled_part
from voco2d.targets import CLASS_COLUMNS

FRACTIONS = (0.01, 0.1, 0.25, 0.5, 1.0)


def test_parts_are_nested_and_of_the_size_asked_for(labels_of: Callable[..., pd.DataFrame]) -> None:
    labels = labels_of(97)
    parts = [set(labelled_part(labels, fraction, seed=3)) for fraction in FRACTIONS]
    assert [len(part) for part in parts] == [1, 10, 25, 49, 97]
    assert all(small < large for small, large in pairwise(parts))


def test_the_draw_depends_on_seed_and_patients_alone(labels_of: Callable[..., pd.DataFrame]) -> None:
    labels = labels_of(60)
    assert label_order(labels, 1) == label_order(labels.sample(frac=1, random_state=0), 1)
    assert label_order(labels, 1) != label_order(labels, 2)
    assert sorted(label_order(labels, 1)) == labels["patient_id"].tolist()


@pytest.mark.parametrize("seed", range(5))
def test_small_parts_keep_every_class_and_larger_ones_the_shares(
    labels_of: Callable[..., pd.DataFrame], seed: int
) -> None:
    labels = labels_of(300, seed, injured=0.06)
    shares = labels[list(CLASS_COLUMNS)].mean()
    tenth = labels[labels["patient_id"].isin(labelled_part(labels, 0.1, seed))]
    assert tenth[list(CLASS_COLUMNS)].any().equals(labels[list(CLASS_COLUMNS)].any())
    half = labels[labels["patient_id"].isin(labelled_part(labels, 0.5, seed))]
    assert (half[list(CLASS_COLUMNS)].mean() - shares).abs().max() < 0.01
