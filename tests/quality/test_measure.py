"""Measures of volumes whose content is known."""

import json
from dataclasses import replace

import numpy as np
import pytest

from voco2d.quality.limits import middle_slices
from voco2d.quality.measure import QUALITY_COLUMNS, measure, noise_hu, obliquity_deg, orientation_code

AXIAL = np.array([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])


def test_row_has_exactly_the_columns_and_survives_json(body):
    row = measure(*body())
    assert list(row) == list(QUALITY_COLUMNS)
    assert json.loads(json.dumps(row, allow_nan=False)) == row
    for name, kind in QUALITY_COLUMNS.items():
        assert isinstance(row[name], str if kind == "str" else float | None), name


def test_whole_trunk_has_no_flag(body):
    row = measure(*body())
    assert row["flags"] == ""
    assert row["liver_side"] == "right"
    assert row["coverage_state"] == "complete"
    assert row["is_abdomen"] == "yes"
    assert sum(row[f"hu_bin_{index:02d}"] for index in range(16)) == pytest.approx(1)
    assert row["orientation"] == "IPL"


def test_mirrored_body_is_suspected(body):
    row = measure(*body(mirrored=True))
    assert row["liver_side"] == "left"
    assert row["flags"] == "mirrored_suspect"


@pytest.mark.parametrize(("top_mm", "bottom_mm"), [(170, 480), (0, 300)])
def test_part_of_the_trunk_is_incomplete(body, top_mm, bottom_mm):
    assert "incomplete_coverage" in measure(*body(top_mm=top_mm, bottom_mm=bottom_mm))["flags"].split(";")


def test_chest_is_no_abdomen(body):
    assert "not_abdomen" in measure(*body(bottom_mm=120))["flags"].split(";")


def test_notes_become_flags_and_an_organ_box_is_not_judged(body):
    row = measure(*body(notes=("gap: 2 missing", "multiframe: yes")))
    assert row["flags"] == "gaps"
    row = measure(*body(notes=("organ box: liver",), bottom_mm=120, mirrored=True))
    assert row["flags"] == ""
    assert row["liver_side"] == row["coverage_state"] == "unknown"


def test_no_geometry_leaves_lengths_unknown_but_sees_the_liver(body):
    row = measure(*body(notes=("no geometry: axes assumed",), mirrored=True))
    assert row["abdomen_mm"] is None
    assert row["flags"] == "mirrored_suspect;no_geometry"


def test_wrong_rescale_is_odd(body):
    volume, prepared = body()
    shifted = replace(prepared, hu=(prepared.hu.astype(np.int32) + 1000).clip(-1024, 3071).astype(np.int16))
    assert "odd_hu" in measure(volume, shifted)["flags"].split(";")


def test_noise_is_measured(body):
    assert noise_hu(middle_slices(*body())) == pytest.approx(8, rel=0.15)


def test_constant_volume_is_measured(body):
    volume, prepared = body()
    empty = np.full_like(prepared.hu, -1000)
    row = measure(volume, replace(prepared, hu=empty))
    assert row["liver_side"] == "unknown"


def test_orientation_and_obliquity():
    assert orientation_code(AXIAL) == "IPL"
    assert obliquity_deg(AXIAL) == 0
    angle = np.radians(12)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    assert obliquity_deg(turn @ AXIAL) == pytest.approx(12, abs=0.01)
