"""Plots over a cohort."""

import math

from voco2d.quality.cohort_plot import cohort_plot


def test_counts_are_in_the_titles():
    plot = cohort_plot("slices", [1, 1, 2, None, math.nan, 3])
    assert sum(int(bar.title.split(": ")[1].split()[0]) for bar in plot.bars) == 4
    assert max(bar.height for bar in plot.bars) == 100


def test_nothing_and_one_value():
    assert cohort_plot("x", [None, math.nan]) is None
    assert len(cohort_plot("x", [5]).bars) == 1


def test_far_values_are_told():
    plot = cohort_plot("x", [*range(1000), 10**6])
    assert plot.note.startswith("5 above")
