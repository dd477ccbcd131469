import numpy as np
import pytest

from voco2d.io.dicom import read_dicom
from voco2d.io.dicom_grid import even_out, in_plane_offsets, shear
from voco2d.io.source import ReadArgs, Source

FLAT = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def ramp(points):
    """A field without kinks, so that linear interpolation gives it exactly."""
    x, y, z = np.moveaxis(points, -1, 0)
    return 2.0 * x + 3.0 * y + 4.0 * z


def write_ramp(folder, patient, spec, positions=None):
    affine = patient.slice_affine(spec)
    files = []
    for i, at in enumerate(positions if positions is not None else range(spec.slices)):
        moved = affine.copy()
        moved[:3, 3] += at * affine[:3, 0]
        hu = ramp(np.moveaxis(np.indices((1, *spec.shape)), 0, -1) @ moved[:3, :3].T + moved[:3, 3])[0]
        files.append(folder / f"{i}.dcm")
        patient.write_slice(files[-1], np.rint(hu), spec, moved[:3, 3], i + 1)
    return files


def read(files, folder, **args):
    return read_dicom(Source("dicom", folder, tuple(files)), ReadArgs(**args))[0]


def world(volume):
    index = np.moveaxis(np.indices(volume.hu.shape), 0, -1)
    return index @ volume.affine_lps[:3, :3].T + volume.affine_lps[:3, 3]


@pytest.mark.parametrize("degrees", [18.5, -12.0])
@pytest.mark.parametrize("down", [1, -1])
def test_a_tilted_gantry_is_sheared_onto_a_rectangular_grid_where_every_point_stays(tmp_path, patient, degrees, down):
    tilt = np.radians(degrees)
    orientation = (1, 0, 0, 0, down * np.cos(tilt), -down * np.sin(tilt))
    spec = patient.Spec(slices=12, shape=(20, 10), orientation=orientation, step_mm=(0, 0, 5))
    volume = read(write_ramp(tmp_path, patient, spec), tmp_path)
    axes = volume.direction
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-4)
    inside = volume.hu > -1024
    # rounding to int16 is 0.5 twice; one voxel in the plane is 4 to 6 HU, so this is a fifth of a voxel at most
    assert np.abs(volume.hu - ramp(world(volume)))[_core(inside)].max() <= 1.2
    assert inside.sum() >= 12 * 19 * 10
    assert volume.spacing_mm[0] == pytest.approx(5 * np.cos(tilt), abs=1e-4)
    assert volume.hu.shape[1] > 20


def _core(inside):
    """Without the two rows at either edge, which mix with the air that comes in."""
    core = inside.copy()
    core[:, 1:] &= inside[:, :-1]
    core[:, :-1] &= inside[:, 1:]
    return core & np.roll(core, 1, 1) & np.roll(core, -1, 1)


def test_without_correction_a_tilt_is_only_noted(tmp_path, patient):
    tilt = np.radians(15)
    spec = patient.Spec(orientation=(1, 0, 0, 0, np.cos(tilt), -np.sin(tilt)), step_mm=(0, 0, 5))
    volume = read(write_ramp(tmp_path, patient, spec), tmp_path, correct_tilt=False)
    assert volume.hu.shape == (8, 8, 10)
    assert volume.notes == ("tilt: 15.0 deg, not corrected",)


def test_a_shear_by_whole_pixels_only_moves_rows():
    hu = np.arange(3 * 4 * 2, dtype=np.int16).reshape(3, 4, 2)
    sheared, before = shear(hu, np.array([[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0]]))
    assert sheared.shape == (3, 6, 2)
    assert before == (1, 0)
    for z, top in enumerate((1, 2, 0)):
        np.testing.assert_array_equal(sheared[z, top : top + 4], hu[z])
        assert (np.delete(sheared[z], range(top, top + 4), axis=0) == -1024).all()


def test_offsets_are_along_rows_then_columns():
    positions = np.array([[0.0, 0, 0], [2.0, 0, -5], [0, 9.0, -10]])
    np.testing.assert_allclose(in_plane_offsets(positions, FLAT, (3.0, 2.0)), [[0, 0], [0, 1], [3, 0]])


def test_gaps_are_filled_only_when_asked(tmp_path, patient):
    spec = patient.Spec(slices=9)
    files = write_ramp(tmp_path, patient, spec, positions=[0, 1, 2, 3, 5, 6, 7, 8])
    kept = read(files, tmp_path)
    assert kept.hu.shape[0] == 8
    assert [note.split(":")[0] for note in kept.notes] == ["gap"]
    assert "1 missing" in kept.notes[0]
    filled = read(files, tmp_path, fill_gaps=True)
    assert [note.split(":")[0] for note in filled.notes] == ["gap", "resampled"]
    assert filled.hu.shape[0] == 9
    assert filled.instance_numbers == ()
    assert np.abs(filled.hu - ramp(world(filled))).max() <= 1


