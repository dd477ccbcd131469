"""Files that are no files, or far larger than they say; found by tests/mutations."""

import json
import os
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from voco2d.errors import ReadError, UsageError
from voco2d.io.dataset_list import read_dataset_list
from voco2d.io.discover import discover
from voco2d.io.hounsfield import guess_hounsfield
from voco2d.io.numpy_array import read_sidecar
from voco2d.io.path_table import read_path_table
from voco2d.io.readers import read_volume

GIB = 2**30


def reason_of(path: Path) -> str:
    sources, rejections = discover([path.parent])
    assert sources == []
    return {entry.path: entry.reason for entry in rejections}[str(path)]


def test_a_pipe_in_the_competition_layout_is_passed_over(tmp_path: Path) -> None:
    series = tmp_path / "train_images" / "7" / "21"
    series.mkdir(parents=True)
    (series / "1.dcm").write_bytes(b"not looked into yet")
    os.mkfifo(series / "2.dcm")
    (series / "3.dcm").symlink_to("3.dcm")
    sources, rejections = discover([tmp_path])
    assert [source.files for source in sources] == [(series / "1.dcm", series / "3.dcm")]
    assert [(entry.path, entry.reason) for entry in rejections] == [(str(series / "2.dcm"), "not an ordinary file")]


@pytest.mark.parametrize("name", ["1.dcm", "scan.nii", "scan.mha"])
def test_a_link_to_a_name_that_no_file_can_have_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).symlink_to("x" * 300)
    assert "can't be opened (File name too long)" in reason_of(tmp_path / name)


@pytest.mark.parametrize("read", [read_dataset_list, read_path_table])
def test_a_list_of_any_size_is_not_read_into_memory(tmp_path: Path, read: Callable[[Path], object]) -> None:
    path = tmp_path / "list"
    path.write_text('["a.nii"]')
    os.truncate(path, 100 * 2**20)
    with pytest.raises(UsageError, match=r"can't be read as a .* \(ValueError\)"):
        read(path)


def test_a_sidecar_of_any_size_is_not_read_into_memory(tmp_path: Path) -> None:
    (tmp_path / "scan.json").write_text("{}")
    os.truncate(tmp_path / "scan.json", 1024 * GIB)
    with pytest.raises(ReadError, match=r"can't be read as JSON"):
        read_sidecar(tmp_path / "scan.npy")


def test_gzip_with_gigabytes_of_zeros_after_it_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "scan.nii.gz"
    hu = np.random.default_rng(0).integers(-900, 900, (8, 8, 8)).astype(np.int16)
    nib.save(nib.Nifti1Image(hu, np.diag([1.0, 1.0, 2.0, 1.0])), path)
    assert read_volume(path).hu.shape == (8, 8, 8)
    os.truncate(path, path.stat().st_size + 1000)
    assert read_volume(path).hu.shape == (8, 8, 8)
    os.truncate(path, 3 * GIB)
    with pytest.raises(ReadError, match="far more than the header says"):
        read_volume(path)


@pytest.mark.parametrize("detached", [False, True])
def test_damage_in_the_compressed_voxels_of_a_metaimage_is_found(tmp_path: Path, detached: bool) -> None:
    pytest.importorskip("SimpleITK")
    hu = np.random.default_rng(0).integers(-900, 900, (6, 8, 10)).astype("<i2")
    packed = zlib.compress(hu.tobytes())
    head = (
        "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nCompressedData = True\n"
        f"CompressedDataSize = {len(packed)}\nElementSpacing = 1 1 3\nDimSize = 10 8 6\nElementType = MET_SHORT\n"
        f"ElementDataFile = {'scan.zraw' if detached else 'LOCAL'}\n"
    ).encode()
    path = tmp_path / ("scan.mhd" if detached else "scan.mha")

    def write(voxels: bytes) -> None:
        path.write_bytes(head if detached else head + voxels)
        if detached:
            (tmp_path / "scan.zraw").write_bytes(voxels)

    write(packed)
    np.testing.assert_array_equal(read_volume(path).hu, hu[::-1])
    middle = len(packed) // 2
    for damaged in (packed[:middle] + bytes(8) + packed[middle + 8 :], packed[:-40]):
        write(damaged)
        with pytest.raises(ReadError, match="damaged, cut short"):
            read_volume(path)


@pytest.mark.parametrize("line", [b"a" * 1000, b"kinds: " + b"a" * 4000, b"k:=v\n" * 20_000])
def test_a_header_that_kills_itk_is_refused(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "scan.nrrd"
    fields = b"\ntype: short\ndimension: 3\nsizes: 8 8 8\nencoding: raw\n\n"
    path.write_bytes(b"NRRD0004\n" + line + fields + bytes(1024))
    with pytest.raises(ReadError, match="no end or a line that is too long"):
        read_volume(path)


@pytest.mark.parametrize("target", [".", "scan.npy", "x" * 300])
def test_a_sidecar_without_an_array_is_listed(tmp_path: Path, target: str) -> None:
    (tmp_path / "scan.json").write_text("{}")
    (tmp_path / "scan.npy").symlink_to(target)
    _, rejections = discover([tmp_path])
    assert str(tmp_path / "scan.json") in [entry.path for entry in rejections]


def test_an_array_whose_sidecar_can_have_no_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / f"{'n' * 251}.npy"
    np.save(path, np.zeros((6, 4, 4), np.int16))
    with pytest.raises(ReadError, match="json beside it"):
        read_volume(path)


def test_an_array_of_more_values_than_a_machine_can_count_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scan.npy"
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<i2", "fortran_order": False, "shape": (10**30, 1, 1)})
    sidecar = {"axes": "IPL", "spacing_mm": [1, 1, 1], "intensity": "hu"}
    path.with_suffix(".json").write_text(json.dumps(sidecar))
    with pytest.raises(ReadError, match="not a plain NumPy array, or damaged"):
        read_volume(path)


def test_a_turned_volume_is_checked_without_a_copy_of_it(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    stored = draw.integers(-900, 900, (64, 256, 512)).astype(np.int16)
    turned = stored.transpose(2, 1, 0)[::-1]
    tracemalloc.start()
    hu, _ = guess_hounsfield(turned, tmp_path / "scan.nii")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(hu, turned)
    assert peak < 1.5 * stored.nbytes  # the result, and no second copy
