"""DICOMweb in and out, with a real Orthanc that asks for a password."""

import json
import threading
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ComprehensiveSRStorage, ExplicitVRLittleEndian

from voco2d.errors import ConfigError, UsageError
from voco2d.service.answer import to_bytes
from voco2d.service.audit import Audit, digest_of
from voco2d.service.dicomweb import Fetched, fetch_studies
from voco2d.service.node_args import NodeArgs, WebTarget, check_address
from voco2d.service.send import send_due

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
PASSWORD = "correct horse"

needs_plugin = pytest.mark.skipif(not PLUGIN.exists(), reason="no DICOMweb (Debian: orthanc orthanc-dicomweb)")


@pytest.fixture
def archive(start_archive, hospital_study, tmp_path, monkeypatch):
    """An Orthanc with a phantom study, whose password stands in a file."""
    netrc = tmp_path / "netrc"
    netrc.write_text(f'machine 127.0.0.1 login voco2d password "{PASSWORD}"\n')
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)  # the command sets its own
    archive = start_archive(PASSWORD, Plugins=[str(PLUGIN)])
    for path in hospital_study.iterdir():
        archive.ask("/instances", path.read_bytes())
    return archive


def _series(archive) -> dict[str, dict]:
    listed = [json.loads(archive.ask(f"/series/{name}")) for name in json.loads(archive.ask("/series"))]
    return {entry["MainDicomTags"]["Modality"]: entry for entry in listed}


@needs_plugin
@pytest.mark.integration
@pytest.mark.slow
def test_a_study_is_found_fetched_graded_and_its_report_stored(archive, make_run, run, tmp_path, hospital_study):
    url = f"{archive.web}/dicom-web"
    header = dcmread(next(hospital_study.iterdir()))
    words = ["--model", make_run(tmp_path / "run"), "--spool", tmp_path / "spool", "--gates", "off", "--device", "cpu"]
    words += ["--quiet-seconds", 0, "--pdf", "--fetch-from", url, "--send-to", url]
    assert "0 studies fetched" in run("listen", *words, "--query", "PatientID=NOBODY")[1]
    code, told, _ = run("listen", *words, "--query", f"PatientID={header.PatientID}")
    assert code == 0
    assert f"1 study fetched, {len(list(hospital_study.iterdir()))} images" in told
    assert "1 graded, 0 failed, 0 receiving, 7 sent, 0 waiting" in told
    series = _series(archive)
    assert set(series) == {"CT", "SR", "DOC", "OT"}
    assert len({entry["ParentStudy"] for entry in series.values()}) == 1
    kept = {dcmread(path).SOPInstanceUID: path for path in (tmp_path / "spool" / "images").glob("*/*")}
    for path in hospital_study.iterdir():
        dataset = dcmread(path)
        assert dcmread(kept[dataset.SOPInstanceUID]).pixel_array.tobytes() == dataset.pixel_array.tobytes()
    audit = (tmp_path / "spool" / "audit.jsonl").read_text()
    assert digest_of(header.StudyInstanceUID) in audit
    assert all(secret not in audit + told for secret in (str(header.PatientID), header.StudyInstanceUID, PASSWORD))


@needs_plugin
@pytest.mark.integration
def test_a_wrong_password_is_told_without_it_and_reports_wait(archive, spool, tmp_path):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login voco2d password wrong\n")
    url = f"{archive.web}/dicom-web"
    with pytest.raises(
        UsageError, match=r"the query failed \(HTTP status 401; user and password belong into"
    ) as caught:
        fetch_studies(url, {}, spool, Audit(tmp_path / "audit.jsonl"), NodeArgs())
    assert "wrong" not in str(caught.value)
    spool.ledger.image("a")
    digest, version = spool.ledger.take(-1.0)
    (path,) = spool.write_results(digest, version, {"report.dcm": _report()})
    spool.ledger.finish(digest, version, "", [path], [url])
    assert _send_due(spool, NodeArgs(targets=(WebTarget(url),), timeout_s=5.0)) == 0
    assert spool.ledger.counts()["waiting"] == 1


def test_a_study_that_breaks_off_costs_itself_and_is_counted(spool, hospital_study, monkeypatch, tmp_path):
    images = [dcmread(path) for path in sorted(hospital_study.iterdir())]

    class Server:
        def search_for_studies(self, **_):
            return [{"0020000D": {"vr": "UI", "Value": [uid]}} for uid in ("1.1", "1.2")]

        def iter_study(self, uid):
            yield from images[:3]
            if uid == "1.1":
                raise ConnectionError("MEIER^HANS")
            yield from images[3:]

    monkeypatch.setattr("voco2d.service.dicomweb.web_client", lambda *_: Server())
    audit = Audit(tmp_path / "audit.jsonl")
    assert fetch_studies("http://x", {}, spool, audit, NodeArgs()) == Fetched(2, 3 + len(images), 1)
    assert spool.ledger.refusals() == {"fetching: ConnectionError": 1}
    assert "MEIER" not in (tmp_path / "audit.jsonl").read_text()


@pytest.mark.parametrize(
    ("keyword", "wanted", "other"),
    [
        ("StudyDate", "20260101-", "20251231"),
        ("StudyDate", "-20260101", "20260102"),
        ("StudyDate", "20260101", "20260102"),
        ("PatientID", "A*", "B1"),
        ("AccessionNumber", "17", "171"),
        ("StudyInstanceUID", "1.2\\1.3", "1.4"),
    ],
)
def test_a_server_that_passes_over_the_query_has_nothing_fetched(
    keyword, wanted, other, spool, monkeypatch, tmp_path, hospital_study
):
    answer = Dataset()
    answer.StudyInstanceUID = "1.2"
    setattr(answer, keyword, other)

    class Server:
        def search_for_studies(self, **_):
            return [answer.to_json_dict()]

        def iter_study(self, _):
            return [dcmread(next(hospital_study.iterdir()))]

    monkeypatch.setattr("voco2d.service.dicomweb.web_client", lambda *_: Server())
    audit = Audit(tmp_path / "audit.jsonl")
    with pytest.raises(UsageError, match=f"does not keep to {keyword}"):
        fetch_studies("http://x", {keyword: wanted}, spool, audit, NodeArgs())
    assert spool.ledger.counts() == {}
    matching = {"StudyDate": "20260101", "PatientID": "a7", "AccessionNumber": "17", "StudyInstanceUID": "1.3"}
    setattr(answer, keyword, matching[keyword])
    assert fetch_studies("http://x", {keyword: wanted}, spool, audit, NodeArgs()).studies == 1


def test_a_password_in_an_address_is_refused_without_telling_it():
    with pytest.raises(ConfigError, match="netrc") as caught:
        check_address("https://me:secret@pacs/dicom-web")
    assert "secret" not in str(caught.value)
    check_address("https://pacs/dicom-web?user=me@home")


def _send_due(spool, args) -> int:
    return send_due(spool.ledger, spool.folder, args, Audit(spool.folder / "audit.jsonl"))


def _report() -> bytes:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = ComprehensiveSRStorage, "1.2.3"
    dataset.StudyInstanceUID = dataset.SeriesInstanceUID = "1.2"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return to_bytes(dataset)
