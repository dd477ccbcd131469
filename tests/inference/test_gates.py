"""Each rule on volumes made for it; real scans are in test_gates_on_real_scans."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from voco2d.errors import ReadError
from voco2d.inference.gates import GATES, find_far, find_in_header, find_unreadable
from voco2d.inference.predictor import Predictor
from voco2d.inference.results import Finding
from voco2d.io.volume import Volume

AXIAL = np.array([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])


def torso(fat: int = -100, soft: int = 50, air: int = -1000, noise: float = 10) -> Volume:
    """Trunk of 60 slices, 300 mm long, with lungs in its upper third, a liver and a spine."""
    z, h, w = np.meshgrid(np.arange(60), np.arange(70), np.arange(96), indexing="ij")
    x, y = (w - 47.5) / 42, (h - 34.5) / 28
    hu = np.where(x**2 + y**2 < 1, fat, air)
    hu = np.where(x**2 + y**2 < 0.9, soft, hu)
    lung = (z < 20) & (((np.abs(x) - 0.4) / 0.33) ** 2 + (y / 0.6) ** 2 < 1)
    hu = np.where(lung, (air + soft) * 4 // 5, hu)
    spine = (np.abs(x) < 0.11) & (np.abs(y - 0.55) < 0.15)
    hu = np.where(spine, 500, hu) + np.random.default_rng(0).normal(0, noise, z.shape)
    return Volume(np.clip(hu, -1024, 3071).astype(np.int16), (5.0, 4.0, 4.0), AXIAL, (0.0, 0.0, 0.0), "p", "", "s", "x")


def refusing(findings: list[Finding]) -> set[str]:
    return {finding.gate for finding in findings if finding.refuses}


def test_a_torso_is_graded(mean_predictor: Callable[..., Predictor]) -> None:
    study = mean_predictor().predict(torso())
    assert study.status == "assessed", study.reason
    assert "remark: does not reach the pelvis" in study.reason


@pytest.mark.parametrize(
    ("changes", "gate", "words"),
    [
        ({"direction": np.array([[0.0, 0, 1], [0.643, 0.766, 0], [-0.766, 0.643, 0]])}, "not_axial", "by 40 degrees"),
        ({"spacing_mm": (1.0, 1.0, 5.0), "hu": np.zeros((200, 9, 9), np.int16)}, "not_axial", "5.0 mm from right"),
        ({"hu": np.zeros((19, 9, 9), np.int16), "spacing_mm": (8.0, 1.0, 1.0)}, "too_few_slices", "19, at least 20"),
        ({"spacing_mm": (21.0, 1.0, 1.0)}, "too_few_slices", "21.0 mm, at most 20"),
        ({"spacing_mm": (1.6, 1.0, 1.0)}, "incomplete_coverage", "thin slab: 96 mm"),
        ({"extent_mm": 60 * 5.0 + 20}, "incomplete_coverage", "slices are missing: 25 mm"),
    ],
)
def test_geometry_that_is_unfit_is_refused_with_its_number(changes: dict[str, object], gate: str, words: str) -> None:
    findings = find_unreadable(replace(torso(), **changes))
    assert refusing(findings) == {gate}
    assert words in findings[0].text


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"spacing_mm": (12.0, 1.0, 1.0)}, "12.0 mm apart"), ({"extent_mm": 60 * 5.0 + 5}, "missing: 10 mm")],
)
def test_geometry_that_is_poor_is_only_remarked(changes: dict[str, object], words: str) -> None:
    (finding,) = find_unreadable(replace(torso(), **changes))
    assert not finding.refuses
    assert words in finding.text


def test_without_geometry_no_length_is_judged(mean_predictor: Callable[..., Predictor]) -> None:
    volume = replace(torso(), spacing_mm=(1.0, 1.0, 1.0), notes=("no geometry: identity affine",))
    study = mean_predictor().predict(volume)
    assert study.status == "assessed"
    assert "orientation, coverage and body part were not checked" in study.reason


@pytest.mark.parametrize(
    "volume",
    [
        torso(fat=900, soft=400, air=-20),  # as in a magnetic resonance image: fat bright, air at zero
        torso(fat=300, soft=700),
    ],
)
def test_values_of_another_modality_are_refused(volume: Volume, mean_predictor: Callable[..., Predictor]) -> None:
    study = mean_predictor(gates="flag").predict(volume)
    assert "not_ct" in refusing(list(study.series[0].findings)), study.reason


def test_a_refused_series_never_reaches_the_networks(mean_predictor: Callable[..., Predictor]) -> None:
    predictor = mean_predictor()
    study = predictor.predict(replace(torso(), spacing_mm=(1.6, 4.0, 4.0)))
    assert study.probabilities is None
    assert [runtime.calls for runtime in predictor.models.runtimes] == [0]
    with pytest.raises(ReadError, match="not assessed: thin slab"):
        predictor(replace(torso(), spacing_mm=(1.6, 4.0, 4.0)))


def thighs() -> Volume:
    """Ten slices of soft tissue around a dense bone: too few, too little, and no abdomen."""
    volume = torso()
    hu = volume.hu[30:40].copy()
    hu[:, 25:45, 30:66] = np.random.default_rng(1).normal(900, 100, (10, 20, 36)).astype(np.int16)
    return replace(volume, hu=hu)


def test_a_volume_of_few_slices_is_first_said_to_be_no_abdomen(mean_predictor: Callable[..., Predictor]) -> None:
    predictor = mean_predictor()
    looked: list[str] = []
    study = predictor.predict(thighs(), lambda _volume, _seen, result: looked.append(result.reason))
    gates = [finding.gate for finding in study.series[0].findings if finding.refuses]
    assert gates[:2] == ["not_abdomen", "too_few_slices"], study.reason
    assert looked == [study.reason]
    assert [runtime.calls for runtime in predictor.models.runtimes] == [0]


def test_of_slices_that_are_not_axial_no_body_part_is_told(mean_predictor: Callable[..., Predictor]) -> None:
    tilted = np.array([[0.0, 0, 1], [0.643, 0.766, 0], [-0.766, 0.643, 0]])
    study = mean_predictor().predict(replace(thighs(), direction=tilted))
    gates = {finding.gate for finding in study.series[0].findings}
    assert "not_axial" in gates
    assert "not_abdomen" not in gates, study.reason


def test_a_refused_volume_without_a_body_keeps_its_first_reasons(mean_predictor: Callable[..., Predictor]) -> None:
    empty = replace(torso(), hu=np.full((10, 70, 96), -1000, np.int16))
    study = mean_predictor().predict(empty)
    assert study.reason == "too few slices: 10, at least 20; thin slab: 50 mm are covered, at least 100"


@pytest.mark.parametrize("gates", ["flag", "off"])
def test_an_override_is_told_in_every_output(gates: str, mean_predictor: Callable[..., Predictor]) -> None:
    study = mean_predictor(gates=gates).predict(torso())
    assert study.probabilities is not None
    assert study.reason.startswith(f"gates={gates}")
    assert study.to_tree()["gates"] == gates
    assert study.to_tree()["series"][0]["reason"].startswith(f"gates={gates}")


def test_the_median_of_the_networks_decides_on_the_distance() -> None:
    assert refusing(find_far([0.5, 1.2, 1.4])) == {"far_from_training"}
    assert find_far([0.5, 0.9, 7.0]) == []
    assert refusing(find_far([float("nan")])) == {"far_from_training"}
    (nothing_fitted,) = find_far([])
    assert not nothing_fitted.refuses


def test_a_header_only_remarks_and_is_not_repeated_where_it_is_free_text() -> None:
    (finding,) = find_in_header("chest", [])
    assert (finding.gate, finding.refuses) == ("header", False)
    assert finding.text == "the header says CHEST"
    assert find_in_header("JOHN DOE", []) == []
    assert find_in_header("ABDOMEN", []) == []
    assert find_in_header("CHEST", [Finding("not_abdomen", "", refuses=True)]) == []


def test_what_the_header_says_is_asked_however_a_volume_is_graded(mean_predictor: Callable[..., Predictor]) -> None:
    study = mean_predictor(gates="flag").predict(replace(torso(), body_part="HEAD"))
    assert "the header says HEAD" in [finding.text for finding in study.series[0].findings]
    study = mean_predictor(gates="off").predict(replace(torso(), body_part="HEAD"))
    assert study.series[0].findings == ()


def test_every_finding_belongs_to_a_known_gate(mean_predictor: Callable[..., Predictor]) -> None:
    study = mean_predictor(gates="flag").predict(replace(torso(), spacing_mm=(1.6, 4.0, 9.0)))
    assert {finding.gate for finding in study.series[0].findings} <= set(GATES)
