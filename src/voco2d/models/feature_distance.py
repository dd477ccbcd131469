"""How far a volume lies from the training volumes of a network, by the vectors its backbone gives; no torch needed.

The training vectors are described by a Gaussian whose covariance is that of probabilistic principal components (Tipping
& Bishop, JRSS B 61, 1999): a few directions with their own variance, one variance for all others. So the Mahalanobis
distance exists with fewer volumes than features (Lee et al., NeurIPS 2018, use it to find unusual inputs).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float, Float32
from scipy.special import stdtrit

LEAST_TRAIN: Final = 10
LEAST_HELD_OUT: Final = 5
"""Volumes below which nothing is fitted: their spread would be a guess."""

FALSE_ALARMS: Final = 0.005
"""Share of volumes like the held-out ones that may lie beyond the threshold."""

PREFIX: Final = "feature_distance."
"""Of its tensors' names in a checkpoint, beside those of the network."""

_MOST_COMPONENTS: Final = 32
_VOLUMES_A_COMPONENT: Final = 5
_LEAST_VARIANCE: Final = 1e-12


@dataclass(frozen=True)
class FeatureDistance:
    """A description of training vectors and a limit for the distance from them.

    Args:
        mean: (D,) of the training vectors.
        components: (K, D) orthonormal directions of largest variance.
        variances: (K,) along them.
        residual_variance: Along each direction that is perpendicular to all of them.
        threshold: Distance that at most `FALSE_ALARMS` of volumes like the held-out ones exceed.
        held_out: Distances of the held-out volumes, sorted.
    """

    mean: Float32[np.ndarray, " D"]
    components: Float32[np.ndarray, "K D"]
    variances: Float32[np.ndarray, " K"]
    residual_variance: float
    threshold: float
    held_out: Float32[np.ndarray, " M"]

    def __call__(self, features: Float[np.ndarray, " D"]) -> float:
        """Return the Mahalanobis distance of one vector, divided by √D so that 1 is usual in training."""
        return float(_distances(self, features[None])[0])

    def ratio(self, features: Float[np.ndarray, " D"]) -> float:
        """Return the distance as a share of the threshold; above 1 is far."""
        return self(features) / self.threshold

    def arrays(self) -> dict[str, Float32[np.ndarray, "..."]]:
        """Return what a checkpoint keeps, by name."""
        kept = {
            "mean": self.mean,
            "components": self.components,
            "variances": self.variances,
            "residual_variance": np.array([self.residual_variance]),
            "threshold": np.array([self.threshold]),
            "held_out": self.held_out,
        }
        return {PREFIX + name: np.asarray(array, np.float32) for name, array in kept.items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Float32[np.ndarray, "..."]]) -> "FeatureDistance | None":
        """Read what `arrays` returned; None where there is nothing of it.

        Raises:
            KeyError: Some of it is missing.
            ValueError: It does not fit together.
        """
        own = {name.removeprefix(PREFIX): array for name, array in arrays.items() if name.startswith(PREFIX)}
        if not own:
            return None
        features, count = own["mean"].size, own["variances"].size
        shapes = {"mean": (features,), "components": (count, features), "variances": (count,)}
        shapes |= {"residual_variance": (1,), "threshold": (1,)}
        wrong = [name for name, shape in shapes.items() if own[name].shape != shape]
        if wrong or not all(np.isfinite(array).all() for array in own.values()) or own["threshold"][0] <= 0:
            raise ValueError(f"feature distance: {', '.join(wrong) or 'a value'} is damaged")
        return cls(
            own["mean"],
            own["components"],
            own["variances"],
            float(own["residual_variance"][0]),
            float(own["threshold"][0]),
            own["held_out"],
        )


def fit_feature_distance(train: Float[np.ndarray, "N D"], held_out: Float[np.ndarray, "M D"]) -> FeatureDistance | None:
    """Describe training vectors, and set the limit by the vectors of volumes the network was not trained on.

    The threshold is an upper prediction bound for one more held-out volume, its logarithm being taken as normal:
    mean + t × deviation × √(1 + 1/M). Few held-out volumes make it wide.

    Args:
        train: Vectors of training volumes.
        held_out: Vectors of held-out volumes.

    Returns:
        None with fewer than `LEAST_TRAIN` or `LEAST_HELD_OUT` volumes, or where a vector is not finite.
    """
    if len(train) < LEAST_TRAIN or len(held_out) < LEAST_HELD_OUT:
        return None
    if not (np.isfinite(train).all() and np.isfinite(held_out).all()):
        return None
    values = train.astype(np.float64)
    mean = values.mean(axis=0)
    count = min(_MOST_COMPONENTS, len(train) // _VOLUMES_A_COMPONENT, values.shape[1] - 1)
    _, singular, directions = np.linalg.svd(values - mean, full_matrices=False)
    variances = np.maximum(singular**2 / (len(train) - 1), _LEAST_VARIANCE)
    rest = max(float(variances[count:].sum()) / (values.shape[1] - count), _LEAST_VARIANCE)
    fitted = FeatureDistance(
        mean=mean.astype(np.float32),
        components=directions[:count].astype(np.float32),
        variances=np.maximum(variances[:count], rest).astype(np.float32),
        residual_variance=rest,
        threshold=1.0,
        held_out=np.zeros(0, np.float32),
    )
    distances = np.sort(_distances(fitted, held_out))
    logs = np.log(np.maximum(distances, _LEAST_VARIANCE))
    widened = stdtrit(len(logs) - 1, 1 - FALSE_ALARMS) * logs.std(ddof=1) * np.sqrt(1 + 1 / len(logs))
    threshold = float(np.exp(min(logs.mean() + widened, np.log(np.finfo(np.float32).max) - 1)))
    return FeatureDistance(
        fitted.mean, fitted.components, fitted.variances, rest, threshold, distances.astype(np.float32)
    )


def _distances(fitted: FeatureDistance, features: Float[np.ndarray, "N D"]) -> Float[np.ndarray, " N"]:
    offset = features.astype(np.float64) - fitted.mean
    along = offset @ fitted.components.T.astype(np.float64)
    across = np.maximum((offset**2).sum(axis=1) - (along**2).sum(axis=1), 0.0)
    squared = (along**2 / fitted.variances).sum(axis=1) + across / fitted.residual_variance
    distances: Float[np.ndarray, " N"] = np.sqrt(squared / features.shape[1])
    return distances
