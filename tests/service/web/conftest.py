"""A service around a network that answers at once, and scans to send to it."""

import io
import os
import shutil
import subprocess
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from starlette.testclient import TestClient

from voco2d.inference.predictor import Predictor
from voco2d.inference.runtime import FEATURES, Models, Slices
from voco2d.inference.settings import ModelSettings
from voco2d.io.volume import Volume
from voco2d.preprocessing.preprocess import PreprocessArgs
from voco2d.preprocessing.readout import ReadoutArgs
from voco2d.service.audit import Audit
from voco2d.service.web.app import make_app
from voco2d.service.web.args import ServeArgs, UploadLimits
from voco2d.service.web.evidence import Evidence, Explain, Explained, Overlay
from voco2d.service.web.intake import Intake
from voco2d.service.web.jobs import Jobs
from voco2d.service.web.routes import Service
from voco2d.service.web.tokens import load_tokens
from voco2d.service.web.worker import Worker
from voco2d.targets import TARGETS

TOKEN = "a-token-of-the-tests-0123456789"
NAME = "Doe^Jane"
PATIENT = "patient-4711"
SHAPE = (24, 40, 40)


@dataclass
class MeanRuntime:
    """Answers by the mean of the slices."""

    name: str = "mean"
    sha256: str = "0" * 64
    device: str = "cpu"
    feature_distance: None = None

    def logits(self, slices: Slices) -> Mapping[str, np.ndarray]:
        level = np.float32(slices.mean())
        answer = {name: level * np.arange(len(target.classes), dtype=np.float32) for name, target in TARGETS.items()}
        return {**answer, FEATURES: slices.mean(axis=(1, 2, 3))}


def make_predictor(runtime: MeanRuntime | None = None) -> Predictor:
    settings = ModelSettings(preprocess=PreprocessArgs(size=(8, 32, 32)), readout=ReadoutArgs(slices=8, crop=32))
    return Predictor(Models([runtime or MeanRuntime()], settings), gates="off")


def explain_by_brightness(predictor: Predictor, volume: Volume, begin: Callable[[], None]) -> Explained:
    """Point at the brightest slices and the bright voxels; for the liver without an overlay, for others not at all."""
    study = predictor.predict(volume)
    begin()
    scores = volume.hu.astype(np.float64).mean(axis=(1, 2))
    ranks = [int(index) for index in np.argsort(-scores)]
    seen = np.where(np.arange(len(scores)) < 2, np.nan, scores)
    overlay = Overlay(np.clip((volume.hu.astype(np.float32) - 60) / 100, 0, 1), volume.affine_lps)
    picture = io.BytesIO()
    Image.fromarray(np.zeros((20, 30), np.uint8)).save(picture, "PNG")
    evidence = {
        "spleen": Evidence(tuple(ranks[:2]), seen, overlay, (picture.getvalue(),) * 2),
        "liver": Evidence((ranks[-1],), -scores),
    }
    return Explained(study, evidence)


def body(bright: int = 6) -> np.ndarray:
    """(Z, H, W) HU: a round body with one bright slice."""
    rows, columns = np.mgrid[: SHAPE[1], : SHAPE[2]]
    inside = (rows - 20) ** 2 + (columns - 20) ** 2 < 18**2
    hu = np.where(inside, 40, -1000) + np.random.default_rng(0).integers(-20, 20, SHAPE)
    hu[bright, 12:20, 8:16] += 150
    return hu.astype(np.int16)


def nifti(bright: int = 6) -> bytes:
    """A gzipped NIfTI file; the bright slice is counted from above."""
    ras = body(bright)[::-1, ::-1, ::-1].transpose(2, 1, 0)
    return bytes(nib.Nifti1Image(ras, np.diag([8.0, 8.0, 10.0, 1.0])).to_bytes())


