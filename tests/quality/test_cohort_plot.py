"""Plots over a cohort."""

import math

import pytest

from voco2d.quality.cohort_plot import cohort_plot


def test_counts_are_in_the_titles():
    plot = cohort_plot("slices", [1, 1, 2, None, math.nan, 3])
    assert sum(int(bar.title.split(": ")[1].split()[0]) for bar in plot.bars) == 4
    assert max(bar.height for bar in plot.bars) == 100


def test_one_value_is_told_in_words_and_gets_no_axis():
    assert cohort_plot("x", [None, math.nan]) is None
    one, same = cohort_plot("x", [5]), cohort_plot("x", [0.8, 0.8, None, 0.8])
    assert (one.bars, one.low, one.high, one.note) == ((), "", "", "5 in the only series")
    assert (same.bars, same.note) == ((), "0.8 in all 3 series")


def test_whole_numbers_get_whole_bins():
    plot = cohort_plot("slices", [5, 6, 6, 8])
    assert [bar.title for bar in plot.bars] == ["5: 1 series", "6: 2 series", "8: 1 series"]
    assert (plot.low, plot.high, plot.tallest) == ("5", "8", 2)
    wide = cohort_plot("slices", [10, 12, 12345])
    assert wide.bars[0].title == "10 to 523: 2 series"
    assert sum(int(bar.title.split(": ")[1].split()[0]) for bar in wide.bars) == 3


def test_the_axis_ends_where_the_values_end():
    plot = cohort_plot("mm", [0.8, 1.25, 5.0, 5.0])
    assert (plot.low, plot.high, plot.tallest) == ("0.8", "5", 2)
    assert plot.bars[-1].left + plot.bars[-1].width == pytest.approx(100, abs=0.5)


def test_far_values_are_told():
    plot = cohort_plot("x", [*range(1000), 10**6])
    assert plot.note.startswith("5 above")
