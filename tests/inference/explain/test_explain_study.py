import io
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread

from voco2d.data.phantom import PhantomArgs, write_cohort
from voco2d.errors import ConfigError, UsageError
from voco2d.inference.explain import explain_study as module
from voco2d.inference.explain.evidence import HIDDEN_SLICES, INTEGRATED_GRADIENTS
from voco2d.inference.explain.explain_study import ExplainedStudy, explain_study
from voco2d.inference.explain.explainer import Explainer, mean_heat, rank_slices
from voco2d.inference.explain.explanation import NO_MAPS
from voco2d.inference.results import NOTICE
from voco2d.targets import TARGETS

MARKED = 9
"""Place of the marked file among the stored ones, in the order of their names."""


@pytest.fixture(scope="module")
def reversed_series(tmp_path_factory):
    """Store a series whose file names and instance numbers run against each other; one file has a bright mark."""
    folder = tmp_path_factory.mktemp("reversed")
    args = PhantomArgs(size=64, mean_slices=20, masks=False, hospital=True, workers=1, two_series_share=0.0)
    write_cohort(folder, 1, 3, args)
    files = sorted((folder / "train_images").glob("*/*/*.dcm"), key=lambda path: int(path.stem))
    for place, path in enumerate(files):
        dataset = dcmread(path)
        dataset.decompress(generate_instance_uid=False)
        dataset.InstanceNumber = 500 - place
        if place == MARKED:
            pixels = dataset.pixel_array.copy()
            pixels[26:34, 36:44] = (2000 - float(dataset.RescaleIntercept)) / float(dataset.RescaleSlope)
            dataset.PixelData = pixels.tobytes()
            marked = str(dataset.SOPInstanceUID)
        dataset.save_as(path)
    return files[0].parent, marked


@pytest.fixture(scope="module")
def told(reversed_series, bright_predictor) -> ExplainedStudy:
    return explain_study(bright_predictor(), reversed_series[0])


def test_the_key_slice_is_the_file_with_the_mark(told, reversed_series):
    (series,) = told.series
    for target in series.explanation.targets.values():
        first = target.key_slices[0].source
        assert first.instance_uid == reversed_series[1]
        assert first.instance_number == 500 - MARKED


def test_the_answer_is_that_of_predict_and_goes_with_each_target(told, reversed_series, bright_predictor):
    alone = bright_predictor().predict(reversed_series[0])
    assert told.result.to_json() == alone.to_json()
    for name, target in told.series[0].explanation.targets.items():
        assert target.injury == pytest.approx(1 - alone.probabilities[f"{name}_healthy"])


def test_key_images_show_the_mark_in_colour_and_say_what_they_are_for(told):
    (series,) = told.series
    assert set(series.key_images) == set(TARGETS)
    picture = np.asarray(Image.open(io.BytesIO(series.key_images["liver"][0])).convert("RGB"), dtype=int)
    assert max(picture.shape) >= 384
    scale = picture.shape[0] / 64
    inside = picture[int(28 * scale) : int(32 * scale), int(38 * scale) : int(42 * scale)]
    assert (inside[..., 0] - inside[..., 2] > 30).all()  # the middle of the mark is coloured, not grey
    far = picture[int(10 * scale) : int(20 * scale), int(20 * scale) : int(44 * scale)]
    assert (np.ptp(far, axis=-1) == 0).all()
    foot = picture[-18:, :200]
    assert (np.ptp(foot, axis=-1) > 100).any()  # the words at the foot


def test_the_json_names_methods_slices_and_nobody(told):
    tree = json.loads(told.to_json())
    assert tree["notice"] == NOTICE
    (series,) = tree["series"]
    assert series["ranked_by"] == INTEGRATED_GRADIENTS
    assert series["maps"] is True
    liver = series["targets"]["liver"]
    assert set(liver["curves"]) == set(series["methods"])
    assert len(liver["curves"][INTEGRATED_GRADIENTS]) == len(series["slices"]) == 20
    assert liver["key_slices"][0]["rank"] == 1
    assert liver["injury"] == pytest.approx(1 - liver["classes"]["healthy"])
    assert "patient_id" not in told.to_json()


