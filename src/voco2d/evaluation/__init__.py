"""Tables in, numbers out; knows no torch."""

from voco2d.evaluation.rsna_score import rsna_score

__all__ = ["rsna_score"]
