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
