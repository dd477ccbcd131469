"""Flags from notes."""

from voco2d.quality.flags import EXPLANATIONS, NOTE_FLAGS, note_flags


def test_first_words_are_read():
    assert note_flags(["gap: 3 mm", "no rescale: x", "windowed: 0 to 255", "odd thing"]) == {
        "gaps",
        "no_rescale",
        "windowed",
    }


def test_every_flag_is_explained():
    assert set(NOTE_FLAGS.values()) <= set(EXPLANATIONS)
