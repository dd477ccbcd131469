"""Two scans of the same part of the body in one series are two volumes, and never mixed slice by slice."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from voco2d.io.dicom_header import SliceHeader
from voco2d.io.dicom_passes import split_doubled, split_named, split_ordered
from voco2d.io.dicom_stacks import split_stacks
from voco2d.io.discover import discover
from voco2d.io.readers import read_source

SLICES = 8
HU = {"A": 11, "B": 222}


def write_passes(folder, patient, tags_of, files="{number}.dcm"):
    """Write passes A and B of constant HU at the same positions; names are shuffled so that they tell nothing."""
    spec = patient.Spec()
    names = np.random.default_rng(5).permutation(2 * SLICES)
    for order, which in enumerate("AB"):
        for z in range(SLICES):
            tags = tags_of(which, z)
            number = tags.pop("InstanceNumber", z + 1)
            path = folder / files.format(number=names[order * SLICES + z])
            stored = np.full(spec.shape, HU[which])
            position = np.add(spec.origin_mm, (0, 0, 5.0 * z))
            patient.write_slice(path, stored, spec.but(tags=tags), position, number)


def assert_two_pure_volumes(folder):
    sources, rejections = discover([folder])
    assert rejections == []
    read = [read_source(source) for source in sources]
    assert [left_out for _, left_out in read] == [(), ()]
    assert sorted((int(volume.hu.min()), int(volume.hu.max())) for volume, _ in read) == [(11, 11), (222, 222)]
    assert [volume.hu.shape[0] for volume, _ in read] == [SLICES, SLICES]
    parts = sorted(volume.notes for volume, _ in read)
    assert parts == [(f"split: part {n} of 2 of the series",) for n in (1, 2)]


SEPARATING = {
    "one time of acquisition a pass": lambda which, _: {"AcquisitionTime": {"A": "101500", "B": "101530.25"}[which]},
    "a time of acquisition a slice": lambda which, z: {"AcquisitionTime": f"10{'AB'.index(which):02d}{z:02d}.5"},
    "date and time": lambda which, z: {"AcquisitionDateTime": f"2024013110{'BA'.index(which):02d}{z:02d}+0100"},
    "midnight": lambda which, _: {
        "AcquisitionDate": {"A": "20240131", "B": "20240201"}[which],
        "AcquisitionTime": {"A": "235950", "B": "000010"}[which],
    },
    "kernel": lambda which, _: {"ConvolutionKernel": {"A": ["B30f", "3"], "B": ["B70f", "3"]}[which]},
    "time of content": lambda which, z: {"AcquisitionTime": "101500", "ContentTime": f"10{'AB'.index(which)}0{z:02d}"},
    "runs of instance numbers": lambda which, z: {"InstanceNumber": 1 + z + SLICES * "AB".index(which)},
    "turns of instance numbers": lambda which, z: {"InstanceNumber": 1 + 2 * z + "AB".index(which)},
    "turns of time": lambda which, z: {"AcquisitionTime": f"1015{2 * z + 'AB'.index(which):02d}"},
    "slice thickness": lambda which, _: {"SliceThickness": {"A": 1.5, "B": 5}[which]},
    "tube voltage": lambda which, _: {"KVP": {"A": 80, "B": 140}[which]},
    "image type": lambda which, _: {"ImageType": ["DERIVED", "PRIMARY", "AXIAL", {"A": "M_05", "B": "BLEND"}[which]]},
    "one pass upwards, one downwards": lambda which, z: {
        "AcquisitionTime": f"10150{z}" if which == "A" else f"10200{SLICES - z}"
    },
}


@pytest.mark.parametrize("name", SEPARATING)
def test_two_passes_without_acquisition_numbers_are_two_volumes(tmp_path, patient, name):
    write_passes(tmp_path, patient, SEPARATING[name])
    assert_two_pure_volumes(tmp_path)


def test_copies_under_other_numbers_stay_duplicates(tmp_path, patient):
    spec = patient.Spec()
    affine = patient.slice_affine(spec)
    files = patient.write_series(tmp_path, spec)
    hu = patient.sample(affine, (spec.slices, *spec.shape))
    for z in range(spec.slices):
        tags = {"ContentTime": "113000"}
        position = affine[:3, 3] + z * affine[:3, 0]
        patient.write_slice(tmp_path / f"copy{z}.dcm", hu[z], spec.but(tags=tags), position, z + 101)
    (source,), _ = discover([tmp_path])
    volume, rejections = read_source(source)
    patient.check(volume)
    assert volume.notes == ("duplicates: 8",)
    assert {Path(entry.path).name for entry in rejections} == {f"copy{z}.dcm" for z in range(8)}
    assert len(files) == volume.hu.shape[0]


def test_a_few_slices_taken_again_are_duplicates_of_the_stated_rule(tmp_path, patient):
    spec = patient.Spec()
    affine = patient.slice_affine(spec)
    for z in range(spec.slices):
        tags = {"AcquisitionTime": f"1015{z:02d}"}
        hu = patient.sample(affine, (spec.slices, *spec.shape))[z]
        patient.write_slice(tmp_path / f"{z}.dcm", hu, spec.but(tags=tags), affine[:3, 3] + z * affine[:3, 0], z + 1)
    for z in (2, 5):
        again = spec.but(tags={"AcquisitionTime": f"1016{z:02d}"})
        patient.write_slice(tmp_path / f"x{z}.dcm", hu * 0, again, affine[:3, 3] + z * affine[:3, 0], z + 50)
    (source,), _ = discover([tmp_path])
    volume, rejections = read_source(source)
    patient.check(volume)
    assert volume.notes == ("duplicates: 2, 2 of them with another picture",)
    assert {Path(entry.path).name for entry in rejections} == {"x2.dcm", "x5.dcm"}


def test_passes_that_nothing_tells_apart_are_said_to_differ(tmp_path, patient):
    write_passes(tmp_path, patient, lambda *_: {})
    (source,), _ = discover([tmp_path])
    volume, rejections = read_source(source)
    assert volume.notes == ("duplicates: 8, 8 of them with another picture",)
    assert {entry.reason for entry in rejections} == {
        "duplicate: another slice with another picture has the same position"
    }


def test_a_setting_that_changes_along_the_body_splits_nothing():
    def setting(header):
        return header.setting

    heights = [*range(20), 9]
    slices = [replace(one, setting=("thin" if n < 10 else "thick",)) for n, one in enumerate(headers(heights, heights))]
    assert sizes(split_doubled(slices, setting, 5)) == [21]
    copied = [replace(one, setting=(f"{n % 2}",)) for n, one in enumerate(headers([*range(10)] * 2, range(20)))]
    assert sizes(split_doubled(copied, setting, 5)) == [20]  # both of a position have the same


def headers(heights, marks):
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
        replace(one, path=Path(f"{mark}"), position_mm=(0.0, 0.0, float(z)), acquired=(str(mark),))
        for z, mark in zip(heights, marks, strict=True)
    ]


def acquired(header):
    return header.acquired


def sizes(stacks):
    return sorted(len(stack) for stack in stacks)


def test_times_of_one_scan_split_nothing():
    assert sizes(split_ordered(headers(range(30), range(30)), acquired, 5)) == [30]
    assert sizes(split_ordered(headers(range(30), [z // 4 for z in range(30)]), acquired, 5)) == [30]


def test_a_position_scanned_twice_midway_does_not_break_a_scan_in_two():
    slices = headers([*range(10), 9, *range(10, 20)], range(21))
    assert sizes(split_ordered(slices, acquired, 5)) == [21]


def test_a_shorter_second_pass_is_a_stack_of_its_own():
    stacks = split_ordered(headers([*range(20), *range(4, 12)], range(28)), acquired, 5)
    assert sizes(stacks) == [8, 20]
    assert all(len({header.position_mm for header in stack}) == len(stack) for stack in stacks)


def test_times_in_no_order_split_nothing():
    times = np.random.default_rng(3).permutation(40)
    assert sizes(split_ordered(headers([*range(20), *range(20)], times), acquired, 5)) == [40]


def test_slices_without_a_time_are_not_split_by_it():
    assert sizes(split_ordered(headers([*range(8), *range(8)], [*range(15), ""]), acquired, 5)) == [16]


def test_pieces_at_the_same_places_are_dealt_out_by_number_and_not_by_file():
    """Of two phases in pieces, files of the second stood first, and pieces were put together as they came."""
    slices = [
        header
        for n in (10, 1, 0, 11, 2, 12)
        for header in headers(range(4 * (n % 10), 4 * (n % 10) + 4), [n] * 4)
    ]  # fmt: skip
    stacks = split_named(slices, acquired)
    phases = [{int(header.acquired[0]) // 10 for header in stack} for stack in stacks]
    assert sorted(phases, key=min) == [{0}, {1}]


def test_a_kernel_that_changes_along_the_body_is_one_scan():
    slices = [replace(one, kernel="soft" if n < 9 else "sharp", acquired=()) for n, one in
              enumerate(headers(range(20), range(20)))]  # fmt: skip
    assert [len(stack) for stack in split_stacks(slices, 5)[0]] == [20]
