import itertools

import numpy as np
import pytest

from voco2d.io.orientation import axes_affine, is_axis_code, obliquity_deg, split_affine, swap_lps_ras, to_patient_axes

CODES = [
    "".join(letters) for order in itertools.permutations(("LR", "AP", "IS")) for letters in itertools.product(*order)
]


@pytest.mark.parametrize("code", CODES)
def test_every_axis_code_ends_in_patient_axes_with_the_same_points(patient, code):
    affine = axes_affine(code, (2.0, 3.0, 5.0))
    affine[:3, 3] = (-4.0, 6.0, 10.0)
    turned, turned_affine = to_patient_axes(patient.sample(affine, (3, 4, 5)), affine)
    assert np.allclose(turned, patient.sample(turned_affine, turned.shape))
    _, direction, _ = split_affine(turned_affine)
    assert np.allclose(direction, [[0, 0, 1], [0, 1, 0], [-1, 0, 0]])


def test_oblique_axes_go_to_the_closest(patient):
    angle = np.radians(25)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    affine = axes_affine("RPS", (1.0, 2.0, 3.0))
    affine[:3, :3] = turn @ affine[:3, :3]
    turned, turned_affine = to_patient_axes(patient.sample(affine, (3, 4, 5)), affine)
    assert turned.shape == (5, 4, 3)
    assert np.allclose(turned, patient.sample(turned_affine, turned.shape))
    assert obliquity_deg(turned_affine) == pytest.approx(25)


def test_the_given_affine_stays_as_it_was():
    affine = axes_affine("RAS", (1.0, 1.0, 1.0))
    before = affine.copy()
    to_patient_axes(np.zeros((2, 3, 4)), affine)
    assert np.array_equal(affine, before)


def test_axis_codes():
    assert all(is_axis_code(code) for code in CODES)
    assert len(CODES) == 48
    assert not any(is_axis_code(code) for code in ("", "RA", "RRS", "RAP", "ras", "RASS"))


def test_lps_and_ras_swap_back():
    affine = np.arange(16.0).reshape(4, 4)
    assert np.array_equal(swap_lps_ras(swap_lps_ras(affine)), affine)
    assert np.array_equal(swap_lps_ras(affine)[0], -affine[0])
