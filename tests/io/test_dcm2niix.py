"""Our DICOM reader against dcm2niix, an independent converter; docs/dcm2niix.md explains what differs."""

import itertools
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from voco2d.errors import ReadError
from voco2d.io.dicom_frames import read_headers
from voco2d.io.dicom_pixels import read_slice_hu
from voco2d.io.discover import discover
from voco2d.io.readers import read_source, read_volume
from voco2d.io.source import ReadArgs
from voco2d.io.volume import Volume

DCM2NIIX = shutil.which("dcm2niix") or ""
DESCRIBED = "v1.0.20220720"
TOLERANCE_MM = 1e-3
FLOOR_HU = -1024
TILT_DEG = 18.5
TILT = np.radians(TILT_DEG)
SYNTAXES = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "4.70", "4.90", "4.91", "1.2.5")

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not DCM2NIIX, reason="dcm2niix is not installed"),
]


@dataclass(frozen=True)
class Conversion:
    """What dcm2niix wrote: images by what it put behind the name ("", "_Tilt_1", "_Eq_1"), and what it said."""

    images: dict[str, nib.Nifti1Image]
    said: str


@dataclass(frozen=True)
class Turned:
    """An image of theirs in our axes: (Z, H, W) values and the (4, 4) map to LPS millimetres."""

    hu: np.ndarray
    affine_lps: np.ndarray


