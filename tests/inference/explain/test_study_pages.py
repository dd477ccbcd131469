import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from voco2d.data.phantom import PhantomArgs, write_cohort
from voco2d.inference.explain.explanation import NO_MAPS
from voco2d.inference.explain.study_pages import StudyPages
from voco2d.inference.predictor import Predictor
from voco2d.targets import CLASS_COLUMNS, TARGETS


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    args = PhantomArgs(size=64, mean_slices=14, masks=False, hospital=True, workers=1, two_series_share=0.0)
    write_cohort(folder, 1, 3, args)
    return folder / "train_images"


def _page(predictor, scan, out):
    pages = StudyPages(predictor)
    study = predictor.predict(scan, pages.look)
    pages.write_page(out, study)
    return study, out.read_text(encoding="utf-8")


def _is_self_contained(page):
    assert not re.search(r"(?:src|href)=[\"'](?!data:|#)", page)
    assert "url(" not in page.replace("url(#", "").replace("url(data:", "")
    return "<script" not in page


def test_a_page_shows_each_target_with_its_evidence_and_names_nobody(bright_predictor, phantom, tmp_path):
    study, page = _page(bright_predictor(), phantom, tmp_path / "page.html")
    for name in TARGETS:
        assert f"{name}: injury" in page
    assert "Research use only. Not a medical device" in page
    assert page.count("data:image/jpeg") >= len(TARGETS)
    assert _is_self_contained(page)
    assert all(re.search(r"alt=\"[^\"]+\"", tag) for tag in re.findall(r"<img[^>]*>", page))
    for secret in (study.patient_id, study.study_id, f">{study.series[0].series_id}<", str(tmp_path), str(phantom)):
        assert secret not in page
    assert "0" * 64 in page  # the hash of the weights
    assert "gates were switched off" in page
    assert "<td>not recorded</td>" in page
    again = _page(bright_predictor(), phantom, tmp_path / "again.html")[1]
    assert again == page


def test_a_page_compares_with_the_shares_of_training(bright_predictor, marked_scan, tmp_path):
    shares = {column: 0.123 if column == "bowel_injury" else 0.5 for column in CLASS_COLUMNS}
    plain = bright_predictor()
    models = replace(plain.models, class_shares=shares)
    _, page = _page(Predictor(models, gates="off"), marked_scan(), tmp_path / "page.html")
    assert "<td>0.123</td>" in page
    assert "not recorded" not in page


def test_a_page_of_another_engine_says_why_there_are_no_colours(mean_predictor, phantom, tmp_path):
    _, page = _page(mean_predictor(3.0, 5.0, gates="off"), phantom, tmp_path / "page.html")
    assert NO_MAPS in page
    assert "Grad-CAM" not in page
    assert "lowest and the highest" in page


def test_a_page_of_a_refused_scan_has_the_reason_and_no_number(mean_predictor, marked_scan, tmp_path):
    volume = marked_scan()
    few = replace(volume, hu=volume.hu[:12])
    study, page = _page(mean_predictor(gates="refuse"), few, tmp_path / "page.html")
    assert study.status == "not_assessed"
    assert study.series[0].findings[0].text.split(";")[0][:30] in page
    assert "injury 0." not in page
    assert "data:image/jpeg" not in page


def test_predict_writes_a_page_and_a_json_a_study(run, make_run, phantom, tmp_path):
    words = ["predict", phantom, "--model", make_run(tmp_path / "run"), "--out", tmp_path / "o.csv", "--gates", "off"]
    code, _, error = run(*words, "--explain", tmp_path / "pages")
    assert (code, error) == (0, "")
    (row,) = pd.read_csv(tmp_path / "pages" / "index.csv", dtype=str).to_dict("records")
    assert row["status"] == "assessed"
    page = (tmp_path / "pages" / row["page"]).read_text(encoding="utf-8")
    assert row["patient_id"] not in page
    assert row["patient_id"] not in row["page"]
    tree = json.loads((tmp_path / "pages" / row["explanation"]).read_text(encoding="utf-8"))
    curve = tree["series"][0]["targets"]["bowel"]["curves"]["occlusion"]
    assert len(curve) == 4
    assert np.isfinite(curve).all()
    plain = tmp_path / "plain.csv"
    assert run(*words[:5], plain, *words[6:])[0] == 0
    assert plain.read_bytes() == (tmp_path / "o.csv").read_bytes()


@pytest.mark.parametrize("words", [["--watch", "."], ["x", "--explain-file"]])
def test_wrong_use_says_so(run, make_run, tmp_path, words):
    model = ["--model", make_run(tmp_path / "run"), "--out", tmp_path / "o.csv"]
    if "--explain-file" in words:
        (tmp_path / "file").write_text("")
        code, _, error = run("predict", tmp_path, *model, "--explain", tmp_path / "file")
        assert "is a file" in error
    else:
        code, _, error = run("predict", "--watch", tmp_path, *model, "--explain", tmp_path / "pages")
        assert "without --watch" in error
    assert code == 2
