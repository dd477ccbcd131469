"""The API from upload to deletion."""

import gzip
import io
import json
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from sqlalchemy.exc import OperationalError
from starlette.testclient import TestClient

from voco2d.inference.predictor import Predictor
from voco2d.io.volume import Volume
from voco2d.service.web import worker as worker_module
from voco2d.service.web.evidence import Explained
from voco2d.service.web.grading import _plain

from .conftest import (
    NAME,
    PATIENT,
    Bench,
    body,
    dicom_slice,
    dicom_zip,
    explain_by_brightness,
    make_predictor,
    nifti,
    send,
    zipped,
)


def grade(bench: Bench, client: TestClient, content: bytes) -> dict:
    answer = send(client, content)
    assert answer.status_code == 202, answer.text
    assert bench.worker.step()
    return client.get(f"/api/jobs/{answer.json()['id']}/result").json()


def test_a_dicom_upload_becomes_a_result_with_files(bench: Bench, client: TestClient) -> None:
    accepted = send(client, dicom_zip(readme=b"not DICOM", DICOMDIR=b"nor this"))
    assert accepted.status_code == 202
    job = accepted.json()
    assert (job["state"], job["progress"], job["left_out"]) == ("waiting", 0, 2)
    assert client.get(f"/api/jobs/{job['id']}/result").status_code == 409

    assert bench.worker.step()
    assert not bench.worker.step()
    shown = client.get(f"/api/jobs/{job['id']}").json()
    assert (shown["state"], shown["progress"]) == ("done", 1)
    assert shown["finished"] > shown["created"]
    result = client.get(f"/api/jobs/{job['id']}/result").json()
    study = result["studies"][0]
    assert (study["patient_id"], study["status"]) == (PATIENT, "assessed")
    assert sum(study["probabilities"][f"spleen_{grade}"] for grade in ("healthy", "low", "high")) == pytest.approx(1)
    assert result["report"]["models"][0]["weights"] == "mean"
    volume = result["volumes"][0]
    assert (volume["slices"], volume["key_slices"]["spleen"][0], volume["study"], volume["series"]) == (24, 6, 0, 0)
    assert len(volume["slice_scores"]["liver"]) == 24
    assert volume["slice_scores"]["spleen"][:2] == [None, None]
    assert set(volume["overlays"]) == {"spleen"}
    assert [image["target"] for image in volume["images"]] == ["spleen", "spleen", "liver"]

    files = f"/api/jobs/{job['id']}/files/"
    pictures = [client.get(files + image["file"]) for image in volume["images"]]
    assert [picture.headers["content-type"] for picture in pictures] == ["image/png", "image/png", "image/jpeg"]
    sizes = [Image.open(io.BytesIO(picture.content)).size for picture in pictures]
    assert sizes == [(30, 20), (30, 20), (384, 384)]
    shown_volume = nib.Nifti1Image.from_bytes(gzip.decompress(client.get(files + volume["file"]).content))
    assert shown_volume.shape == (40, 40, 24)
    assert np.asarray(shown_volume.dataobj)[::-1, ::-1, ::-1].transpose(2, 1, 0) == pytest.approx(body())
    np.testing.assert_allclose(shown_volume.affine @ [39, 39, 23, 1], [160, 160, 0, 1])
    assert np.allclose(np.diag(shown_volume.affine), [8, 8, 10, 1])
    overlay = nib.Nifti1Image.from_bytes(gzip.decompress(client.get(files + volume["overlays"]["spleen"]).content))
    assert overlay.shape == (80, 80, 24)
    assert np.asarray(overlay.dataobj)[:, :, 23 - 6].max() > 200
    edges = [[-0.5, -0.5, 0, 1], [79.5, 79.5, 23, 1]], [[-0.5, -0.5, 0, 1], [39.5, 39.5, 23, 1]]
    for fine, coarse in zip(*edges, strict=True):
        np.testing.assert_allclose(overlay.affine @ fine, shown_volume.affine @ coarse)


@pytest.mark.parametrize("job_id", ["abc", "0" * 32, "Doe^Jane"])
def test_an_id_of_no_job_is_told_so(client: TestClient, job_id: str) -> None:
    for answer in (
        client.get(f"/api/jobs/{job_id}"),
        client.get(f"/api/jobs/{job_id}/result"),
        client.get(f"/api/jobs/{job_id}/files/x.png"),
        client.delete(f"/api/jobs/{job_id}"),
    ):
        assert (answer.status_code, answer.json()) == (404, {"detail": "no such job"})