def convert(dicom: Path, out: Path, *options: str) -> Conversion:
    out.mkdir(parents=True, exist_ok=True)
    words = [DCM2NIIX, "-b", "n", "-z", "n", "-f", "out", "-o", str(out), *options, str(dicom)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    images = {path.stem.removeprefix("out"): nib.load(path) for path in sorted(out.glob("out*.nii"))}
    return Conversion(images, done.stdout + done.stderr)


def turn(image: nib.Nifti1Image) -> Turned:
    """Turn by nibabel, not by our own code: RAS with all three axes reversed."""
    canonical = nib.as_closest_canonical(image)
    width, height, depth = canonical.shape[:3]
    hu = np.asanyarray(canonical.dataobj).reshape(width, height, depth).transpose(2, 1, 0)[::-1, ::-1, ::-1]
    reverse = np.array([[0, 0, -1, width - 1], [0, -1, 0, height - 1], [-1, 0, 0, depth - 1], [0, 0, 0, 1]])
    return Turned(hu, np.diag([-1, -1, 1, 1]) @ canonical.affine @ reverse)


def corners(affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """(8, 3) LPS positions of the corner voxels, millimetres."""
    ends = np.array(list(itertools.product(*((0, size - 1) for size in shape))))
    return ends @ affine[:3, :3].T + affine[:3, 3]


def raised(hu: np.ndarray) -> np.ndarray:
    return np.maximum(hu, FLOOR_HU)


def assert_same_hu(volume: Volume, theirs: Turned) -> None:
    """HU are equal but for the floor that we raise padding to."""
    np.testing.assert_array_equal(volume.hu, raised(theirs.hu))


def assert_same_geometry(volume: Volume, theirs: Turned) -> None:
    ours = corners(volume.affine_lps, volume.hu.shape)
    np.testing.assert_allclose(ours, corners(theirs.affine_lps, theirs.hu.shape), rtol=0, atol=TOLERANCE_MM)


@pytest.fixture(scope="session")
def described() -> None:
    """Let a test of a difference run only for the version whose differences the page describes."""
    said = subprocess.run([DCM2NIIX, "--version"], capture_output=True, text=True, check=False, timeout=60).stdout
    if DESCRIBED not in said:
        pytest.skip(f"the differences are described for dcm2niix {DESCRIBED}")


MADE_UP = {
    "usual": {},
    "rows run up": {"orientation": (1, 0, 0, 0, -1, 0)},
    "columns run right to left": {"orientation": (-1, 0, 0, 0, 1, 0)},
    "turned by 180 degrees": {"orientation": (-1, 0, 0, 0, -1, 0)},
    "slices go up": {"step_mm": (0, 0, 5.0)},
    "slices go down": {"step_mm": (0, 0, -5.0)},
    "feet first": {"tags": {"PatientPosition": "FFS"}, "step_mm": (0, 0, -5.0)},
    "pixels not square": {"spacing_mm": (5.0, 2.0, 3.0)},
    "unsigned 12 bits": {"signed": False, "bits": 12, "intercept": -1024},
    "signed 16 bits with slope 2": {"slope": 2, "intercept": -1000},
    "RLE": {"rle": True, "signed": False, "bits": 12, "intercept": -1024},
    "oblique": {"orientation": (1, 0, 0, 0, np.cos(TILT), -np.sin(TILT))},
}


@pytest.mark.parametrize("name", MADE_UP)
def test_made_up_series_are_read_alike(tmp_path, patient, name):
    spec = patient.Spec(shape=(32, 40), tags={"PatientPosition": "HFS"}).but(**MADE_UP[name])
    patient.write_series(tmp_path / "in", spec)
    theirs = turn(convert(tmp_path / "in", tmp_path / "out").images[""])
    volume = read_volume(tmp_path / "in")
    assert_same_hu(volume, theirs)
    assert_same_geometry(volume, theirs)


def test_rescale_that_differs_from_slice_to_slice(tmp_path, patient):
    spec = patient.Spec(shape=(32, 40), tags={"PatientPosition": "HFS"})
    affine = patient.slice_affine(spec)
    hu = patient.sample(affine, (spec.slices, *spec.shape))
    for number in range(spec.slices):
        own = spec.but(intercept=-1000 - number)
        position = affine[:3, 3] + number * affine[:3, 0]
        patient.write_slice(tmp_path / "in" / f"{number}.dcm", hu[number] - own.intercept, own, position, number + 1)
    theirs = turn(convert(tmp_path / "in", tmp_path / "out").images[""])
    volume = read_volume(tmp_path / "in")
    assert_same_hu(volume, theirs)
    assert_same_geometry(volume, theirs)


@pytest.mark.realdata
@pytest.mark.parametrize("folder", ["jpeg2000_series", "overlapping_slices", "rsna_rle/10004/21057"])
def test_real_series_are_read_alike(real_data, tmp_path, folder):
    series = real_data / "dicom" / folder
    theirs = turn(convert(series, tmp_path).images[""])
    volume = read_volume(series, ReadArgs(min_slices=2))
    assert_same_hu(volume, theirs)
    assert_same_geometry(volume, theirs)


def single_files(dicom: Path) -> list[Path]:
    files = [*dicom.glob("duplicates/*"), *dicom.glob("rsna_rle/10004/51033/*")]
    files += [
        path for path in dicom.glob("transfer_syntaxes/*") if path.stem.rpartition("Syntax_")[2].endswith(SYNTAXES)
    ]
    return sorted(files)


@pytest.mark.realdata
def test_real_files_of_one_slice_are_read_alike(real_data, tmp_path):
    files = single_files(real_data / "dicom")
    assert len(files) == 4 + 1 + 6
    for number, path in enumerate(files):
        theirs = turn(convert(path, tmp_path / str(number), "-s", "y").images[""])
        np.testing.assert_array_equal(raised(read_slice_hu(path)), raised(theirs.hu[0]), err_msg=path.name)
        ((header,), _) = read_headers(path)
        across, down = np.reshape(header.orientation, (2, 3))
        plane = np.stack([down * header.pixel_spacing_mm[0], across * header.pixel_spacing_mm[1]], axis=1)
        np.testing.assert_allclose(plane, theirs.affine_lps[:3, 1:3], rtol=0, atol=TOLERANCE_MM / max(header.shape))
        np.testing.assert_allclose(header.position_mm, theirs.affine_lps[:3, 3], rtol=0, atol=TOLERANCE_MM)


@pytest.mark.realdata
@pytest.mark.usefixtures("described")
def test_deflated_files_are_beyond_dcm2niix(real_data, tmp_path):
    (deflated,) = (real_data / "dicom" / "transfer_syntaxes").glob("*Deflated*")
    (plain,) = (real_data / "dicom" / "transfer_syntaxes").glob("*Syntax_1.2.840.10008.1.2.1.dcm")
    conversion = convert(deflated, tmp_path, "-s", "y")
    assert "Unsupported transfer syntax '1.2.840.10008.1.2.1.99'" in conversion.said
    np.testing.assert_array_equal(read_slice_hu(deflated), read_slice_hu(plain))
    wrong = turn(conversion.images[""]).hu[0] != read_slice_hu(plain)
    assert wrong.mean() > 0.9, "it takes the compressed bytes for pixels"


@pytest.mark.realdata
@pytest.mark.usefixtures("described")
def test_copies_of_one_slice_are_no_volume(real_data, tmp_path):
    for folder, pictures in (("duplicates", 3), ("transfer_syntaxes", 2)):
        conversion = convert(real_data / "dicom" / folder, tmp_path / folder)
        assert len(conversion.images) == pictures
        assert "DUPLICATES REMOVED" in conversion.said
        for source in discover([real_data / "dicom" / folder])[0]:
            with pytest.raises(ReadError, match="1 slice position"):
                read_source(source)


@pytest.mark.realdata
def test_cut_files_are_refused_by_both(real_data, tmp_path):
    folder = real_data / "dicom" / "truncated"
    assert not convert(folder, tmp_path).images
    for path in sorted(folder.iterdir()):
        with pytest.raises(ReadError):
            read_volume(path)


@pytest.mark.realdata
@pytest.mark.usefixtures("described")
def test_a_header_cut_short_is_a_picture_to_dcm2niix_when_given_alone(real_data, tmp_path):
    path = real_data / "dicom" / "truncated" / "ct_cut_in_header.dcm"
    assert [image.shape[:2] for image in convert(path, tmp_path, "-s", "y").images.values()] == [(1, 1)]


@pytest.mark.realdata
@pytest.mark.usefixtures("described")
def test_missing_slice(real_data, tmp_path):
    folder = real_data / "dicom" / "missing_slice"
    conversion = convert(folder, tmp_path)
    assert "Interslice distance varies" in conversion.said
    assert sorted(conversion.images) == ["", "_Eq_1"]

    whole = turn(conversion.images[""])
    assert whole.hu.min() == -3024, "dcm2niix keeps what we raise to the floor"
    as_stored = read_volume(folder)
    assert_same_hu(as_stored, whole)
    assert_same_geometry(as_stored, whole)
    assert [note.partition(":")[0] for note in as_stored.notes][:1] == ["gap"]

    # slices at -270, -275, -280, then -290, -295, -300, -305 mm
    stored = as_stored.hu.astype(np.float64)
    filled = read_volume(folder, ReadArgs(fill_gaps=True))
    between = np.rint((stored[2] + stored[3]) / 2)
    np.testing.assert_array_equal(filled.hu[[0, 1, 2, 4, 5, 6, 7]], as_stored.hu)
    assert np.abs(filled.hu[3] - between).max() <= 1
    heights = corners(filled.affine_lps, filled.hu.shape)[:, 2]
    assert (heights.max(), heights.min()) == pytest.approx((-270, -305), abs=TOLERANCE_MM)

    evened = turn(conversion.images["_Eq_1"])
    np.testing.assert_array_equal(raised(evened.hu[[0, 1, 2, 4, 5, 6]]), as_stored.hu[1:])
    assert np.abs(evened.hu[3] - whole.hu[3:5].mean(axis=0)).max() <= 0.5, "made where no slice was missing"
    heights = corners(evened.affine_lps, evened.hu.shape)[:, 2]
    assert (heights.max(), heights.min()) == pytest.approx((-270, -300), abs=TOLERANCE_MM)


@pytest.mark.realdata
@pytest.mark.usefixtures("described")
def test_two_slabs(real_data, tmp_path):
    folder = real_data / "dicom" / "two_slabs_gap"
    conversion = convert(folder, tmp_path)
    assert sorted(conversion.images) == ["", "_Eq_1"]
    whole = turn(conversion.images[""])
    volumes = [read_source(source)[0] for source in discover([folder])[0]]
    upper, lower = sorted(volumes, key=lambda volume: -volume.origin_mm[2])
    np.testing.assert_array_equal(np.concatenate([upper.hu, lower.hu]), raised(whole.hu))

    assert_same_geometry(upper, Turned(whole.hu[:5], whole.affine_lps))
    claimed = whole.affine_lps @ (5, 0, 0, 1)
    assert lower.origin_mm == pytest.approx(claimed[:3] - (0, 0, 212), abs=TOLERANCE_MM)

    evened = turn(conversion.images["_Eq_1"])
    assert evened.hu.shape[0] == 20
    assert np.linalg.norm(evened.affine_lps[:3, 0]) == pytest.approx(248 / 19, abs=TOLERANCE_MM)
    np.testing.assert_array_equal(raised(evened.hu[[0, -1]]), np.stack([upper.hu[0], lower.hu[-1]]))


@pytest.mark.realdata
@pytest.mark.usefixtures("described")
def test_tilted_gantry_as_stored(real_data, tmp_path):
    folder = real_data / "dicom" / "ge_tilt_variable_spacing"
    conversion = convert(folder, tmp_path)
    assert sorted(conversion.images) == ["", "_Tilt_Eq_1"]
    assert f"gantry tilt of {TILT_DEG} degrees" in conversion.said
    theirs = turn(conversion.images[""])
    volume = read_volume(folder, ReadArgs(correct_tilt=False))
    assert_same_hu(volume, theirs)
    assert re.search(rf"tilt: {TILT_DEG} deg", " ".join(volume.notes))

    pixel_mm = 0.4882812
    assert np.linalg.norm(volume.affine_lps[:3, 1]) == pytest.approx(pixel_mm, abs=1e-6)
    stretched = np.hypot(pixel_mm / np.cos(TILT), pixel_mm * np.sin(TILT))
    assert np.linalg.norm(theirs.affine_lps[:3, 1]) == pytest.approx(stretched, abs=1e-4), "rows 0.538 mm apart"
    assert theirs.affine_lps[2, 0] == pytest.approx(-4.22 * np.cos(TILT) ** 2, abs=1e-3), "slices 3.80 mm apart"


@pytest.mark.realdata
@pytest.mark.usefixtures("described")
def test_tilt_and_spacing_corrected(real_data, tmp_path):
    folder = real_data / "dicom" / "ge_tilt_variable_spacing"
    image = convert(folder, tmp_path).images["_Tilt_Eq_1"]
    volume = read_volume(folder, ReadArgs(correct_tilt=True, fill_gaps=True))
    assert {"tilt", "resampled"} <= {note.partition(":")[0] for note in volume.notes}

    by_qform = turn(nib.Nifti1Image(np.asanyarray(image.dataobj), image.get_qform()))
    np.testing.assert_allclose(volume.direction, by_qform.affine_lps[:3, :3] / _steps(by_qform), rtol=0, atol=1e-4)
    assert _steps(turn(image))[1] == pytest.approx(0.4726, abs=1e-3), "the sform scales a row instead of a column"
    assert image.shape == (512, 512 + 39, 24)
    assert _steps(by_qform)[0] == pytest.approx(56.084 / 23, abs=TOLERANCE_MM)

    ours, inside = _sample(volume, by_qform)
    assert inside.mean() > 0.9
    theirs = raised(by_qform.hu).astype(np.float64)
    # the upper slice is one of the scanner's in both; the others were interpolated onto different grids
    assert np.percentile(np.abs(ours - theirs)[0][inside[0]], 99) <= 1
    assert np.median(np.abs(ours - theirs)[inside]) <= 5
    assert abs(_row_shift(ours, theirs, inside)) < 0.1


def _steps(turned: Turned) -> np.ndarray:
    return np.asarray(np.linalg.norm(turned.affine_lps[:3, :3], axis=0))


def _sample(volume: Volume, grid: Turned) -> tuple[np.ndarray, np.ndarray]:
    """Our HU at the positions of their voxels, and where those lie within our grid."""
    index = np.moveaxis(np.indices(grid.hu.shape, np.float64), 0, -1)
    to_ours = np.linalg.inv(volume.affine_lps) @ grid.affine_lps
    places = np.moveaxis(index @ to_ours[:3, :3].T + to_ours[:3, 3], -1, 0)
    last = np.reshape(volume.hu.shape, (3, 1, 1, 1)) - 1
    inside = np.all((places > -0.01) & (places < last + 0.01), axis=0)
    return map_coordinates(volume.hu.astype(np.float32), places, order=1, mode="nearest"), inside


def _row_shift(ours: np.ndarray, theirs: np.ndarray, inside: np.ndarray) -> float:
    """Shift along the rows that explains the difference best, in pixels, by least squares."""
    slope = np.gradient(theirs, axis=1)
    use = inside & (ours > FLOOR_HU) & (theirs > FLOOR_HU) & (np.abs(slope) < 300)
    return float(np.sum((ours - theirs)[use] * slope[use]) / np.sum(slope[use] ** 2))
