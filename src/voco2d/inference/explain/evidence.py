"""What one network's answer rests on, whatever engine runs it; knows no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float32
from scipy.special import logsumexp

from voco2d.inference.runtime import FEATURES, Runtime, Slices

OCCLUSION: Final = "occlusion"
INTEGRATED_GRADIENTS: Final = "integrated_gradients"
MAX_POSITIONS: Final = "max_positions"
ATTENTION: Final = "attention"
HIDDEN_SLICES: Final = "hidden_slices"

WINDOW: Final = 3
"""Slices that are hidden at a time: one alone is often like its neighbours, which then say the same."""


@dataclass(frozen=True)
class Evidence:
    """What one network's answer for one target rests on.

    Args:
        curves: Method → (S) attributions.
        heat: (S, h, w) class activation maps, at least 0; None from an engine without gradients.
    """

    curves: Mapping[str, Float[np.ndarray, " S"]]
    heat: Float32[np.ndarray, "S h w"] | None = None


@runtime_checkable
class GradientRuntime(Protocol):
    """A `Runtime` whose engine gives gradients."""

    def find_evidence(self, slices: Slices) -> Mapping[str, Evidence]:
        """Look for what the network's answer rests on: target → evidence, with maps.

        Raises:
            UsageError: Captum is not installed.
        """


def hide_slices(runtimes: Sequence[Runtime], slices: Slices) -> list[dict[str, Evidence]]:
    """Ask networks again and again with a few slices hidden, which any engine can answer.

    `WINDOW` neighbouring slices are replaced by the mean of all slices of the volume; a slice's value is by how much
    the log-odds fall, the mean over the windows that it lies in. Windows reach beyond the ends, so that every slice
    lies in as many. All networks are asked about one window before the next, as engines that compute them together
    want it.

    Args:
        runtimes: The networks.
        slices: What they saw.

    Returns:
        Of each network, target → evidence with the one curve `HIDDEN_SLICES`.
    """
    count = len(slices)
    mean = slices.mean(axis=0)
    whole = [log_odds(runtime.logits(slices)) for runtime in runtimes]
    falls = [{name: np.zeros(count) for name in odds} for odds in whole]
    for start in range(1 - WINDOW, count):
        window = slice(max(0, start), start + WINDOW)
        hidden = slices.copy()
        hidden[window] = mean
        for runtime, before, fall in zip(runtimes, whole, falls, strict=True):
            after = log_odds(runtime.logits(hidden))
            for name in after:
                fall[name][window] += before[name] - after[name]
    return [{name: Evidence({HIDDEN_SLICES: total / WINDOW}) for name, total in fall.items()} for fall in falls]


def log_odds(logits: Mapping[str, Float32[np.ndarray, " _"]]) -> dict[str, float]:
    """Return each target's log-odds of an injury of any grade: log Σ exp(injured classes) − the healthy one.

    Of other targets: of any class but the first.
    """
    return {
        name: float(logsumexp(values[1:].astype(np.float64)) - values[0])
        for name, values in logits.items()
        if name != FEATURES
    }