def test_the_list_tells_a_job_whose_studies_were_not_assessed(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(predictor=Predictor(make_predictor().models, gates="refuse"))
    client = bench.client()
    grade(bench, client, zipped({f"{index}": dicom_slice(index) for index in range(8)}))
    (job,) = client.get("/api/jobs").json()["jobs"]
    assert (job["state"], job["stage"]) == ("done", "not assessed")


def test_small_scores_keep_their_digits_and_zero_has_no_sign() -> None:
    assert [str(score) for score in _plain(np.array([-0.0, -0.0000123456, np.nan, 0.25]))] == [
        *("0.0", "-1.235e-05", "None", "0.25")
    ]


def test_nothing_of_the_upload_stays_but_what_is_shown(bench: Bench, client: TestClient) -> None:
    job_id = send(client, dicom_zip()).json()["id"]
    bench.worker.step()
    names = sorted(path.name for path in (bench.args.jobs / job_id).rglob("*") if path.is_file())
    assert names == [
        "image-0-liver.jpg",
        "image-0-spleen-1.png",
        "image-0-spleen-2.png",
        "overlay-0-spleen.nii.gz",
        "volume-0.nii.gz",
    ]
    for path in bench.args.jobs.rglob("*.nii.gz"):
        assert PATIENT.encode() not in gzip.decompress(path.read_bytes())


@pytest.mark.parametrize("packed", [False, True])
def test_nifti_is_taken_plain_and_packed(bench: Bench, client: TestClient, packed: bool) -> None:
    result = grade(bench, client, gzip.compress(nifti()) if packed else nifti())
    assert result["studies"][0]["status"] == "assessed"
    assert result["volumes"][0]["key_slices"]["spleen"][0] == 6


def test_without_an_explanation_the_scan_is_shown_alone(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(explain=None)
    volume = grade(bench, bench.client(), nifti())["volumes"][0]
    assert volume["key_slices"] == volume["overlays"] == {}
    assert [(image["target"], image["slice"]) for image in volume["images"]] == [(None, 6), (None, 12), (None, 18)]


def test_an_upload_may_hold_several_studies(bench: Bench, client: TestClient) -> None:
    files = {
        f"{study}/{index}": dicom_slice(index, f"1.2.{study}", f"1.2.{study}.1")
        for study in (5, 6)
        for index in range(24)
    }
    result = grade(bench, client, zipped(files))
    assert [study["study_id"] for study in result["studies"]] == ["1.2.5", "1.2.6"]
    assert [(volume["study"], volume["series"]) for volume in result["volumes"]] == [(0, 0), (1, 0)]


def test_a_damaged_scan_fails_with_its_reason_and_the_next_is_graded(bench: Bench, client: TestClient) -> None:
    bad = send(client, zipped({f"{i}": dicom_slice(i)[:600] for i in range(24)})).json()["id"]
    good = send(client, nifti()).json()["id"]
    assert bench.worker.step()
    assert bench.worker.step()
    failed = client.get(f"/api/jobs/{bad}").json()
    assert failed["state"] == "failed"
    assert failed["reason"]
    assert client.get(f"/api/jobs/{good}").json()["state"] == "done"
    assert client.get(f"/api/jobs/{bad}/result").status_code == 409
    assert client.get("/api/jobs").json()["counts"] == {"waiting": 0, "running": 0, "done": 1, "failed": 1}


def test_files_of_targets_in_capital_letters_are_served(make_bench: Callable[..., Bench]) -> None:
    def explain_by_another_name(predictor: Predictor, volume: Volume, begin: Callable[[], None]) -> Explained:
        explained = explain_by_brightness(predictor, volume, begin)
        return replace(explained, evidence={"Mass_2": explained.evidence["spleen"]})

    bench = make_bench(explain=explain_by_another_name)
    client = bench.client()
    volume = grade(bench, client, nifti())["volumes"][0]
    job_id = client.get("/api/jobs").json()["jobs"][0]["id"]
    names = [volume["overlays"]["Mass_2"], *(image["file"] for image in volume["images"])]
    assert "Mass_2" in names[-1]
    assert [client.get(f"/api/jobs/{job_id}/files/{name}").status_code for name in names] == [200] * len(names)


@pytest.mark.parametrize(("locked", "state"), [(2, "done"), (3, "running")])
def test_a_locked_database_costs_no_result(
    bench: Bench, client: TestClient, monkeypatch: pytest.MonkeyPatch, locked: int, state: str
) -> None:
    tries: list[str] = []
    finish = bench.jobs.finish

    def finish_later(job_id: str, result: Mapping[str, object]) -> bool:
        tries.append(job_id)
        if len(tries) <= locked:
            raise OperationalError("UPDATE", {}, sqlite3.OperationalError("database is locked"))
        return finish(job_id, result)

    monkeypatch.setattr(worker_module, "_TRY_AGAIN_S", 0.0)
    monkeypatch.setattr(bench.jobs, "finish", finish_later)
    job_id = send(client, nifti()).json()["id"]
    with pytest.raises(OperationalError) if state == "running" else nullcontext():
        bench.worker.step()
    assert client.get(f"/api/jobs/{job_id}").json()["state"] == state
    assert (bench.args.jobs / job_id).exists()


def test_a_job_is_deleted_with_all_its_files(bench: Bench, client: TestClient) -> None:
    ids = [send(client, nifti()).json()["id"] for _ in range(2)]
    bench.worker.step()
    for job_id in ids:
        assert client.delete(f"/api/jobs/{job_id}").status_code == 204
        assert client.delete(f"/api/jobs/{job_id}").status_code == 404
        assert client.get(f"/api/jobs/{job_id}").status_code == 404
    assert list(bench.args.jobs.iterdir()) == []
    assert not bench.worker.step()


def test_a_job_that_is_deleted_while_it_is_graded_leaves_nothing(make_bench: Callable[..., Bench]) -> None:
    def delete_first(predictor: Predictor, volume: Volume, begin: Callable[[], None]) -> Explained:
        bench.intake.delete(job_id)
        return explain_by_brightness(predictor, volume, begin)

    bench = make_bench(explain=delete_first)
    job_id = send(bench.client(), nifti()).json()["id"]
    assert bench.worker.step()
    assert list(bench.args.jobs.iterdir()) == []
    assert bench.jobs.counts() == {"waiting": 0, "running": 0, "done": 0, "failed": 0}


def test_jobs_are_listed_newest_first_in_pages(client: TestClient) -> None:
    ids = [send(client, nifti()).json()["id"] for _ in range(3)]
    listed = client.get("/api/jobs").json()["jobs"]
    assert sorted(job["id"] for job in listed) == sorted(ids)
    assert [job["created"] for job in listed] == sorted((job["created"] for job in listed), reverse=True)
    assert client.get("/api/jobs?limit=1&offset=1").json()["jobs"] == listed[1:2]


def test_the_openapi_document_tells_of_the_token_and_pages_need_none(bench: Bench) -> None:
    anyone = bench.client(token=None)
    document = anyone.get("/openapi.json").json()
    assert document["paths"]["/api/jobs"]["post"]["security"] == [{"HTTPBearer": []}]
    assert "/" not in document["paths"]
    for path in ("/", "/docs", "/static/app.js", "/static/vendor/niivue.umd.js"):
        assert anyone.get(path).status_code == 200, path
    assert anyone.get("/api/health").json() == {
        "status": "ok",
        "worker": "ready",
        "version": document["info"]["version"],
    }


def test_names_of_the_upload_are_nowhere_but_in_the_result(bench: Bench, client: TestClient, caplog, capsys) -> None:
    for content in (dicom_zip(), zipped({NAME: b"x"}), dicom_zip()[:4000]):
        send(client, content)
        bench.worker.step()
    client.get("/api/jobs")
    texts = [caplog.text, *capsys.readouterr(), (bench.args.state / "audit.jsonl").read_text()]
    texts += [str(path) for path in bench.args.state.rglob("*")]
    for text in texts:
        assert not any(word in text for word in ("Doe", "Jane", PATIENT, "1.2.3.4", "19010203"))
    lines = [json.loads(line) for line in (bench.args.state / "audit.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["request", "graded", "request", "request", "request"]
    assert {len(line["caller"]) for line in lines if line["event"] == "request"} == {12}
