"""How far called grades lie from the true ones, for targets whose classes have an order."""

from typing import Final

import numpy as np
from jaxtyping import Float, Int

ORDINAL_METRICS: Final = ("quadratic_kappa", "grade_error")


def ordinal_values(
    truth: Int[np.ndarray, " n"], called: Int[np.ndarray, " n"], classes: int, times: Float[np.ndarray, "n draws"]
) -> dict[str, Float[np.ndarray, " draws"]]:
    """Compute `ORDINAL_METRICS` of rows that count several times, for many countings at once.

    `quadratic_kappa` is Cohen's kappa with weights (i − j)² (Cohen, Psychological Bulletin 70, 1968): 1 is full
    agreement, 0 that of chance. `grade_error` is the mean of |i − j|, in grades.

    Args:
        truth: True class of each row.
        called: Class that was called.
        classes: How many there are.
        times: How often each row counts in each draw.

    Returns:
        Metric → a value a draw, NaN where it is undefined: no row counts, or, of kappa, all are and are called one
        class.
    """
    occurring, chosen = (np.eye(classes)[grades].T @ times for grades in (truth, called))  # (classes, draws)
    grades = np.arange(classes)
    squares = (grades[:, None] - grades[None, :]) ** 2
    rows = times.sum(axis=0)
    by_chance = np.einsum("kl,kd,ld->d", squares, occurring, chosen)
    with np.errstate(invalid="ignore", divide="ignore"):
        kappa = np.where(by_chance > 0, 1 - ((truth - called) ** 2 @ times) * rows / by_chance, np.nan)
        error = np.where(rows > 0, np.abs(truth - called) @ times / rows, np.nan)
    return {"quadratic_kappa": kappa, "grade_error": error}


def confusion(truth: Int[np.ndarray, " n"], called: Int[np.ndarray, " n"], classes: int) -> Int[np.ndarray, "k k"]:
    """Count rows by true class (rows of the matrix) and called class (columns)."""
    counts: Int[np.ndarray, "k k"] = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(counts, (truth, called), 1)
    return counts
