"""Synthetic abdominal CT with graded injuries, in the layout of RSNA 2023."""

from voco2d.data.phantom.args import PhantomArgs
from voco2d.data.phantom.cohort_writer import CohortSummary, write_cohort
from voco2d.data.phantom.series import PhantomSeries, make_series

__all__ = ["CohortSummary", "PhantomArgs", "PhantomSeries", "make_series", "write_cohort"]
