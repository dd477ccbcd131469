import nibabel as nib
import numpy as np
import pytest

from voco2d.errors import UsageError
from voco2d.io.discover import discover
from voco2d.io.path_table import read_path_table
from voco2d.io.readers import read_source


def test_paths_and_ids_come_from_the_table(tmp_path, patient):
    patient.write_series(tmp_path / "one", patient.Spec())
    (tmp_path / "b.nii").touch()
    (tmp_path / "list.csv").write_text("path,patient_id,series_id,age\none,p1,s1,9\nb.nii,,,\nc.nii,p2,s2,3\n\n")
    sources, rejections = discover([tmp_path / "list.csv"])
    assert [(source.path.name, source.patient_id, source.series_id) for source in sources] == [
        ("b.nii", None, None),
        ("one", "p1", "s1"),
    ]
    assert [entry.reason for entry in rejections] == ["line 4 of list.csv: missing"]
    volume, _ = read_source(sources[1])
    assert (volume.patient_id, volume.series_id) == ("p1", "s1")


def test_study_and_patient_of_a_line_are_those_of_all_its_series(tmp_path, patient, caplog):
    """A folder of two series gave both the series_id of its line, and one could pass for the other."""
    for uid in ("1.2.3.4", "1.2.3.5"):
        spec = patient.Spec(tags={"SeriesInstanceUID": uid})
        patient.write_series(tmp_path / "two", spec, [f"{uid}-{i}" for i in range(spec.slices)])
    (tmp_path / "list.csv").write_text("path,patient_id,study_id,series_id\ntwo,p1,v1,s1\n")
    sources, _ = discover([tmp_path / "list.csv"])
    ids = [(volume.patient_id, volume.study_id, volume.series_id) for volume, _ in map(read_source, sources)]
    assert ids == [("p1", "v1", "1.2.3.4"), ("p1", "v1", "1.2.3.5")]
    assert "series_id not used of 1 paths in the table that hold several series" in caplog.text


def test_the_stacks_of_one_series_share_its_id(tmp_path, patient, caplog):
    spec = patient.Spec()
    patient.write_series(tmp_path / "one", spec)
    far = patient.Spec(origin_mm=(-10.0, -8.0, 400.0))
    patient.write_series(tmp_path / "one", far, [f"far{i}" for i in range(far.slices)])
    (tmp_path / "list.csv").write_text("path,patient_id,series_id\none,p1,s1\n")
    sources, _ = discover([tmp_path / "list.csv"])
    assert sorted(read_source(source)[0].series_id for source in sources) == ["s1-1", "s1-2"]
    assert not caplog.records


@pytest.mark.parametrize("kind", ["nii", "npy"])
def test_the_study_of_the_table_goes_to_every_format(tmp_path, patient, kind):
    hu = np.rint(patient.sample(np.diag([5.0, 2.0, 2.0, 1.0]), (8, 8, 10))).astype(np.int16)
    if kind == "nii":
        nib.save(nib.Nifti1Image(hu, np.diag([5.0, 2.0, 2.0, 1.0])), tmp_path / "a.nii")
    else:
        np.save(tmp_path / "a.npy", hu)
        (tmp_path / "a.json").write_text('{"axes": "IPL", "spacing_mm": [5, 2, 2], "intensity": "hu"}')
    (tmp_path / "list.csv").write_text(f"path,study_id\na.{kind},v1\n")
    (source,), _ = discover([tmp_path / "list.csv"])
    assert read_source(source)[0].study_id == "v1"


@pytest.mark.parametrize("separator", [";", "\t"])
def test_semicolons_and_tabs_separate_too(tmp_path, separator):
    (tmp_path / "b, 2.nii").touch()
    lines = [["path", "patient_id", "series_id"], ["b, 2.nii", "p1", "s1"]]
    (tmp_path / "list.csv").write_text("\n".join(separator.join(line) for line in lines))
    (listed,), missing = read_path_table(tmp_path / "list.csv")
    assert (listed.path.name, listed.patient_id, listed.series_id, missing) == ("b, 2.nii", "p1", "s1", [])


def test_a_header_alone_is_told_as_such(tmp_path):
    (tmp_path / "list.csv").write_text("path,patient_id\n")
    with pytest.raises(UsageError, match="a table of paths without rows; add a line for each scan"):
        read_path_table(tmp_path / "list.csv")


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n", "path\n", b"\xff\xfe\x00\x01"])
def test_other_tables_are_wrong_use(tmp_path, content):
    table = tmp_path / "list.csv"
    table.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UsageError, match="table of paths"):
        read_path_table(table)


def test_a_path_listed_twice_is_taken_once(tmp_path):
    (tmp_path / "b.nii").touch()
    (tmp_path / "list.csv").write_text("file\nb.nii\nb.nii\n")
    listed, _ = read_path_table(tmp_path / "list.csv")
    assert len(listed) == 1


def test_one_scan_of_two_patients_is_refused(tmp_path):
    (tmp_path / "b.nii").touch()
    (tmp_path / "list.csv").write_text("path,patient_id\nb.nii,A\nb.nii,B\n")
    with pytest.raises(UsageError, match="line 3 gives a path of an earlier line other ids"):
        read_path_table(tmp_path / "list.csv")
