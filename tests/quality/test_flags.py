"""Flags from notes."""

import pytest

from voco2d.quality.flags import EXPLANATIONS, NOTE_FLAGS, find_flags, note_flags

PLAIN = {
    "n_slices": 100,
    "coverage_mm": 400.0,
    "is_limited": False,
    "liver_side": "right",
    "is_abdomen": "yes",
    "coverage_state": "complete",
    "body_share": 0.7,
    "cut_share": 0.0,
    "metal_share": 0.0,
    "noise_hu": 10.0,
    "fat_peak_hu": -100.0,
    "soft_peak_hu": 50.0,
    "fat_share": 0.3,
    "soft_share": 0.5,
    "hu_p01": -1024.0,
}


def test_first_words_are_read():
    assert note_flags(["gap: 3 mm", "no rescale: x", "windowed: 0 to 255", "odd thing"]) == {
        "gaps",
        "no_rescale",
        "windowed",
    }


def test_every_flag_is_explained():
    assert set(NOTE_FLAGS.values()) <= set(EXPLANATIONS)


@pytest.mark.parametrize(
    ("changes", "notes", "flags"),
    [
        ({}, (), ""),
        ({"n_slices": 19}, (), "short"),
        ({"coverage_mm": 59.0}, (), "short"),
        ({}, ("tilt: 15.0 deg, corrected by shear",), "tilt"),
        ({}, ("gap: slice distances 5 to 10 mm where 5 mm is usual, 1 odd, 1 missing",), "gaps"),
        ({}, ("duplicates: 2",), "duplicates"),
        ({}, ("windowed: values 0 to 255 taken as a window of -150 to 250 HU",), "windowed"),
        ({"is_limited": True, "hu_p01": -150.0}, (), "windowed"),
        ({"hu_p01": -150.0}, (), "odd_hu"),
        ({"liver_side": "left"}, (), "mirrored_suspect"),
        ({"is_abdomen": "no"}, (), "not_abdomen"),
        ({"coverage_state": "partial"}, (), "incomplete_coverage"),
    ],
)
def test_each_finding_gives_its_flag_and_no_other(changes, notes, flags):
    assert find_flags({**PLAIN, **changes}, notes) == flags
    assert set(filter(None, flags.split(";"))) <= set(EXPLANATIONS)
