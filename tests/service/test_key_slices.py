import numpy as np
import pytest

from voco2d.inference.results import SeriesResult, StudyResult
from voco2d.service.key_slices import foremost
from voco2d.targets import TARGETS


def _spread(name, healthy):
    """Share what is left evenly among the other classes."""
    others = len(TARGETS[name].classes) - 1
    return [healthy, *[(1 - healthy) / others] * others]


def _study(*rows):
    """Make the answer of series: p(healthy) of each target, or None of one that was not assessed."""
    series = []
    for number, healthy in enumerate(rows):
        row = [] if healthy is None else [value for name, p in healthy.items() for value in _spread(name, p)]
        series.append(SeriesResult("p", "s", str(number), "refuse", np.array([row]) if row else None))
    return StudyResult("p", "s", tuple(series))


def test_each_target_points_into_the_series_that_speaks_most_for_it():
    even = dict.fromkeys(TARGETS, 0.9)
    result = _study(even | {"spleen": 0.2}, None, even | {"liver": 0.3}, even | {"liver": 0.4, "bowel": 0.1})
    assert {name: foremost(result, target) for name, target in TARGETS.items()} == {
        "bowel": 3,
        "extravasation": 0,
        "kidney": 0,
        "liver": 2,
        "spleen": 0,
    }


@pytest.mark.parametrize("count", [1, 2])
def test_nothing_assessed_points_nowhere(count):
    assert foremost(_study(*[None] * count), TARGETS["liver"]) is None
