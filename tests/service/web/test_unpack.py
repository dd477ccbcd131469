"""Uploads that want more than they should, one by one; nothing of theirs lands outside, and little inside."""

import gzip
import io
import random
import struct
import zipfile
from pathlib import Path

import pytest

from voco2d.errors import ConfigError
from voco2d.service.web.args import UploadLimits
from voco2d.service.web.unpack import SCAN_NAME, UploadRefusedError, unpack

from .conftest import dicom_slice, nifti, zipped

LIMITS = UploadLimits(
    unpacked_bytes=8_000_000, file_bytes=4_000_000, files=50, ratio=20.0, ratio_from_bytes=1_000_000, free_bytes=0
)


def refusal(content: bytes, folder: Path, limits: UploadLimits = LIMITS) -> UploadRefusedError:
    with pytest.raises(UploadRefusedError) as refused:
        unpack(io.BytesIO(content), folder, limits)
    return refused.value


def written(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a" / "scan").mkdir(parents=True)
    return tmp_path / "a" / "scan"


@pytest.mark.parametrize(
    "name",
    [
        "../../escape.dcm",
        "/tmp/escape.dcm",
        "..\\..\\escape.dcm",
        "C:\\escape.dcm",
        "a/../../../b",
        "x" * 300,
        "\u202e",
    ],
)
def test_names_of_an_archive_never_reach_the_disk(folder: Path, name: str, tmp_path: Path) -> None:
    assert unpack(io.BytesIO(zipped({name: dicom_slice(0)})), folder, LIMITS) == 0
    assert [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()] == [Path("a/scan/000000.dcm")]


def test_links_in_an_archive_are_not_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(dicom_slice(0))
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(link, str(tmp_path / "secret"))
        archive.writestr("1", dicom_slice(1))
    assert unpack(file, folder, LIMITS) == 1
    assert [path.is_symlink() for path in folder.iterdir()] == [False]


def test_a_zip_bomb_is_ended_early(folder: Path) -> None:
    bomb = zipped({"a": dicom_slice(0)[:132] + bytes(3_900_000)})
    assert len(bomb) < 10_000
    told = refusal(bomb, folder)
    assert (told.status, told.reason) == (413, "grows more than 20 fold when it is unpacked")
    assert written(folder) <= 2_200_000


def test_a_zip_whose_entries_overlap_is_counted_by_what_comes_out(folder: Path) -> None:
    content = dicom_slice(0)[:132] + bytes(900_000)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", content)
        for index in range(30):  # thirty names of the same bytes
            info = zipfile.ZipInfo("a")
            for slot in ("header_offset", "compress_type", "CRC", "compress_size", "file_size", "flag_bits"):
                setattr(info, slot, getattr(archive.filelist[0], slot))
            info.external_attr = index
            archive.filelist.append(info)
    assert refusal(file.getvalue(), folder).status in (413, 415)
    assert written(folder) <= 3_000_000


def test_total_and_single_sizes_are_limited(folder: Path) -> None:
    noise = random.Random(0).randbytes(3_000_000)
    head = dicom_slice(0)[:132]
    told = refusal(zipped({str(i): head + noise for i in range(4)}, zipfile.ZIP_STORED), folder)
    assert (told.status, told.reason) == (413, "holds more than 8000000 bytes unpacked")
    (folder / "one").mkdir()
    told = refusal(zipped({"0": head + noise * 2}, zipfile.ZIP_STORED), folder / "one")
    assert told.reason == "a file of the zip holds more than 4000000 bytes"


def test_the_sizes_that_an_archive_tells_are_not_believed(folder: Path) -> None:
    content = bytearray(zipped({"0": dicom_slice(0)}))
    place = content.rfind(b"PK\x01\x02")
    content[place + 24 : place + 28] = struct.pack("<L", 200)  # the list says 200 bytes, the file holds more
    refusal(bytes(content), folder)


def test_too_many_files_are_refused_before_any_is_read(folder: Path) -> None:
    assert refusal(zipped({str(i): b"" for i in range(51)}), folder).reason == "the zip holds 51 files, at most 50"
    end = bytearray(zipped({"0": b"x"}))
    place = end.rfind(b"PK\x05\x06")
    end[place + 12 : place + 16] = struct.pack("<L", 10**8)
    assert refusal(bytes(end), folder).reason == "the zip holds far more than 50 files"
    assert list(folder.iterdir()) == []


def test_encrypted_and_oddly_packed_archives_are_refused(folder: Path) -> None:
    content = bytearray(zipped({"0": dicom_slice(0)}))
    content[content.rfind(b"PK\x01\x02") + 8] |= 1
    assert "encrypted" in refusal(bytes(content), folder).reason
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("0", dicom_slice(0))
    assert "unusual way" in refusal(file.getvalue(), folder).reason


@pytest.mark.parametrize("cut", [10, 200, 2000, -5])
def test_a_zip_that_is_cut_short_is_damaged(folder: Path, cut: int) -> None:
    assert refusal(zipped({"0": dicom_slice(0)})[:cut], folder).reason in (
        "the zip is damaged",
        "the zip holds no DICOM files",
    )


def test_of_other_files_no_more_than_the_start_is_unpacked(folder: Path) -> None:
    with_more = zipped({"big.txt": bytes(20_000_000), "0": dicom_slice(0)})
    assert unpack(io.BytesIO(with_more), folder, LIMITS) == 1
    assert refusal(zipped({"a.txt": b"x"}), folder).reason == "the zip holds no DICOM files"


@pytest.mark.parametrize(
    "content",
    [b"", b"MZ" + bytes(1000), b"%PDF-1.7", b"<svg onload=x>", b"\x80\x04\x95pickle", nifti()[:300], bytes(2000)],
    ids=["empty", "exe", "pdf", "svg", "pickle", "cut", "zeros"],
)
def test_what_is_no_scan_is_refused_by_its_content(folder: Path, content: bytes) -> None:
    told = refusal(content, folder)
    assert (told.status, told.reason) == (415, "neither a zip of DICOM files nor a NIfTI file (.nii, .nii.gz)")
    assert refusal(gzip.compress(content), folder).reason == "the compressed file is no NIfTI file (.nii.gz)"
    assert written(folder) == 0


def test_a_gzip_bomb_is_ended_early(folder: Path) -> None:
    assert refusal(gzip.compress(nifti()[:540] + bytes(12_000_000)), folder).status == 413
    assert written(folder) <= 3_200_000


def test_a_gzip_of_several_members_is_whole_and_a_cut_one_is_not(folder: Path) -> None:
    content = nifti()
    unpack(io.BytesIO(gzip.compress(content[:9000]) + gzip.compress(content[9000:])), folder, LIMITS)
    assert (folder / SCAN_NAME).read_bytes() == content
    (folder / SCAN_NAME).unlink()
    assert refusal(gzip.compress(content)[:-9], folder).reason == "the compressed file is damaged"
    (folder / SCAN_NAME).unlink()
    damaged = bytearray(gzip.compress(content))
    damaged[-6] ^= 1  # of the checksum
    assert refusal(bytes(damaged), folder).reason == "the compressed file is damaged"


def test_a_full_disk_is_told(folder: Path) -> None:
    full = UploadLimits(free_bytes=2**62)
    assert refusal(zipped({"0": dicom_slice(0)}), folder, full).status == 507


@pytest.mark.parametrize("wrong", [{"files": 0}, {"ratio": float("nan")}, {"upload_bytes": -1}])
def test_limits_that_are_none_are_refused(wrong: dict) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        UploadLimits(**wrong)


def test_an_honest_packed_scan_is_no_bomb(folder: Path) -> None:
    unpack(io.BytesIO(gzip.compress(nifti())), folder, LIMITS)
    assert (folder / SCAN_NAME).read_bytes() == nifti()
