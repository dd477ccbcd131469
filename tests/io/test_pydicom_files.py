"""The files pydicom tests itself with: odd ones of every modality."""

import contextlib
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import data_manager

from voco2d.errors import ReadError
from voco2d.io.dicom_pixels import read_slice_hu
from voco2d.io.discover import discover
from voco2d.io.readers import read_source

FOLDER = Path(data_manager.__file__).parent / "test_files"
FILES = sorted(path for path in FOLDER.rglob("*") if path.is_file())


def test_there_are_files():
    assert len(FILES) > 50


def test_the_whole_folder_is_told_apart():
    sources, rejections = discover([FOLDER])
    for source in sources:
        with contextlib.suppress(ReadError):
            read_source(source)
    assert all(entry.reason for entry in rejections)
    told = {entry.path for entry in rejections} | {str(file) for source in sources for file in source.files}
    visible = {
        str(path)
        for path in FILES
        if not any(part.startswith(".") for part in path.relative_to(FOLDER).parts) and path.name.lower() != "dicomdir"
    }
    assert visible <= told


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_each_file_alone_is_read_as_pydicom_does_or_refused(path):
    try:
        hu = read_slice_hu(path)
    except ReadError:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(path, force=True)
        if "TransferSyntaxUID" not in dataset.file_meta:
            dataset.file_meta.TransferSyntaxUID = (
                "1.2.840.10008.1.2" if dataset.original_encoding[0] else "1.2.840.10008.1.2.1"
            )
        stored = dataset.pixel_array.astype(np.float64)
    slope, intercept = float(dataset.get("RescaleSlope") or 1), float(dataset.get("RescaleIntercept") or 0)
    expected = np.clip(np.rint(stored * slope + intercept), -32768, 32767)
    if dataset.PhotometricInterpretation == "MONOCHROME2":
        np.testing.assert_array_equal(hu, expected)


def test_some_are_read():
    read = 0
    for path in FILES:
        try:
            read_slice_hu(path)
        except ReadError:
            continue
        read += 1
    assert read >= 20
