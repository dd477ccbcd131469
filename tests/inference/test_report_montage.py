import base64
import io
import json
from pathlib import Path

import matplotlib.image
import numpy as np
import pandas as pd
import pytest

from voco2d.errors import StoreError
from voco2d.inference.report import montage_section, write_report
from voco2d.inference.report_page import Cell, Figure, Heading, Paragraph, Table
from voco2d.preprocessing.preprocess import PreprocessArgs
from voco2d.store.build import PrepareArgs, prepare

from .test_report import assert_self_contained, tables


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("montage")
    scans = root / "scans"
    scans.mkdir()
    generator = np.random.default_rng(0)
    for number in range(4):
        hu = np.full((12, 24, 32), -1000, dtype=np.int16)
        hu[:, 4:20, 4:28] = generator.integers(0, 100, size=(12, 16, 24))
        np.save(scans / f"{number}.npy", hu)
        sidecar = {"axes": "IPL", "spacing_mm": [5.0, 2.0, 1.0], "intensity": "hu", "patient_id": str(100 + number)}
        (scans / f"{number}.json").write_text(json.dumps({**sidecar, "series_id": str(number)}))
    args = PrepareArgs(preprocess=PreprocessArgs(size=(8, 32, 32), body_crop=False), workers=1)
    return prepare([scans], root / "store", args).store


def test_studies_are_shown_with_truth_and_prediction(store: Path, tmp_path: Path):
    predictions, labels = tables(4)
    section = montage_section(store, predictions, labels)
    figures = [block for block in section.blocks if isinstance(block, Figure)]
    grades = [block for block in section.blocks if isinstance(block, Table)]
    headings = [block.text for block in section.blocks if isinstance(block, Heading)]
    assert len(figures) == len(grades) == 3
    # patient 100 is healthy everywhere in `tables`; the injured come first
    assert headings == ["Patient 101, series 1", "Patient 103, series 3", "Patient 100, series 0"]
    truth = grades[0].rows[2][1]
    assert truth == Cell("low", strong=True)
    assert f"injury {predictions['bowel_injury'][1]:.2f}" in str(grades[0].rows[0][3])
    write_report(tmp_path / "page.html", "studies", [section])
    assert_self_contained((tmp_path / "page.html").read_text(encoding="utf-8"))


def test_slices_keep_their_shape_in_millimetres(store: Path):
    section = montage_section(store, *tables(4), studies=1)
    figure = next(block for block in section.blocks if isinstance(block, Figure))
    image = matplotlib.image.imread(io.BytesIO(base64.b64decode(figure.source.split(",")[1])))
    # 24 rows of 2 mm over 32 columns of 1 mm: two rows of three slices, each 1.5 times as high as wide
    assert image.shape[0] / image.shape[1] == pytest.approx(1.5 * 2 / 3, rel=0.15)


def test_rows_of_other_series_and_not_assessed_ones_are_left_out(store: Path):
    predictions, labels = tables(4)
    predictions = predictions.assign(series_id=["0", "1", "9", "3"], status=["assessed"] * 3 + ["not_assessed"])
    section = montage_section(store, predictions, labels, studies=5)
    assert sum(isinstance(block, Figure) for block in section.blocks) == 2


def test_nothing_to_show_is_said(store: Path):
    predictions, labels = tables(4)
    elsewhere = pd.Series(["a", "b", "c", "d"])
    section = montage_section(store, predictions.assign(patient_id=elsewhere), labels.assign(patient_id=elsewhere))
    assert section.blocks == (Paragraph("No study of the store is in both the predictions and the labels."),)


def test_no_store_is_an_error(tmp_path: Path):
    with pytest.raises(StoreError, match="prepare"):
        montage_section(tmp_path, *tables(4))
