"""What the networks look at is found again in the scan, however it was stored and prepared."""

from dataclasses import replace

import numpy as np
import pytest

from voco2d.inference.explain.explain_study import explain_study
from voco2d.inference.explain.explainer import Explainer
from voco2d.inference.explain.overlay import key_slice_picture, overlay
from voco2d.inference.explain.source_grid import SourceGrid, cell_weights
from voco2d.io.orientation import swap_lps_ras
from voco2d.preprocessing.preprocess import PreprocessArgs, prepare_volume
from voco2d.preprocessing.readout import ReadoutArgs

WINDOW_HU = (1000.0, 2000.0)
CELL_MM = 4 * 3.0
"""A cell of the maps: four prepared pixels of at most 3 mm."""

PREPARED = {
    "body crop": (PreprocessArgs(size=(20, 48, 48)), ReadoutArgs(20, 40, WINDOW_HU)),
    "whole volume": (PreprocessArgs(size=(32, 56, 40), body_crop=False), ReadoutArgs(16, 40, WINDOW_HU)),
    "padded": (
        PreprocessArgs(size=(48, 56, 56), spacing_mm=(4.0, 2.5, 2.5)),
        ReadoutArgs(48, 52, WINDOW_HU),
    ),
    "cropped": (
        PreprocessArgs(size=(24, 40, 40), spacing_mm=(4.0, 2.5, 2.5)),
        ReadoutArgs(24, 40, WINDOW_HU),
    ),
    "neighbours": (PreprocessArgs(size=(20, 48, 48)), ReadoutArgs(10, 40, WINDOW_HU, neighbours=1)),
}


def _centre(weights: np.ndarray) -> np.ndarray:
    return np.array([(axis * weights).sum() for axis in np.indices(weights.shape)]) / weights.sum()


@pytest.mark.parametrize("code", ["RAS", "LPI", "ASR", "PIL", "SRP"])
def test_a_mark_is_found_however_the_scan_is_stored(code, marked_scan, mark_lps, bright_predictor):
    _check(marked_scan(code), mark_lps, bright_predictor())


@pytest.mark.parametrize("name", [name for name in PREPARED if name != "neighbours"])
def test_a_mark_is_found_however_the_scan_is_prepared(name, marked_scan, mark_lps, bright_predictor):
    _check(marked_scan(), mark_lps, bright_predictor(*PREPARED[name]))


def _check(volume, mark_lps, predictor):
    (series,) = explain_study(predictor, volume).series
    told = series.explanation
    key = told.targets["liver"].key_slices[0]
    step_mm = max(volume.spacing_mm[0], abs(np.diff(told.grid.positions()))[0] * volume.spacing_mm[0])
    assert abs(key.source.position_mm[2] - mark_lps[2]) <= step_mm
    h, w = _centre(told.source_heat("liver", key.slice))
    found = (volume.affine_lps @ [key.source.index, h, w, 1])[:3]
    np.testing.assert_allclose(found[:2], mark_lps[:2], atol=CELL_MM / 2)
    image = told.heat_image("liver")
    peak = np.unravel_index(image.get_fdata().argmax(), image.shape)
    found = (swap_lps_ras(image.affine) @ [*peak, 1])[:3]
    np.testing.assert_allclose(found, mark_lps, atol=CELL_MM)
    h, w = _centre(told.source_overlay("liver", key.source.index))
    np.testing.assert_allclose((volume.affine_lps @ [0, h, w, 1])[:2], mark_lps[:2], atol=CELL_MM / 2)
    curve = told.source_curve("liver")
    assert abs(np.nanargmax(curve) - key.source.index) <= 1
    assert not told.source_overlay("liver", 2).any()


def test_a_key_slice_is_coloured_as_the_volume_is(marked_scan, bright_predictor):
    volume = marked_scan()
    (series,) = explain_study(bright_predictor(), volume).series
    told = series.explanation
    liver = told.targets["liver"]
    key = liver.key_slices[0]
    alone = overlay(volume.hu[key.source.index], None)
    picture = key_slice_picture(volume, told, "liver", key)
    np.testing.assert_array_equal(
        picture, overlay(volume.hu[key.source.index], told.source_overlay("liver", key.source.index))
    )
    assert (picture != alone).any()
    against = {method: -np.abs(curve) for method, curve in liver.curves.items()}  # nothing speaks for an injury
    told = replace(told, targets={**told.targets, "liver": replace(liver, curves=against)})
    np.testing.assert_array_equal(key_slice_picture(volume, told, "liver", key), alone)


@pytest.mark.parametrize("name", PREPARED)
def test_slices_come_from_where_the_preparation_says(name, marked_scan):
    preprocess, readout = PREPARED[name]
    volume = marked_scan()
    prepared = prepare_volume(volume, preprocess)
    grid = SourceGrid.of(volume, prepared, readout)
    expected = [prepared.source_voxel(depth, 0, 0)[0] for depth in grid.depths]
    np.testing.assert_allclose(grid.positions(), expected)
    assert len(expected) == readout.slices
    whole = grid.heat_affine_lps(
        (grid.crop, grid.crop)
    )  # as many cells as pixels: the prepared grid, moved by the crop
    corner = prepared.affine_lps(volume) @ [3, grid.corner[0] + 5, grid.corner[1] + 7, 1]
    np.testing.assert_allclose(whole @ [3, 5, 7, 1], corner, atol=1e-9)


def test_added_air_is_never_a_key_slice_and_has_no_curve(marked_scan, bright_predictor):
    predictor = bright_predictor(*PREPARED["padded"])
    volume = marked_scan()
    volume = replace(volume, hu=np.where(volume.hu > 100, np.int16(0), volume.hu))  # no mark: all slices are alike
    (series,) = explain_study(predictor, volume).series
    told = series.explanation
    outside = [place.position < -0.5 or place.position > len(volume.hu) - 0.5 for place in told.slices]
    assert any(outside)
    for target in told.targets.values():
        assert not any(outside[key.slice] for key in target.key_slices)
    assert np.isfinite(told.source_curve("liver")).all()


def test_weights_of_cells_are_linear_and_sum_to_one():
    weights = cell_weights(np.array([0.0, 0.25, 0.5, 0.6, 1.0]), 2)
    np.testing.assert_allclose(weights, [[1, 0], [1, 0], [0.5, 0.5], [0.3, 0.7], [0, 1]], atol=1e-6)


def test_the_explainer_takes_what_a_look_gets(marked_scan, bright_predictor):
    predictor = bright_predictor()
    seen = []
    predictor.predict(marked_scan(), lambda *given: seen.append(given))
    told = Explainer(predictor, key_slices=1).explain(*seen[0])
    assert [len(target.key_slices) for target in told.targets.values()] == [1] * 5
