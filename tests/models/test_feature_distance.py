import numpy as np
import pytest

from voco2d.models.feature_distance import FALSE_ALARMS, FeatureDistance, fit_feature_distance


def vectors(count: int, seed: int, features: int = 64, offset: float = 0.0) -> np.ndarray:
    """Gaussian vectors of a few strong directions and weak noise, as features of alike volumes are."""
    mixing = np.random.default_rng(0).normal(size=(6, features))
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(count, 6)) @ mixing + 0.3 * rng.normal(size=(count, features)) + offset).astype(np.float32)


def test_the_distance_is_the_mahalanobis_distance_of_the_described_gaussian() -> None:
    fitted = fit_feature_distance(vectors(60, 1), vectors(30, 2))
    assert fitted is not None
    basis = fitted.components.astype(np.float64)
    rest = np.eye(64) - basis.T @ basis
    covariance = basis.T @ np.diag(fitted.variances) @ basis + fitted.residual_variance * rest
    one = vectors(1, 3)[0]
    offset = one.astype(np.float64) - fitted.mean
    expected = np.sqrt(offset @ np.linalg.inv(covariance) @ offset / 64)
    assert fitted(one) == pytest.approx(expected, rel=1e-4)
    assert fitted.ratio(one) == pytest.approx(expected / fitted.threshold, rel=1e-4)


@pytest.mark.parametrize("held_out", [8, 40, 200])
def test_few_like_volumes_are_far_and_all_unlike_ones_are(held_out: int) -> None:
    fitted = fit_feature_distance(vectors(100, 1), vectors(held_out, 2))
    assert fitted is not None
    like = np.mean([fitted.ratio(one) > 1 for one in vectors(2000, 3)])
    assert like <= 4 * FALSE_ALARMS
    assert all(fitted.ratio(one) > 1 for one in vectors(50, 4, offset=3.0))


def test_fewer_held_out_volumes_make_a_wider_limit_on_average() -> None:
    widths = [
        np.mean(
            [
                fit.threshold
                for seed in range(20)
                if (fit := fit_feature_distance(vectors(100, 1), vectors(count, seed)))
            ]
        )
        for count in (5, 10, 100)
    ]
    assert widths[0] > widths[1] > widths[2]


@pytest.mark.parametrize(("train", "held_out"), [(9, 20), (20, 4)])
def test_too_few_volumes_fit_nothing(train: int, held_out: int) -> None:
    assert fit_feature_distance(vectors(train, 1), vectors(held_out, 2)) is None


def test_values_that_are_not_finite_fit_nothing() -> None:
    broken = vectors(20, 1)
    broken[3, 3] = np.nan
    assert fit_feature_distance(broken, vectors(20, 2)) is None


def test_constant_vectors_are_survived() -> None:
    fitted = fit_feature_distance(np.ones((20, 8), np.float32), np.ones((9, 8), np.float32))
    assert fitted is not None
    assert np.isfinite(fitted.threshold)
    assert np.isfinite(fitted(np.zeros(8, np.float32)))


def test_arrays_are_read_back() -> None:
    fitted = fit_feature_distance(vectors(60, 1), vectors(30, 2))
    assert fitted is not None
    arrays = fitted.arrays()
    again = FeatureDistance.from_arrays(arrays)
    assert again is not None
    one = vectors(1, 3)[0]
    assert again.ratio(one) == pytest.approx(fitted.ratio(one), rel=1e-5)
    assert FeatureDistance.from_arrays({}) is None
    nothing = arrays["feature_distance.variances"] * np.float32("nan")
    zero, one_value = np.zeros(1, np.float32), np.ones(1, np.float32)
    for name, wrong in (("threshold", zero), ("mean", one_value), ("variances", nothing)):
        with pytest.raises(ValueError, match="feature distance"):
            FeatureDistance.from_arrays({**arrays, f"feature_distance.{name}": wrong})
    with pytest.raises(KeyError):
        FeatureDistance.from_arrays({"feature_distance.mean": arrays["feature_distance.mean"]})
