"""Errors keep what they say when they cross a process boundary."""

import pickle

from voco2d.errors import ReadError


def test_read_error_is_picklable() -> None:
    error = pickle.loads(pickle.dumps(ReadError("scan.nii", "two slices")))
    assert (error.path, error.reason, str(error)) == ("scan.nii", "two slices", "scan.nii: two slices")
