"""High-throughput JPEG 2000 (ISO/IEC 15444-15), which DICOM has had since 2024 (PS3.5 A.4.4)."""

import base64
import struct

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import HTJ2K, HTJ2KLossless, HTJ2KLosslessRPCL

from voco2d.errors import ReadError
from voco2d.io.dicom_pixels import read_slice_hu

# encoded without losses by OpenJPH 0.26.3, 12 x 16 pixels of 16 bits; decoders of plain JPEG 2000 can't read it
CODESTREAM = base64.b64decode(
    "/0//UQApQAAAAAAQAAAADAAAAAAAAAAAAAAAEAAAAAwAAAAAAAAAAAABDwEB/1AACAACAAAACv9SAAwAAgABAAUEBEAB/1wAEyCIkJCQkJCQ"
    "kJCQkJCQiIiI/2QAFwABT3BlbkpQSCBWZXIgMC4yNi4zLv+QAAoAAAAAAOQAAf+TwAAmG/4FB3QAAMAAEsAAEsAAEoCUAYd0ABICB3QAUAGH"
    "dADAABUQAATQAATgIZU/yQBjlACHcABiNADBdPoAgjQAwAAWnAABaMAAFpAIIV0sRzUCfEAlJPMAs4AQM5cASBJxo9QDBragVLIs4MRStgCS"
    "Sk86Ia1YhNQn8QLOAABStwDAAC2YAAXQQAArwIMwDaAWRDFGCgPDgDmMA/s5T4/MldAPfgAlolYKCAmoKgkWp9PJycnJyemBWWlLgGOnaBgd"
    "pGNeABUKpfKAAgDxA+EB0Q97AP/Z"
)


def picture() -> np.ndarray:
    stored = np.add.outer(np.arange(12) * 40, np.arange(16) * 7)
    stored[4:8, 5:11] += 300
    return stored


@pytest.mark.parametrize("syntax", [HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K])
def test_high_throughput_jpeg_2000_is_decoded(tmp_path, patient, syntax):
    path = write(tmp_path / "1.dcm", patient, syntax, CODESTREAM)
    np.testing.assert_array_equal(read_slice_hu(path), picture() - 1024)


def test_damaged_high_throughput_jpeg_2000_is_refused(tmp_path, patient):
    huge = bytearray(CODESTREAM)
    huge[8:16] = struct.pack(">LL", 60_000, 60_000)
    for codestream in (CODESTREAM[:200], bytes(huge)):
        with pytest.raises(ReadError, match="damaged or cut short"):
            read_slice_hu(write(tmp_path / "1.dcm", patient, HTJ2KLossless, codestream))


def write(path, patient, syntax, codestream):
    patient.write_slice(path, picture(), patient.Spec(signed=False, intercept=-1024), np.zeros(3), 1)
    ds = dcmread(path)
    ds.PixelData = encapsulate([codestream])
    ds["PixelData"].VR = "OB"
    ds.file_meta.TransferSyntaxUID = syntax
    ds.save_as(path)
    return path
