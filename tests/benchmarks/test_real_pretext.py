import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks" / "real_pretext"
PATIENTS = ("first", "second", "third")


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"real_pretext_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


scores = load("scores")
presence = load("presence")


def predictions(slices: int = 400) -> pd.DataFrame:
    """Three patients and two organs, of which `perfect` knows all and `noise` nothing."""
    generator = np.random.default_rng(0)
    tables = []
    for patient in PATIENTS:
        for organ, first, last in (("liver", 0, slices // 2), ("spleen", slices // 4, 3 * slices // 4)):
            z = np.arange(slices)
            present = (z >= first) & (z < last)
            for start in ("noise", "perfect"):
                for seed in (0, 1):
                    score = present.astype(float) if start == "perfect" else generator.random(slices)
                    what = {"reading": "left_out", "patient": patient, "organ": organ, "start": start, "seed": seed}
                    rows = {"slice": z, "block": z // 10, "present": present.astype(int), "score": score}
                    tables.append(pd.DataFrame(rows).assign(**what))
    return pd.concat(tables)


def test_perfect_scores_are_1_and_noise_is_chance() -> None:
    found = scores.summarise(predictions(), draws=300)["left_out"]
    area, precision = found["roc_auc"], found["average_precision"]
    for metric in (area, precision):
        assert metric["macro"]["perfect"]["value"] == 1
        assert metric["macro"]["perfect"]["interval"] == [1, 1]
        assert metric["undefined_draws"] == 0
        low, high = metric["macro"]["noise"]["interval"]
        assert metric["macro"]["noise"]["value"] == pytest.approx(0.5, abs=0.05)
        assert low < 0.5 < high
    difference = area["difference"]["perfect - noise"]
    assert difference["value"] == pytest.approx(1 - area["macro"]["noise"]["value"])
    assert difference["interval"][0] > 0.3
    assert area["single"]["first"]["liver"]["perfect"] == [1, 1]
    assert area["single"]["first"]["liver"]["present"] == 200


def test_patients_that_differ_widen_the_interval() -> None:
    table = predictions()
    known = (table["patient"] == "first") & (table["start"] == "noise")
    table.loc[known, "score"] = table.loc[known, "present"].astype(float)
    found = scores.summarise(table, draws=300)["left_out"]["roc_auc"]["macro"]["noise"]
    assert found["value"] == pytest.approx(2 / 3, abs=0.05)
    assert found["interval"][0] < 0.55
    assert found["interval"][1] > 0.95


def test_draws_without_a_class_are_left_out_and_counted() -> None:
    table = predictions(20)  # two blocks: an organ that fills one of them alone is often not defined
    table = table[(table["organ"] == "liver") & (table["patient"] == "first")]
    found = scores.summarise(table, draws=300)["left_out"]["roc_auc"]
    assert 100 < found["undefined_draws"] < 200
    assert found["macro"]["perfect"]["interval"] == [1, 1]


@pytest.mark.realdata
def test_slices_show_the_organs_that_anatomy_expects(real_data: Path) -> None:
    slices = {name: presence.read_slices(real_data, patient) for name, patient in presence.PATIENTS.items()}
    thighs = slices["example_ct"]
    assert thighs.images.shape == (112, 96, 96)
    assert thighs.present["liver"][:30].all()
    assert not any(shown[90:].any() for shown in thighs.present.values())
    assert thighs.present["kidney_right"].argmax() > thighs.present["liver"].argmax()  # below the dome
    for patient in slices.values():  # the scans all end in the liver or below its dome
        assert patient.present["liver"][0]
        assert patient.present["aorta"][0]
        assert np.diff(patient.block).min() >= 0
        assert 0 <= patient.images.min() < patient.images.max() <= 1
    assert not slices["jpeg2000_series"].present["kidney_left"].any()
    assert slices["amos_0001"].present["kidney_left"].all()
    assert slices["amos_0001"].present["spleen"].tolist() == [True] * 7 + [False] * 4


@pytest.mark.realdata
def test_the_liver_mask_lies_on_the_patients_right(real_data: Path) -> None:
    patient = presence.PATIENTS["jpeg2000_series"]  # its mask has other axes than the scan
    mask = presence.read_mask(real_data / patient.mask, (patient.numbers["liver"],))
    volume = presence.read_volume(real_data / patient.scan)
    index = np.linalg.inv(volume.affine_lps) @ mask.affine_lps
    columns = (np.argwhere(mask.inside) @ index[:3, :3].T + index[:3, 3])[:, 2]
    assert columns.mean() < volume.hu.shape[2] / 2
    inside = volume.hu[tuple(np.rint(np.argwhere(mask.inside) @ index[:3, :3].T + index[:3, 3]).astype(int).T)]
    assert 40 < np.median(inside) < 200  # liver tissue, with or without contrast