def dicom_slice(index: int, study: str = "1.2.3", series: str = "1.2.3.4") -> bytes:
    """One slice of `body`, the first of them uppermost."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = f"{series}.{index + 1}"
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
    dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate = NAME, PATIENT, "19010203"
    dataset.Modality, dataset.InstanceNumber = "CT", index + 1
    dataset.Rows, dataset.Columns = SHAPE[1:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.ImagePositionPatient = [-160, -160, -10 * index]
    dataset.PixelSpacing, dataset.SliceThickness = [8, 8], 10
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, 0
    dataset.PixelData = body()[index].tobytes()
    file = io.BytesIO()
    pydicom.dcmwrite(file, dataset, enforce_file_format=True)
    return file.getvalue()


def zipped(files: Mapping[str, bytes], packing: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", packing) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


def dicom_zip(**more: bytes) -> bytes:
    """A series by names that hold the patient's."""
    return zipped({f"{NAME}/{PATIENT}/IM{index:04d}": dicom_slice(index) for index in range(SHAPE[0])} | more)


class Bench:
    """A service whose worker is this thread's."""

    def __init__(
        self, args: ServeArgs, explain: Explain | None = explain_by_brightness, predictor: Predictor | None = None
    ) -> None:
        args.state.mkdir(exist_ok=True)
        self.args = args
        self.jobs = Jobs(args.database_url)
        self.intake = Intake(args, self.jobs)
        self.audit = Audit(args.state / "audit.jsonl", "job")
        tokens, _ = load_tokens(args.state, {"VOCO2D_TOKEN": TOKEN}) if args.auth else (None, None)
        self.app = make_app(Service(args, self.jobs, self.intake), tokens, self.audit)
        self.worker = Worker(self.jobs, args.jobs, predictor or make_predictor(), explain, self.audit)

    def client(self, token: str | None = TOKEN, **options: object) -> TestClient:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return TestClient(self.app, headers=headers, **options)

    def close(self) -> None:
        self.intake.close()
        self.jobs.close()


@pytest.fixture
def make_bench(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    """Start services in one folder, the one before being closed; keywords are those of the arguments."""
    opened: list[Bench] = []

    def make(
        explain: Explain | None = explain_by_brightness,
        limits: UploadLimits | None = None,
        predictor: Predictor | None = None,
        **args: object,
    ) -> Bench:
        for earlier in opened:
            earlier.close()
        settings = ServeArgs(tmp_path / "state", **{"requests_per_minute": 6000, "burst": 1000, **args})
        opened.append(Bench(replace(settings, limits=limits or UploadLimits(free_bytes=0)), explain, predictor))
        return opened[-1]

    yield make
    for bench in opened:
        bench.close()


@pytest.fixture
def bench(make_bench: Callable[..., Bench]) -> Bench:
    return make_bench()


@pytest.fixture
def client(bench: Bench) -> TestClient:
    return bench.client()


def send(client: TestClient, content: bytes, name: str = f"{NAME}.zip") -> object:
    return client.post("/api/jobs", files={"scan": (name, content)})


def server_programs() -> Path | None:
    """Folder of PostgreSQL's server programs, on the path or where Debian puts them."""
    on_path = shutil.which("initdb")
    folders = [Path(on_path).parent] if on_path else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return folders[-1] if folders else None


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """Start a PostgreSQL of its own that listens on a socket in its folder only; it refuses to run as root."""
    programs = server_programs()
    if programs is None:
        pytest.skip("needs PostgreSQL: apt-get install postgresql")
    pytest.importorskip("psycopg", reason="needs psycopg, of the extra postgres")
    as_user = ["runuser", "-u", "nobody", "--"] if os.getuid() == 0 else []
    folder = Path(f"/tmp/voco2d-pg-{os.getpid()}")  # short: the path of a socket has at most 107 bytes
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    data = folder / "data"
    settings = f"-c listen_addresses= -c unix_socket_directories={folder} -c fsync=off"
    try:
        subprocess.run(
            [*as_user, programs / "initdb", "-D", data, "-U", "voco2d", "-A", "trust"],
            check=True,
            capture_output=True,
            cwd=folder,
        )
        start = [
            *as_user,
            programs / "pg_ctl",
            "-D",
            data,
            "-w",
            "-t",
            "600",
            "-o",
            settings,
            "-l",
            folder / "log",
            "start",
        ]
        subprocess.run(start, check=True, cwd=folder, stdout=subprocess.DEVNULL)
        yield f"postgresql+psycopg://voco2d@/postgres?host={folder}"
    finally:
        subprocess.run(
            [*as_user, programs / "pg_ctl", "-D", data, "-m", "immediate", "stop"],
            cwd=folder,
            stdout=subprocess.DEVNULL,
        )
        shutil.rmtree(folder, ignore_errors=True)
