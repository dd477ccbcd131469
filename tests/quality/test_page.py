"""The page: what it holds, what can't break out of it, and that it opens with 5,000 series."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from voco2d.io.source import Rejection
from voco2d.quality.measure import QUALITY_COLUMNS
from voco2d.quality.page import reason_group, render_page

HOSTILE = "</script><script>document.title='broken'</script><img src=x onerror=alert(1)>"
CHROMIUM = shutil.which("chromium")


def table(count: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    flags = np.array(["", "short", "gaps;tilt", "incomplete_coverage"])
    words = {"coverage_state": "unknown", "liver_side": "right", "is_abdomen": "yes", "orientation": "IPL"}
    columns = {
        "key": [f"{index:05d}-abcdef" for index in range(count)],
        "patient_id": [str(77310000 + index // 2) for index in range(count)],
        "series_id": [f"1.2.826.0.1.3680043.8.498.{index:039d}" for index in range(count)],
        "source": [f"/data/train_images/{10000 + index // 2}/{index}" for index in range(count)],
        "n_slices": rng.integers(41, 1700, count),
        "spacing_z_mm": rng.uniform(0.5, 5, count),
        "coverage_mm": rng.uniform(200, 900, count),
        "notes": ["gap: 2 slices missing"] * count,
    }
    for name, kind in QUALITY_COLUMNS.items():
        columns[name] = rng.uniform(0, 1, count) if kind == "float64" else [words.get(name, "")] * count
    columns["flags"] = flags[rng.integers(0, 4, count)]
    return pd.DataFrame(columns)


def embedded(page: str) -> dict:
    return json.loads(re.search(r'<script id="data" type="application/json">(.*?)</script>', page, re.DOTALL)[1])


def browse(path: Path) -> str:
    """Return the page's elements after its script has run."""
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={path.parent / 'profile'}"]
    done = subprocess.run([*command, "--dump-dom", path.as_uri()], capture_output=True, timeout=60, check=True)
    return done.stdout.decode()


def test_hostile_text_stays_text():
    frame = table(3).assign(patient_id=HOSTILE, notes=HOSTILE, key=HOSTILE)
    page = render_page(frame, [Rejection(HOSTILE, HOSTILE)], thumbnails=HOSTILE + "{key}")
    assert HOSTILE not in page
    assert page.count("<script") == 2
    data = embedded(page)
    assert data["rows"][0][data["columns"].index("notes")] == HOSTILE


def test_nothing_is_fetched_from_elsewhere():
    page = render_page(table(2), [])
    assert not re.search(r"(src|href)=[\"']?(https?:)?//", page)
    assert "default-src 'none'" in page


def test_ids_can_be_left_out():
    page = render_page(table(4), [Rejection("/data/secret", "not CT")], show_ids=False)
    for secret in ("7731", "1.2.826", "train_images", "secret"):
        assert secret not in page
    assert "patient_id" not in embedded(page)["columns"]


def test_missing_values_and_empty_tables_are_shown():
    frame = table(3)
    frame.loc[1, "noise_hu"] = np.nan
    data = embedded(render_page(frame, []))
    assert data["rows"][1][data["columns"].index("noise_hu")] is None
    assert embedded(render_page(table(0), []))["rows"] == []
    assert embedded(render_page(pd.DataFrame({"key": ["a"], "n_slices": [3]}), []))["rows"]


def test_unmeasured_series_show_the_flags_of_their_notes():
    frame = table(1).assign(flags=None, notes="gap: x; quality: not measured (ValueError)")
    data = embedded(render_page(frame, []))
    assert data["rows"][0][data["columns"].index("flags")] == "gaps;not_measured"


def test_reasons_are_grouped():
    rejections = [Rejection(f"/x/{index}", f"{index} slices, at least 5 needed") for index in range(7)]
    groups = embedded(render_page(table(1), [*rejections, Rejection("/y", "modality MR")]))["quarantine"]
    assert [len(group["entries"]) for group in groups] == [7, 1]
    assert reason_group("3 of 5.5 mm in 'a b'") == "… of … mm in '…'"


@pytest.mark.integration
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_opens_with_5000_series_within_two_seconds(tmp_path):
    frame = table(5000)
    frame.loc[0, "patient_id"] = HOSTILE
    rejections = [Rejection(f"/data/{index}.dcm", f"{index % 5} slices, at least 5 needed") for index in range(3000)]
    path = tmp_path / "quality.html"
    path.write_text(render_page(frame, rejections), encoding="utf-8")
    assert path.stat().st_size < 8e6
    dom = browse(path)
    ready_ms = int(re.search(r'data-ready="(\d+)"', dom)[1])
    assert ready_ms < 2000
    assert dom.count('<td class="picture">') == 50
    assert "1 to 50 of 5000 series" in dom
    assert "<title>Quality of the prepared series</title>" in dom