def test_methods_say_what_they_speak_for_by_the_targets(told):
    explanation = replace(told.series[0].explanation, event="a class other than the first")
    assert "an injury" in str(told.series[0].explanation.to_tree()["methods"])
    words = str(explanation.to_tree()["methods"])
    assert "a class other than the first" in words
    assert "injury" not in words


def test_another_engine_ranks_slices_by_hiding_them_and_says_what_maps_need(mean_predictor, marked_scan):
    predictor = mean_predictor(3.0, 5.0, gates="off")
    assert not Explainer(predictor).gives_maps
    (series,) = explain_study(predictor, marked_scan()).series
    told = series.explanation
    assert told.ranked_by == HIDDEN_SLICES
    assert told.networks == 2
    assert not told.has_maps
    liver = told.targets["liver"]
    slices = predictor.read_out(marked_scan()).slices
    brightest = slices.mean(axis=(1, 2, 3)).argmax()
    assert abs(liver.key_slices[0].slice - brightest) <= 1
    for ask in (told.heat_image, lambda name: told.source_heat(name, 0), lambda name: told.source_overlay(name, 0)):
        with pytest.raises(ConfigError, match="explain the run that the package was exported from"):
            ask("liver")
    assert "engine torch" in NO_MAPS
    Image.open(io.BytesIO(series.key_images["liver"][0])).verify()


def test_what_a_gate_refuses_is_not_explained(mean_predictor, marked_scan):
    volume = marked_scan()
    told = explain_study(mean_predictor(gates="refuse"), replace(volume, hu=volume.hu[:12]))  # too few slices
    assert told.result.status == "not_assessed"
    (series,) = told.series
    assert series.explanation is None
    assert series.error == told.result.reason
    assert not series.key_images
    assert "curves" not in told.to_json()


def test_a_failure_costs_the_explanation_and_not_the_answer(monkeypatch, bright_predictor, marked_scan):
    def fails(*_):
        raise ValueError("MEIER^HANS")

    monkeypatch.setattr(module, "key_image", fails)
    told = explain_study(bright_predictor(), marked_scan())
    assert told.result.status == "assessed"
    assert told.series[0].explanation is None
    assert told.series[0].error
    assert "MEIER" not in told.to_json()


def test_without_captum_the_error_says_what_to_install(monkeypatch, bright_predictor):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr("voco2d.extras.import_module", missing)
    with pytest.raises(UsageError, match=r"captum; pip install 'voco2d\[explain\]'"):
        Explainer(bright_predictor())


def test_no_key_slices_are_wrong_use(bright_predictor):
    with pytest.raises(ConfigError, match="key_slices=0"):
        Explainer(bright_predictor(), key_slices=0)


def test_key_slices_are_no_neighbours_and_speak_for_an_injury():
    assert rank_slices(np.array([0.1, 0.9, 0.8, 0.7, -0.2, 0.3]), 3) == [1, 3, 5]
    assert rank_slices(np.array([-0.3, -0.1, -0.2]), 3) == [1]
    assert rank_slices(np.array([0.0, 0.5, 0.0]), 3) == [1]


def test_maps_of_several_networks_count_alike_and_take_the_finest_size():
    coarse = np.zeros((2, 2, 2), np.float32)
    coarse[0, 0, 0] = 10
    fine = np.zeros((2, 4, 4), np.float32)
    fine[0, 0, 0] = 0.1
    mean = mean_heat([coarse, fine])
    assert mean.shape == (2, 4, 4)
    assert mean[0, 0, 0] == 1 == mean.max()
    assert mean[0, 3, 3] == 0
    assert not mean_heat([np.zeros((1, 2, 2), np.float32)]).any()
