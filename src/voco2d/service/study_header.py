"""Makes what answers repeat of an image's header fit to be repeated: the patient, the study, the character set."""

from typing import Final

from pydicom.config import RAISE
from pydicom.datadict import dictionary_has_tag, dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag
from pydicom.valuerep import DA, TM, validate_value

from voco2d.io.dicom_elements import DAMAGED_FILE_ERRORS, words

TYPE_2: Final = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate", "StudyTime"),
    *("AccessionNumber", "ReferringPhysicianName"),
)
"""Attributes that every DICOM object of a study repeats, empty where nobody knows (PS3.3 C.7.1.1, C.7.2.1)."""

_PATIENT: Final = 0x0010
_CHECKED: Final = frozenset({"AS", "CS", "DA", "DS", "IS", "TM"})
_PARSED: Final = {"DA": DA, "TM": TM}
"""What looks like a date may be none, as 19700000, or a range of dates."""
_SEXES: Final = frozenset({"M", "F", "O"})
_PLAIN: Final = "ISO_IR 6"
_PLAIN_EXTENDED: Final = "ISO 2022 IR 6"


def mend_header(header: Dataset) -> None:
    """Make the attributes of patient and study, and the character set, such that other objects may repeat them.

    Dates, times, codes and numbers that are none are emptied, and so is a name that is several: no object may hold
    them. Text stays as it came, whatever its length, for an identifier that is changed leads to another patient.

    Args:
        header: Is changed.
    """
    patient = [tag for tag in header.keys() if tag.group == _PATIENT]  # noqa: SIM118, a data set iterates otherwise
    study = [BaseTag(tag_for_keyword(name) or 0) for name in TYPE_2]
    for tag in {*patient, *study}:
        if tag in header and not _is_sound(header, tag):
            del header[tag]
    for name in TYPE_2:
        if name not in header:
            setattr(header, name, "")
    _mend_character_set(header)


def copy_character_set(header: Dataset, answer: Dataset) -> None:
    """Give an answer the character set of the header whose texts it repeats.

    highdicom takes it as an argument, but refuses those of Chinese and Korean names (PS3.3 C.12.1.1.2).
    """
    if "SpecificCharacterSet" in header:
        answer.SpecificCharacterSet = header.SpecificCharacterSet


def _is_sound(header: Dataset, tag: BaseTag) -> bool:
    """Tell whether an element can be read and holds what its kind (VR) may hold."""
    try:
        element = header[tag]
        kind = dictionary_VR(tag) if dictionary_has_tag(tag) else element.VR
        if element.is_empty:
            return True
        if element.keyword == "PatientSex":
            return str(element.value) in _SEXES
        if kind == "PN":
            return element.VM == 1
        if kind in _CHECKED:
            for value in element.value if element.VM > 1 else [element.value]:
                validate_value(kind, str(value), RAISE)
        if kind in _PARSED:
            _PARSED[kind](element.value)
    except DAMAGED_FILE_ERRORS:
        return False
    return True


def _mend_character_set(header: Dataset) -> None:
    """Spell the default repertoire as the standard does: not at all, or before others as one of several."""
    first, *others = words(header, "SpecificCharacterSet").split("\\")
    if first in ("", _PLAIN):
        first = _PLAIN_EXTENDED if others else ""
    if first:
        header.SpecificCharacterSet = [first, *others] if others else first
    elif "SpecificCharacterSet" in header:
        del header.SpecificCharacterSet
