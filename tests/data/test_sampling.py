import numpy as np

from voco2d.data.sampling import balanced_weights, epoch_rows
from voco2d.targets import TARGETS

ROWS = np.arange(100, 200)
LABELS = {name: (np.arange(100) < 5).astype(np.int64) for name in TARGETS}
"""Five of a hundred are injured, in everything."""


def test_shuffling_takes_each_once() -> None:
    rows = epoch_rows(ROWS, LABELS, "shuffle", (1, 2))
    assert sorted(rows) == ROWS.tolist()
    assert rows.tolist() == epoch_rows(ROWS, LABELS, "shuffle", (1, 2)).tolist()
    assert rows.tolist() != epoch_rows(ROWS, LABELS, "shuffle", (1, 3)).tolist()


def test_balancing_draws_classes_alike_often() -> None:
    drawn = np.concatenate([epoch_rows(ROWS, LABELS, "balanced", (0, epoch)) for epoch in range(50)])
    assert len(drawn) == 5000
    assert abs((drawn < 105).mean() - 0.5) < 0.03
    assert set(drawn) == set(ROWS)


def test_weights_sum_to_one_and_follow_the_rarity_of_each_target() -> None:
    labels = dict.fromkeys(TARGETS, np.zeros(10, dtype=np.int64))
    labels["liver"] = np.array([2] + [0] * 9)
    weights = balanced_weights(labels)
    assert np.isclose(weights.sum(), 1)
    assert np.isclose(weights[0], (4 * 0.1 + 0.5) / 5)
