import numpy as np
import pytest

from voco2d.errors import ReadError
from voco2d.io.discover import discover
from voco2d.io.readers import read_source, read_volume

itk = pytest.importorskip("SimpleITK")


def write(path, patient, spec=None, **changes):
    spec = spec or patient.Spec()
    affine = patient.slice_affine(spec)
    hu = np.rint(patient.sample(affine, (spec.slices, *spec.shape))).astype(np.int16)
    image = itk.GetImageFromArray(hu)
    steps = affine[:3, [2, 1, 0]]
    spacing = np.linalg.norm(steps, axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((steps / spacing).ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    itk.WriteImage(image, str(path), **changes)
    return path


@pytest.mark.parametrize("name", ["a.nrrd", "a.nhdr", "a.mha", "a.mhd"])
@pytest.mark.parametrize("orientation", [(1, 0, 0, 0, 1, 0), (-1, 0, 0, 0, -1, 0), (0, 1, 0, 1, 0, 0)])
@pytest.mark.parametrize("compressed", [False, True])
def test_every_orientation_ends_in_patient_axes(tmp_path, patient, name, orientation, compressed):
    write(tmp_path / name, patient, patient.Spec(orientation=orientation), useCompression=compressed)
    sources, rejections = discover([tmp_path])
    assert rejections == []  # the voxels beside a detached header are no stray file
    volume, _ = read_source(sources[0])
    patient.check(volume)
    assert volume.patient_id == "a"


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha"])
def test_cut_files_are_refused(tmp_path, patient, name):
    path = write(tmp_path / name, patient)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ReadError, match="cut short"):
        read_volume(path)


@pytest.mark.parametrize(("name", "data"), [("a.nrrd", None), ("a.mha", None), ("a.nhdr", "a.raw"), ("a.mhd", "a.raw")])
def test_without_compression_the_file_must_hold_every_voxel(tmp_path, patient, name, data, monkeypatch):
    """A byte of a file without compression stood for up to 1,040 voxels, all of them allocated before the read."""
    path = write(tmp_path / name, patient, patient.Spec(slices=40))
    holder = tmp_path / (data or name)
    holder.write_bytes(holder.read_bytes()[: holder.stat().st_size // 2])
    monkeypatch.setattr(itk.ImageFileReader, "Execute", lambda *_: pytest.fail("tried to read it"))
    with pytest.raises(ReadError, match="more than the file can hold"):
        read_volume(path)


def test_voxels_written_as_text_are_read(tmp_path):
    rows = np.random.default_rng(0).integers(-1000, 9, 6 * 4 * 4)
    head = "NRRD0004\ntype: short\ndimension: 3\nsizes: 4 4 6\nencoding: ascii\nspace: left-posterior-superior\n"
    head += "space directions: (1,0,0) (0,1,0) (0,0,2)\nspace origin: (0,0,0)\n\n"
    (tmp_path / "a.nrrd").write_text(head + " ".join(map(str, rows)) + "\n")
    assert read_volume(tmp_path / "a.nrrd").hu.shape == (6, 4, 4)


def test_sizes_that_lie_are_refused_before_memory_is_taken(tmp_path, patient):
    path = write(tmp_path / "a.mha", patient)
    path.write_bytes(path.read_bytes().replace(b"DimSize = 10 8 8", b"DimSize = 9000 9000 20"))
    with pytest.raises(ReadError, match="more than the file can hold"):
        read_volume(path)


def test_colours_are_refused(tmp_path):
    itk.WriteImage(itk.GetImageFromArray(np.zeros((6, 4, 4, 3), np.uint8), isVector=True), str(tmp_path / "a.mha"))
    with pytest.raises(ReadError, match="one number a voxel"):
        read_volume(tmp_path / "a.mha")


def test_a_missing_library_names_its_extra(tmp_path, patient, monkeypatch):
    path = write(tmp_path / "a.mha", patient)
    monkeypatch.setitem(__import__("sys").modules, "SimpleITK", None)
    with pytest.raises(ReadError, match=r'pip install "voco2d\[itk\]"'):
        read_volume(path)


def test_a_header_cannot_make_a_file_elsewhere_vanish(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "secret.txt").write_text("x")
    (tmp_path / "in" / "a.mhd").write_text("ElementDataFile = ../secret.txt\n")
    _, rejections = discover([tmp_path])
    assert str(tmp_path / "secret.txt") in [entry.path for entry in rejections]


@pytest.mark.parametrize("named", ["../secret.raw", "secret/../../secret.raw", "LIST", "a%02d.raw 1 5 1", "none.raw"])
@pytest.mark.parametrize("suffix", [".mhd", ".mha", ".nhdr"])
def test_voxels_are_never_taken_from_elsewhere(tmp_path, patient, named, suffix):
    """A header could name any file of the machine, and ITK opens what it names."""
    (tmp_path / "in").mkdir()
    path = write(tmp_path / "in" / f"a{suffix}", patient)
    (tmp_path / "secret.raw").write_bytes(bytes(2000))
    mark = b"data file: " if suffix == ".nhdr" else b"ElementDataFile = "
    head, _, tail = path.read_bytes().partition(mark)
    path.write_bytes(head + mark + named.encode() + b"\n" + tail.partition(b"\n")[2])
    _, rejections = discover([tmp_path / "in"])
    assert "its voxels lie in a file" in {entry.path: entry.reason for entry in rejections}[str(path)]
