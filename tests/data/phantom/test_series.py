from functools import cache

import numpy as np
import pytest
from scipy import ndimage

from voco2d.data.phantom import PhantomArgs, PhantomSeries, make_series
from voco2d.data.phantom.injuries import SIGN
from voco2d.errors import UsageError
from voco2d.targets import TARGETS

HEALTHY = dict.fromkeys(TARGETS, 0)
ONE = PhantomArgs(size=64, mean_slices=20, two_series_share=0.0)
TWO = PhantomArgs(size=64, mean_slices=20, two_series_share=1.0)
LIVER, SPLEEN, LEFT_KIDNEY, RIGHT_KIDNEY, BOWEL = 1, 2, 3, 4, 5


def _center(series: PhantomSeries, organ: int) -> np.ndarray:
    return np.argwhere(series.organs == organ).mean(axis=0)


@cache
def _one(patient: int, injury: str | None = None, grade: int = 1) -> PhantomSeries:
    grades = HEALTHY if injury is None else {**HEALTHY, injury: grade}
    return make_series(3, patient, ONE, grades)[0]


def _with(injury: str, grade: int, patient: int) -> tuple[PhantomSeries, PhantomSeries]:
    return _one(patient), _one(patient, injury, grade)


def test_same_seed_same_patient() -> None:
    first, again = make_series(1, 4, TWO), make_series(1, 4, TWO)
    assert len(first) == len(again) == 2
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a.hu, b.hu)
        assert (a.scan, a.grades, a.shown) == (b.scan, b.grades, b.shown)
    assert not np.array_equal(make_series(1, 5, TWO)[0].hu[:5], first[0].hu[:5])
    assert not np.array_equal(make_series(2, 4, TWO)[0].hu[:5], first[0].hu[:5])


@pytest.mark.parametrize("patient", range(4))
def test_organs_lie_where_they_should_and_are_covered(patient: int) -> None:
    series = make_series(0, patient, ONE)[0]
    assert set(np.unique(series.organs)) == {0, LIVER, SPLEEN, LEFT_KIDNEY, RIGHT_KIDNEY, BOWEL}
    middle = series.hu.shape[2] / 2
    liver, spleen, bowel = (_center(series, organ) for organ in (LIVER, SPLEEN, BOWEL))
    assert liver[2] < middle < spleen[2]  # W runs from the patient's right to the left
    assert liver[0] < bowel[0]  # Z runs downwards
    assert bowel[1] < _center(series, LEFT_KIDNEY)[1]  # H runs to the back
    assert _center(series, RIGHT_KIDNEY)[2] < middle < _center(series, LEFT_KIDNEY)[2]
    for organ in (LIVER, LEFT_KIDNEY, RIGHT_KIDNEY, SPLEEN):
        slices = np.flatnonzero((series.organs == organ).any(axis=(1, 2)))
        assert 0 < slices[0] < slices[-1] < len(series.hu) - 1


def test_hounsfield_units_are_those_of_tissue() -> None:
    series = make_series(0, 2, ONE, HEALTHY)[0]
    assert series.scan.phase == "portal"
    assert 90 < np.median(series.hu[series.organs == LIVER]) < 140
    assert 90 < np.median(series.hu[series.organs == SPLEEN]) < 150
    assert 120 < np.median(series.hu[series.organs == LEFT_KIDNEY]) < 220
    assert 100 < series.aortic_hu < 260
    assert series.hu.min() >= -1024
    assert (series.hu < -900).mean() > 0.2


def test_phases_show_the_same_anatomy_with_other_contrast() -> None:
    arterial, portal = make_series(0, 3, TWO, HEALTHY)
    assert (arterial.scan.phase, portal.scan.phase) == ("arterial", "portal")
    assert arterial.aortic_hu > portal.aortic_hu + 60
    volumes = [
        [(series.organs == organ).sum() * np.prod(series.spacing_mm) for organ in (LIVER, SPLEEN, LEFT_KIDNEY)]
        for series in (arterial, portal)
    ]
    np.testing.assert_allclose(volumes[0], volumes[1], rtol=0.12)


@pytest.mark.parametrize("organ", ["liver", "spleen", "kidney"])
@pytest.mark.parametrize("patient", [0, 1])
def test_lacerations_are_darker_than_the_organ(organ: str, patient: int) -> None:
    healthy, low = _with(organ, 1, patient)
    _, high = _with(organ, 2, patient)
    torn = low.signs == SIGN[organ]
    assert torn.any()
    inside = torn & (healthy.hu > 70)
    assert inside.sum() * np.prod(low.spacing_mm) > 4000
    assert low.hu[inside].mean() < healthy.hu[inside].mean() - 40
    assert (high.signs == SIGN[organ]).sum() > 1.8 * torn.sum()
    near = ndimage.binary_dilation(torn, np.ones((3, 5, 5)))
    np.testing.assert_array_equal(low.hu[~near], healthy.hu[~near])


@pytest.mark.parametrize("patient", [0, 1])
def test_bowel_injury_frees_air_in_front(patient: int) -> None:
    healthy, injured = _with("bowel", 1, patient)
    air = (injured.signs == SIGN["bowel"]) & (injured.hu < -700)
    new = air & (healthy.hu > -300)
    assert new.sum() * np.prod(injured.spacing_mm) > 5000
    body = np.argwhere(injured.hu[len(injured.hu) // 2] > -300)
    assert np.argwhere(air)[:, 1].mean() < body[:, 0].mean()


@pytest.mark.parametrize("patient", [0, 1])
def test_blush_is_bright_and_grows_until_the_portal_phase(patient: int) -> None:
    series = make_series(3, patient, TWO, {**HEALTHY, "extravasation": 1})
    sizes = []
    for one in series:
        blush = one.signs == SIGN["extravasation"]
        assert one.hu[blush].mean() > 200
        sizes.append(blush.sum() * np.prod(one.spacing_mm))
    assert sizes[1] > 1.2 * sizes[0] > 1000


def test_shown_slices_carry_the_sign() -> None:
    series = make_series(0, 1, ONE, dict.fromkeys(TARGETS, 1))[0]
    for name, value in SIGN.items():
        per_slice = (series.signs == value).sum(axis=(1, 2))
        assert series.shown[name]
        assert set(series.shown[name]) <= set(np.flatnonzero(per_slice).tolist())
        assert int(per_slice.argmax()) in series.shown[name]
    healthy = _one(0)
    assert not any(healthy.shown.values())
    assert not healthy.signs.any()


def test_sign_scale_grows_the_sign() -> None:
    wider = PhantomArgs(size=64, mean_slices=20, two_series_share=0.0, sign_scale=1.5)
    small, large = _one(0, "liver"), make_series(3, 0, wider, {**HEALTHY, "liver": 1})[0]
    assert (large.signs > 0).sum() > 1.5 * (small.signs > 0).sum()


@pytest.mark.parametrize("bad", [{"size": 4}, {"mean_slices": 1}, {"two_series_share": 1.5}, {"workers": -1}])
def test_settings_out_of_range_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(bad))):
        PhantomArgs(**bad)  # type: ignore[arg-type]