def test_uneven_distances_become_even(tmp_path, patient):
    files = write_ramp(tmp_path, patient, patient.Spec(), positions=[0, 1, 2, 3, 4, 5.4, 6.8, 8.2])
    assert read(files, tmp_path).notes[0].startswith("uneven: ")
    even = read(files, tmp_path, fill_gaps=True)
    assert even.spacing_mm[0] == pytest.approx(5.0)
    assert np.abs(even.hu - ramp(world(even))).max() <= 1


def test_even_out_keeps_slices_that_stand_right():
    hu = np.arange(4, dtype=np.int16).reshape(4, 1, 1) * 10
    even, heights = even_out(hu, np.array([9.0, 6.0, 3.0, 0.0]), 3.0)
    assert even.ravel().tolist() == [0, 10, 20, 30]
    assert heights.tolist() == [9, 6, 3, 0]


@pytest.mark.parametrize("work", ["shear", "even_out"])
def test_pages_of_large_volumes_are_let_go_of(monkeypatch, work):
    let_go = []
    monkeypatch.setattr("voco2d.io.spool.release", let_go.append)
    hu = np.zeros((70, 1024, 1024), np.int8).astype(np.int16)
    if work == "shear":
        shear(hu, np.zeros((70, 2)))
    else:
        even_out(hu, np.arange(70.0)[::-1], 1.0)
    assert any(array is hu for array in let_go)
    assert len(let_go) == 4


def test_coverage_of_uneven_slices_comes_from_their_positions(tmp_path, patient):
    files = write_ramp(tmp_path, patient, patient.Spec(slices=8), positions=[0, 1, 2, 3, 4, 6, 7, 8])
    assert read(files, tmp_path).coverage_mm[0] == pytest.approx(8 * 5 + 5)
    assert read(files, tmp_path).spacing_mm[0] == pytest.approx(5)
    filled = read(files, tmp_path, fill_gaps=True)
    assert filled.extent_mm is None
    assert filled.coverage_mm[0] == pytest.approx(9 * 5)


def lines(lean_mm, slices=9, displaced=None):
    one = [(0.0, lean_mm * n, -5.0 * n) for n in range(slices)]
    if displaced is not None:
        x, y, z = one[displaced]
        one[displaced] = (x, y + 3.0, z)
    return one


def write_lines(folder, patient, places):
    spec = patient.Spec(slices=len(places))
    for n, place in enumerate(places):
        patient.write_slice(folder / f"{n}.dcm", np.full(spec.shape, 50 + n), spec, np.array(place), n + 1)
    return sorted(folder.iterdir())


@pytest.mark.parametrize("displaced", [0, 4, 8])
def test_one_displaced_slice_makes_no_tilt(tmp_path, patient, displaced):
    volume = read(write_lines(tmp_path, patient, lines(0.0, displaced=displaced)), tmp_path)
    assert volume.notes == ()
    assert volume.hu.shape == (9, 8, 10)


@pytest.mark.parametrize("displaced", [0, 8])
def test_one_displaced_slice_hides_no_tilt(tmp_path, patient, displaced):
    """A lean of -0.375 mm a slice is 4.3 degrees; over 8 steps the displaced slice takes it all back."""
    places = lines(-0.375 if displaced == 8 else 0.375, displaced=displaced)
    volume = read(write_lines(tmp_path, patient, places), tmp_path)
    assert volume.notes == ("tilt: 4.3 deg, corrected by shear",)


@pytest.mark.parametrize(("slices", "notes"), [(9, 0), (70, 1)])
def test_a_small_drift_counts_once_it_adds_up_to_a_pixel(tmp_path, patient, slices, notes):
    volume = read(write_lines(tmp_path, patient, lines(0.04, slices)), tmp_path)
    assert len(volume.notes) == notes
    assert all(note.startswith("tilt: 0.5 deg") for note in volume.notes)


@pytest.mark.parametrize(
    ("positions", "word"),
    [
        ([0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 14, 16], "uneven"),
        ([0, 2, 4, 6, 8, 10, 12, 13, 14, 15, 16, 17], "uneven"),
        ([0, 2, 3, 5, 6, 8, 9, 11], "uneven"),
        ([0, 1, 2, 4, 6], "uneven"),
        ([0, 1, 2, 3, 5, 6, 7, 8], "gap"),
        ([0, 1, 2, 3, 6, 7, 8, 9], "gap"),
        ([0, 1, 2, 3, 5, 7, 8, 9, 10], "gap"),
        ([0, 1, 2, 3, 4, 6], "gap"),
    ],
)
def test_a_gap_is_a_few_missing_slices_and_a_change_of_distance_is_uneven(tmp_path, patient, positions, word):
    spec = patient.Spec(spacing_mm=(2.5, 2.0, 2.0))
    volume = read(write_ramp(tmp_path, patient, spec, positions), tmp_path)
    assert [note.split(":")[0] for note in volume.notes] == [word]
    assert volume.coverage_mm[0] == pytest.approx(2.5 * positions[-1] + volume.spacing_mm[0])
