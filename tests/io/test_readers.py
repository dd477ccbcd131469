"""What all readers promise, and that anatomy stands where the axes say."""

import nibabel as nib
import numpy as np
import pytest

from voco2d.errors import ReadError, UsageError
from voco2d.io.orientation import split_affine, swap_lps_ras, to_patient_axes
from voco2d.io.readers import READERS, read_source, read_volume
from voco2d.io.source import Source


def read_labels(path, classes):
    """Label map in patient axes, only the named classes kept, with its LPS affine."""
    image = nib.load(path)
    labels = np.asanyarray(image.dataobj)
    labels = np.where(np.isin(labels, list(classes)), labels, 0)
    return to_patient_axes(labels, swap_lps_ras(image.affine))


def test_a_name_that_is_not_utf8_is_refused(tmp_path):
    # read, it ended the run when the table of the store was written
    path = tmp_path / "caf\udce9.npy"
    with pytest.raises(ReadError, match="not UTF-8; rename it"):
        read_source(Source("numpy", path, (path,)))


def centre(mask):
    return np.array([np.mean(index) for index in np.nonzero(mask)])


def test_formats():
    assert set(READERS) == {"dicom", "nifti", "itk", "numpy"}


def test_one_volume_is_asked_for(tmp_path, patient):
    with pytest.raises(UsageError, match="nowhere: missing"):
        read_volume(tmp_path / "nowhere")
    with pytest.raises(ReadError, match="no CT series in it"):
        read_volume(tmp_path)
    patient.write_series(tmp_path / "a", patient.Spec())
    patient.check(read_volume(str(tmp_path)))
    patient.write_series(tmp_path / "b", patient.Spec())
    with pytest.raises(ReadError, match="holds 2 series, name one of them"):
        read_volume(tmp_path)


def test_a_single_file_that_is_no_volume_says_why(tmp_path, patient):
    (tmp_path / "notes.txt").write_text("words")
    with pytest.raises(ReadError, match=r"not a CT format: \.txt"):
        read_volume(tmp_path / "notes.txt")
    (file,) = patient.write_series(tmp_path, patient.Spec(slices=1))
    with pytest.raises(ReadError, match="give the folder of the whole series"):
        read_volume(file)


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("scan", "labels", "liver", "spleen"),
    [
        ("abdomen/amos/amos_0001.nii.gz", "abdomen/amos/amos_0001_labels.nii.gz", 6, 1),
        (
            "abdomen/totalsegmentator/example_ct.nii.gz",
            "abdomen/totalsegmentator/example_ct_labels.nii.gz",
            5,
            1,
        ),
        ("dicom/jpeg2000_series", "abdomen/totalsegmentator/example_ct_dicom_labels.nii.gz", 5, 1),
    ],
)
def test_organs_lie_where_the_axes_say_and_geometries_agree(real_data, scan, labels, liver, spleen):
    volume = read_volume(real_data / scan)
    mask, affine = read_labels(real_data / labels, {liver, spleen})
    assert mask.shape == volume.hu.shape
    spacing, direction, origin = split_affine(affine)
    assert np.allclose(spacing, volume.spacing_mm, atol=1e-3)
    assert np.allclose(direction, volume.direction, atol=1e-4)
    assert np.allclose(origin, volume.origin_mm, atol=0.05)
    assert centre(mask == liver)[2] < centre(mask == spleen)[2], "the liver is on the patient's right"
    assert 0 < volume.hu[mask == liver].mean() < 200
    assert 0 < volume.hu[mask == spleen].mean() < 200
    assert np.mean((volume.hu[mask == liver] > -20) & (volume.hu[mask == liver] < 250)) > 0.9


@pytest.mark.realdata
def test_liver_is_above_the_hips_and_spine_is_posterior(real_data):
    folder = real_data / "abdomen" / "totalsegmentator"
    mask, _ = read_labels(folder / "example_ct_labels.nii.gz", {5, 52, 77, 78})
    assert centre(mask == 5)[0] + 20 < centre(np.isin(mask, (77, 78)))[0], "hips are below the liver"
    assert centre(mask == 5)[1] < centre(mask == 52)[1] + 10
    volume = read_volume(folder / "example_ct.nii.gz")
    body, bone = volume.hu > -300, volume.hu > 300
    assert centre(bone)[1] > centre(body)[1], "bone is mostly posterior"
