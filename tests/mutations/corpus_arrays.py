"""Small sound volumes in one file each, lists and tables that name some, and a sample of real files."""

import gzip
import io
import json
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom

from corpus import MARKERS, Files, dicom_cases, patient

LISTS = ("list.json", "table.csv")
"""Names of files that are given to be read in place of their folder."""

_LARGEST_REAL_FILE = 8 * 2**20
_LEAST_SLICES = 5
_LEAST_MARKER = 6


def build() -> dict[str, Files]:
    """Every case by its name."""
    hu = patient()
    arrays = _nifti(hu) | {"npy": _npy(hu), "mha": _mha(hu), "nrrd": _nrrd(hu)}
    arrays["mha-deflated"], arrays["nrrd-gzip"] = _mha(hu, is_packed=True), _nrrd(hu, is_packed=True)
    return dicom_cases(hu) | arrays | _lists(arrays)


def real_cases(root: Path) -> tuple[dict[str, Files], tuple[str, ...]]:
    """Real series and volumes below `root`, and the patients' identifiers in their headers.

    Args:
        root: A folder with `dicom/` (a folder a series) and `abdomen/` (NIfTI files).
    """
    cases: dict[str, Files] = {}
    markers = set()
    for folder in sorted(entry for entry in (root / "dicom").iterdir() if entry.is_dir()):
        files: Files = {f"{path.stem}.dcm": path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}
        if len(files) >= _LEAST_SLICES:
            cases[f"real-{folder.name}"] = files
            for data in files.values():
                assert isinstance(data, bytes)
                ds = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True, force=True)
                markers |= {str(ds.get(tag) or "") for tag in ("PatientID", "PatientName", "PatientBirthDate")}
    for path in sorted((root / "abdomen").rglob("*.nii.gz")):
        if path.stat().st_size <= _LARGEST_REAL_FILE and "labels" not in path.name:
            cases[f"real-{path.name.removesuffix('.nii.gz')}"] = {"scan.nii.gz": path.read_bytes()}
    return cases, tuple(sorted(marker for marker in markers if len(marker) >= _LEAST_MARKER))


def _nifti(hu: np.ndarray) -> dict[str, Files]:
    image = nib.Nifti1Image(hu.transpose(2, 1, 0), np.diag([-1.0, -1.0, 3.0, 1.0]))
    # superior comes first in `hu`, so the third axis of the file runs downwards
    image = nib.Nifti1Image(np.asarray(image.dataobj)[:, :, ::-1], image.affine)
    image.header["descrip"], image.header["aux_file"] = MARKERS[0].encode(), MARKERS[1].encode()
    data = image.to_bytes()
    return {"nii": {"scan.nii": data}, "nii.gz": {"scan.nii.gz": gzip.compress(data, mtime=0)}}


def _npy(hu: np.ndarray) -> Files:
    buffer = io.BytesIO()
    np.save(buffer, hu)
    sidecar = {"axes": "IPL", "spacing_mm": [3, 1, 1], "intensity": "hu", "patient_id": MARKERS[1]}
    return {"scan.npy": buffer.getvalue(), "scan.json": json.dumps(sidecar).encode()}


def _mha(hu: np.ndarray, is_packed: bool = False) -> Files:
    z, h, w = hu.shape
    raw = hu[::-1].astype("<i2").tobytes()
    packed = zlib.compress(raw)
    more = f"CompressedData = True\nCompressedDataSize = {len(packed)}\n" if is_packed else ""
    head = (
        f"ObjectType = Image\nNDims = 3\nComment = {MARKERS[0]}\nBinaryData = True\nBinaryDataByteOrderMSB = False\n"
        f"{more}TransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = 0 0 0\nElementSpacing = 1 1 3\nDimSize = {w} {h} {z}\n"
        f"ElementType = MET_SHORT\nElementDataFile = LOCAL\n"
    )
    return {"scan.mha": head.encode() + (packed if is_packed else raw)}


def _nrrd(hu: np.ndarray, is_packed: bool = False) -> Files:
    z, h, w = hu.shape
    raw = hu[::-1].astype("<i2").tobytes()
    head = (
        f"NRRD0005\n# {MARKERS[0]}\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: {w} {h} {z}\n"
        "space directions: (1,0,0) (0,1,0) (0,0,3)\nkinds: domain domain domain\nendian: little\n"
        f"encoding: {'gzip' if is_packed else 'raw'}\nspace origin: (0,0,0)\npatient:={MARKERS[1]}\n\n"
    )
    return {"scan.nrrd": head.encode() + (gzip.compress(raw, mtime=0) if is_packed else raw)}


def _lists(arrays: dict[str, Files]) -> dict[str, Files]:
    scans = {f"images/{file}": data for case in ("nii.gz", "npy") for file, data in arrays[case].items()}
    named = [name for name in scans if not name.endswith(".json")]
    listed = {
        "name": MARKERS[0],
        "modality": {"0": "CT"},
        "training": [{"image": name, "label": "images/none.nii.gz", "patient": MARKERS[1]} for name in named],
        "test": ["images/scan.npy"],
    }
    lines = ["path,patient_id,born", *(f"{name},{MARKERS[1]}-{z},{MARKERS[2]}" for z, name in enumerate(named))]
    return {
        "json-list": {**scans, "list.json": json.dumps(listed, indent=1).encode()},
        "csv-table": {**scans, "table.csv": "\r\n".join(lines).encode()},
    }
