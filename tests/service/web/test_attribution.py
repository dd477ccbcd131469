"""The seam to the explanation: what it offers lies where it belongs, and the service does without it."""

import gzip
import io
from collections.abc import Callable, Mapping

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from voco2d.errors import UsageError
from voco2d.inference.predictor import Predictor
from voco2d.inference.runtime import Models, Slices
from voco2d.service.web import attribution
from voco2d.service.web.attribution import load_explain
from voco2d.targets import TARGETS

from .conftest import Bench, MeanRuntime, make_predictor, nifti, send


def test_a_missing_extra_costs_the_attribution_alone(monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    class Refusing:
        def __init__(self, _: Predictor) -> None:
            raise UsageError("an explanation needs captum")

    monkeypatch.setattr(attribution, "Explainer", Refusing)
    assert load_explain(make_predictor()) is None
    assert "without attribution: an explanation needs captum" in caplog.text


class SeeingRuntime(MeanRuntime):
    """Finds what it answers by where slices are bright, in cells of four pixels."""

    def find_evidence(self, slices: Slices) -> Mapping[str, object]:
        module = pytest.importorskip("voco2d.inference.explain.evidence")
        explanation = pytest.importorskip("voco2d.inference.explain.explanation")
        count, _, height, width = slices.shape
        cells = slices[:, 0].reshape(count, height // 4, 4, width // 4, 4).mean(axis=(2, 4))
        heat = np.clip(cells - np.quantile(cells, 0.98), 0, None).astype(np.float32)
        curve = heat.max(axis=(1, 2)).astype(np.float64)
        return {name: module.Evidence({explanation.RANKINGS[0]: curve}, heat) for name in TARGETS}


def grade(bench: Bench) -> tuple[dict, Callable[[str], bytes]]:
    client = bench.client()
    job_id = send(client, nifti()).json()["id"]
    assert bench.worker.step()
    volume = client.get(f"/api/jobs/{job_id}/result").json()["volumes"][0]
    return volume, lambda name: client.get(f"/api/jobs/{job_id}/files/{name}").content


def centre_mm(content: bytes) -> np.ndarray:
    """Where the brightest voxels of a file lie, millimetres."""
    image = nib.Nifti1Image.from_bytes(gzip.decompress(content))
    voxels = np.asarray(image.dataobj).astype(np.float64)
    places = np.argwhere(voxels > 0.8 * voxels.max())
    return nib.affines.apply_affine(image.affine, places).mean(axis=0)


@pytest.mark.parametrize("runtime", [SeeingRuntime, MeanRuntime], ids=["maps", "slices alone"])
def test_key_slices_and_overlays_lie_where_the_scan_is_bright(
    make_bench: Callable[..., Bench], runtime: type[MeanRuntime]
) -> None:
    pytest.importorskip("voco2d.inference.explain.explain_study", reason="this voco2d explains nothing")
    if runtime is SeeingRuntime:
        pytest.importorskip("captum", reason="needs captum, of the extra explain")
    settings = make_predictor().models.settings
    predictor = Predictor(Models([runtime()], settings), gates="off")
    bench = make_bench(explain=load_explain(predictor), predictor=predictor)
    volume, read = grade(bench)
    assert volume["unexplained"] == ""
    assert set(volume["key_slices"]) == set(TARGETS)
    scores = volume["slice_scores"]["spleen"]
    assert len(scores) == 24
    key = volume["key_slices"]["spleen"][0]
    assert abs(key - 6) <= (2 if runtime is SeeingRuntime else 6)  # else three of eight slices are hidden at a time
    spleen = [image for image in volume["images"] if image["target"] == "spleen"]
    assert [image["slice"] for image in spleen] == volume["key_slices"]["spleen"]
    assert Image.open(io.BytesIO(read(spleen[0]["file"]))).format == "PNG"
    if runtime is MeanRuntime:
        assert volume["overlays"] == {}
        return
    assert set(volume["overlays"]) == set(TARGETS)
    apart = centre_mm(read(volume["overlays"]["spleen"])) - centre_mm(read(volume["file"]))
    assert np.abs(apart).max() < 25, apart  # cells of four prepared pixels are some 40 mm wide


def test_why_there_is_no_explanation_is_told(make_bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("voco2d.inference.explain.explain_study", reason="this voco2d explains nothing")
    predictor = make_predictor()
    explain = load_explain(predictor)
    monkeypatch.setattr("voco2d.inference.explain.explainer.Explainer.explain", lambda *_: 1 / 0)
    volume, _ = grade(make_bench(explain=explain, predictor=predictor))
    assert volume["unexplained"]
    assert [image["target"] for image in volume["images"]] == [None] * 3
