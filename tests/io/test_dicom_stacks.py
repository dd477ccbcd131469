from dataclasses import replace
from pathlib import Path

import pytest

from voco2d.io.dicom_header import SliceHeader
from voco2d.io.dicom_stacks import split_stacks
from voco2d.io.discover import discover
from voco2d.io.readers import read_source

CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)


def headers(heights, **changes):
    one = SliceHeader(
        path=Path("x"),
        shape=(8, 8),
        position_mm=(0.0, 0.0, 0.0),
        orientation=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
        pixel_spacing_mm=(1.0, 1.0),
        instance_number=1,
        patient_id="",
        study_id="",
        series_id="1",
        has_rescale=True,
    )
    return [
        replace(one, path=Path(f"{height}"), position_mm=(0.0, 0.0, float(height)), **changes) for height in heights
    ]


def sizes(slices, least=3):
    stacks, rejections = split_stacks(slices, least)
    return [len(stack) for stack in stacks], [rejection.reason for rejection in rejections]


def test_two_acquisitions_of_the_same_positions_are_two_volumes():
    before, after = headers(range(6), acquisition=("1", "")), headers(range(7), acquisition=("2", ""))
    assert sizes(before + after) == ([7, 6], [])


def test_an_acquisition_number_that_counts_on_along_the_body_splits_nothing():
    slices = [header for n in range(3) for header in headers(range(4 * n, 4 * n + 4), acquisition=(str(n), ""))]
    assert sizes(slices) == ([12], [])


@pytest.mark.parametrize("offset", [0.3, 1.5])
def test_acquisitions_that_interleave_are_two_volumes(offset):
    before = headers(range(0, 60, 3), acquisition=("1", ""))
    after = headers([z + offset for z in range(0, 60, 3)], acquisition=("2", ""))
    assert sizes(before + after) == ([20, 20], [])


def test_two_phases_of_many_acquisitions_each_are_two_volumes():
    slices = [
        header
        for phase in (0, 10)
        for n in range(5)
        for header in headers(range(4 * n, 4 * n + 4), acquisition=(str(phase + n), ""))
    ]
    assert sizes(slices) == ([20, 20], [])


def test_an_acquisition_a_slice_is_one_scan():
    slices = [header for n in range(12) for header in headers([5 * n], acquisition=(str(n), ""))]
    assert sizes(slices) == ([12], [])


def test_temporal_positions_are_volumes():
    slices = [header for n in range(3) for header in headers(range(5), acquisition=("1", str(n)))]
    assert sizes(slices) == ([5, 5, 5], [])


def test_duplicates_without_a_mark_stay_together():
    assert sizes(headers(range(5)) + headers([2])) == ([6], [])


def test_slabs_far_apart_are_volumes_and_a_missing_slice_is_not():
    assert sizes(headers([0, 4, 8, 224, 228, 232])) == ([3, 3], [])
    assert sizes(headers([0, 4, 8, 40, 44])) == ([5], [])


def test_a_slab_too_small_is_rejected_with_the_reason():
    assert sizes(headers([0, 4, 8, 224])) == ([3], ["a slab far from the rest of too few slices for a volume"])


def test_a_change_of_the_field_of_view_is_another_volume():
    assert sizes(headers(range(6)) + headers(range(4), pixel_spacing_mm=(0.7, 0.7))) == ([6, 4], [])


def test_reformats_are_told_from_axial_slices_however_many_they_are():
    found = sizes(headers(range(4)) + headers(range(9), orientation=CORONAL))
    assert found == ([4], ["not axial: the slice normal is 90 degrees off the body's long axis"] * 9)


def test_a_slice_off_the_line_of_the_others_is_rejected():
    slices = headers(range(0, 30, 5))
    slices[2] = replace(slices[2], position_mm=(0.0, 60_000.0, 10.0))
    assert sizes(slices) == ([5], ["slices off the line of the others of too few slices for a volume"])


def test_a_leaning_line_stays_whole():
    slices = [replace(one, position_mm=(0.0, 0.4 * n, float(n))) for n, one in enumerate(headers(range(40)))]
    assert sizes(slices) == ([40], [])


def test_too_small_a_series_is_returned_for_its_reader_to_refuse():
    assert sizes(headers(range(2))) == ([2], [])


def test_acquisitions_in_files_become_sources_with_ids_of_their_own(tmp_path, patient):
    for n in (1, 2):
        patient.write_series(tmp_path, patient.Spec(tags={"AcquisitionNumber": n}), [f"{n}-{i}.dcm" for i in range(8)])
    sources, rejections = discover([tmp_path])
    assert rejections == []
    volumes = [read_source(source)[0] for source in sources]
    assert [volume.series_id for volume in volumes] == ["1.2.3.4-1", "1.2.3.4-2"]
    assert [volume.notes for volume in volumes] == [
        ("split: part 1 of 2 of the series",),
        ("split: part 2 of 2 of the series",),
    ]
    for volume in volumes:
        patient.check(volume)


@pytest.mark.realdata
def test_real_slabs_are_two_volumes(real_data):
    sources, rejections = discover([real_data / "dicom" / "two_slabs_gap"])
    assert [len(source.files) for source in sources] == [5, 5]
    assert rejections == []
