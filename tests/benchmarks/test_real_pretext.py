import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks" / "real_pretext"
PATIENTS = ("first", "second", "third")


def load(name: str) -> ModuleType:
    """Load a file of the benchmark under the name by which the others import it."""
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


scores, presence, probe, table, draw = (load(name) for name in ("scores", "presence", "probe", "table", "draw"))


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


def made_up(organs: dict[str, tuple[int, int]], slices: int = 200) -> Any:
    z = np.arange(slices)
    present = {organ: (z >= first) & (z < last) for organ, (first, last) in organs.items()}
    return presence.LabelledSlices(np.zeros((slices, 1, 1), np.float32), present, z // 10)


def test_the_probe_finds_what_features_know_and_nothing_in_noise() -> None:
    generator = np.random.default_rng(0)
    organs = {"liver": (0, 100), "spleen": (30, 120), "everywhere": (0, 200)}
    patients = {name: made_up(organs) for name in PATIENTS}
    rows = []
    for start in ("noise", "perfect"):
        found = {}
        for name, patient in patients.items():
            known = np.stack(list(patient.present.values()), axis=1).astype(np.float32)
            found[name] = generator.normal(size=(200, 8)).astype(np.float32)
            if start == "perfect":
                found[name][:, : known.shape[1]] += 20 * known
        for tested, patient in patients.items():
            for prediction in probe.predict(tested, patients, found):
                rows += [{**row, "patient": tested, "start": start, "seed": 0} for row in prediction.rows(patient)]
    table = pd.DataFrame(rows)
    assert set(table["organ"]) == {"liver", "spleen"}  # of the third no slice without it was seen
    assert set(table.loc[table["reading"] == "mixed", "block"] % 2) == {1}
    for found in scores.summarise(table, draws=200).values():
        assert found["roc_auc"]["macro"]["perfect"]["value"] == 1
        assert found["average_precision"]["macro"]["perfect"]["value"] == 1
        assert found["roc_auc"]["macro"]["noise"]["value"] == pytest.approx(0.5, abs=0.1)


def test_the_tested_patient_is_not_learnt_from() -> None:
    patients = {name: made_up({"liver": (0, 100)}) for name in PATIENTS}
    found = {name: patient.present["liver"][:, None].astype(np.float32) for name, patient in patients.items()}
    found["third"] = 1 - found["third"]  # whoever learnt from it would not be all wrong
    left_out, _ = probe.predict("third", patients, found)
    truth = patients["third"].present["liver"]
    assert left_out.score[truth].max() < left_out.score[~truth].min()


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


def test_tables_and_figure_show_both_readings(tmp_path: Path) -> None:
    rows = predictions(40)
    rows["start"] = rows["start"].map({"noise": "random", "perfect": "voco2d"})
    rows = pd.concat([rows, rows[rows["start"] == "random"].assign(start="simclr")])
    both = pd.concat([rows, rows.assign(reading="mixed")])
    results = {"readings": scores.summarise(both, draws=50)}
    table.write_table(results, tmp_path / "results.md")
    draw.draw(results, tmp_path / "figure.png")
    told = (tmp_path / "results.md").read_text()
    assert told.count("| `voco2d` | 1.00 (1.00 to 1.00); 1.00, 1.00 |") == 2
    assert "| `simclr` − `random` | 0.00 (0.00 to 0.00); 0.00, 0.00; holds 0 |" in told
    assert "does not hold 0" in told
    assert (tmp_path / "figure.png").stat().st_size > 10_000


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
