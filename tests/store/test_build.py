import csv
import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from voco2d.errors import LabelError, StoreError, UsageError
from voco2d.io.readers import read_volume
from voco2d.preprocessing.preprocess import PreprocessArgs, preprocess
from voco2d.store import conversion, files, survey
from voco2d.store.build import PrepareArgs, PrepareSummary, prepare
from voco2d.store.volume_store import VolumeStore

Snapshot = Callable[[Path], dict[str, bytes]]
WriteScan = Callable[..., Path]

PREPARE = """
import sys, pathlib
from voco2d.store.build import PrepareArgs, prepare
from voco2d.preprocessing.preprocess import PreprocessArgs
args = PrepareArgs(preprocess=PreprocessArgs(size=(4, 16, 16)), isolate=False)
prepare([pathlib.Path(sys.argv[1])], pathlib.Path(sys.argv[2]), args)
"""
"""A process of its own that prepares its first argument into its second."""


def quarantine(store: Path) -> dict[str, str]:
    with (store / "quarantine.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {Path(row["path"]).name: row["reason"] for row in rows}


def times(store: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in store.rglob("*") if path.is_file()}


@pytest.fixture
def forbid_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("a source was read again")

    monkeypatch.setattr(conversion, "read_source", fail)


def test_every_scan_becomes_a_volume_or_a_line_of_the_quarantine(
    source: Path, tmp_path: Path, args: PrepareArgs
) -> None:
    (source / "readme.txt").write_text("not a scan")
    summary = prepare([source], tmp_path / "store", args)
    assert summary == PrepareSummary(prepared=4, unchanged=0, quarantined=2, store=tmp_path / "store")
    left_out = quarantine(tmp_path / "store")
    assert left_out.keys() == {"air.npy", "readme.txt"}
    assert "no body found" in left_out["air.npy"]
    store = VolumeStore(tmp_path / "store")
    assert len(store) == 4
    assert sorted(store.index["patient_id"]) == ["scan0", "scan0", "scan1", "scan2"]
    assert (store.index["n_slices"] == 6).all()
    assert (store.index["coverage_mm"] == 12.0).all()


def key_of(store: Path, patient: str) -> str:
    """Return the key of a patient's only volume."""
    index = VolumeStore(store).index
    return str(index.loc[index["patient_id"] == patient, "key"].item())


def test_second_run_reads_and_writes_nothing(
    source: Path, tmp_path: Path, args: PrepareArgs, request: pytest.FixtureRequest
) -> None:
    first = prepare([source], tmp_path / "store", args)
    before = times(tmp_path / "store")
    request.getfixturevalue("forbid_reading")
    second = prepare([source], tmp_path / "store", args)
    assert second == replace(first, prepared=0, unchanged=4)
    assert times(tmp_path / "store") == before


def test_changed_source_is_prepared_anew(source: Path, tmp_path: Path, args: PrepareArgs, scan: WriteScan) -> None:
    store = tmp_path / "store"
    prepare([source], store, args)
    before = times(store)
    scan(source, "scan1", seed=77)
    summary = prepare([source], store, args)
    assert (summary.prepared, summary.unchanged) == (1, 3)
    changed = {name for name, moment in times(store).items() if before.get(name) != moment}
    key = key_of(store, "scan1")
    assert changed == {f"{key}.npy", f"{key}.jpg", f"{key}.json", "index.parquet", "quality.parquet", "quality.html"}
    assert len(VolumeStore(store)) == 4


def test_source_whose_ids_changed_replaces_its_volume(
    source: Path, tmp_path: Path, args: PrepareArgs, scan: WriteScan
) -> None:
    store = tmp_path / "store"
    prepare([source], store, args)
    scan(source, "scan1", seed=1, patient_id="another")
    prepare([source], store, args)
    assert sorted(VolumeStore(store).index["patient_id"]) == ["another", "scan0", "scan0", "scan2"]
    assert len(list((store / "volumes").iterdir())) == 4


def test_refused_source_is_remembered_until_it_changes(
    source: Path, tmp_path: Path, args: PrepareArgs, scan: WriteScan
) -> None:
    store = tmp_path / "store"
    prepare([source], store, args)
    scan(source, "air", seed=5)
    assert prepare([source], store, args).prepared == 1
    assert quarantine(store) == {}
    scan(source, "air", body=False)
    assert prepare([source], store, args) == PrepareSummary(0, 4, 1, store)
    assert quarantine(store).keys() == {"air.npy"}
    assert len(VolumeStore(store)) == 4
    assert len(list((store / "volumes").iterdir())) == 4


def test_quarantine_keeps_what_other_calls_found(tmp_path: Path, args: PrepareArgs, scan: WriteScan) -> None:
    store = tmp_path / "store"
    for name in ("one", "two"):
        scan(tmp_path / name, f"good_{name}", seed=len(name))
        scan(tmp_path / name, f"air_{name}", body=False)
        (tmp_path / name / f"{name}.txt").write_text("no scan")
    prepare([tmp_path / "one"], store, args)
    assert prepare([tmp_path / "two"], store, args).quarantined == 2
    assert quarantine(store).keys() == {"air_one.npy", "one.txt", "air_two.npy", "two.txt"}
    (tmp_path / "one" / "one.txt").unlink()
    (tmp_path / "one" / "air_one.npy").unlink()
    (tmp_path / "one" / "air_one.json").unlink()
    assert prepare([tmp_path / "one"], store, args).quarantined == 0
    assert quarantine(store).keys() == {"air_two.npy", "two.txt"}


def test_failure_of_the_machine_is_tried_again(
    source: Path, tmp_path: Path, args: PrepareArgs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_out(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(conversion, "read_source", run_out)
        assert prepare([source], tmp_path / "store", args).quarantined == 5
    assert prepare([source], tmp_path / "store", args) == PrepareSummary(4, 0, 1, tmp_path / "store")


def test_unforeseen_error_of_a_reader_is_listed_without_its_text(
    source: Path, tmp_path: Path, args: PrepareArgs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stumble(*_: object) -> None:
        raise KeyError("DOE^JANE")

    monkeypatch.setattr(conversion, "read_source", stumble)
    prepare([source], tmp_path / "store", args)
    reasons = set(quarantine(tmp_path / "store").values())
    assert reasons == {"can't be read, in a way that was not foreseen; --verbose tells where it failed"}


def test_moved_series_is_not_prepared_twice(source: Path, tmp_path: Path, args: PrepareArgs) -> None:
    store = tmp_path / "store"
    prepare([source], store, args)
    source.rename(tmp_path / "elsewhere")
    summary = prepare([tmp_path / "elsewhere"], store, args)
    assert (summary.prepared, summary.vanished) == (4, 0)
    index = VolumeStore(store).index
    assert len(index) == 4
    assert all("elsewhere" in path for path in index["source"])


def test_ids_that_a_table_changes_replace_the_volume(tmp_path: Path, args: PrepareArgs, scan: WriteScan) -> None:
    """A corrected table left the volume with the patient of the wrong one."""
    scan(tmp_path, "scan")
    for patient, study in (("wrong", "v1"), ("right", "v1"), ("right", "v2")):
        (tmp_path / "list.csv").write_text(f"path,patient_id,study_id\nscan.npy,{patient},{study}\n")
        assert prepare([tmp_path / "list.csv"], tmp_path / "store", args).prepared == 1
        assert VolumeStore(tmp_path / "store").index[["patient_id", "study_id"]].to_numpy().tolist() == [
            [patient, study]
        ]
    assert prepare([tmp_path / "list.csv"], tmp_path / "store", args).unchanged == 1


def test_volume_whose_source_is_gone_stays(source: Path, tmp_path: Path, args: PrepareArgs) -> None:
    prepare([source], tmp_path / "store", args)
    (source / "scan2.npy").unlink()
    (source / "scan2.json").unlink()
    prepare([source], tmp_path / "store", args)
    assert len(VolumeStore(tmp_path / "store")) == 4


@pytest.mark.parametrize("harm", ["missing", "cut"])
def test_lost_volume_is_made_anew(
    source: Path, tmp_path: Path, args: PrepareArgs, harm: str, snapshot: Snapshot
) -> None:
    store = tmp_path / "store"
    prepare([source], store, args)
    before = snapshot(store)
    volume = store / "volumes" / f"{key_of(store, 'scan1')}.npy"
    volume.unlink() if harm == "missing" else volume.write_bytes(volume.read_bytes()[:-5])
    assert prepare([source], store, args).prepared == 1
    assert snapshot(store) == before


def test_interrupted_run_goes_on_and_ends_the_same(
    source: Path, tmp_path: Path, args: PrepareArgs, snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare([source], tmp_path / "whole", args)
    read_source, calls = conversion.read_source, []

    def stop_at_third(*words: object) -> object:
        calls.append(words)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return read_source(*words)

    with monkeypatch.context() as patch:
        patch.setattr(conversion, "read_source", stop_at_third)
        with pytest.raises(KeyboardInterrupt):
            prepare([source], tmp_path / "store", args)
    assert len(VolumeStore(tmp_path / "store")) == 1  # air.npy was refused, scan0 done
    assert prepare([source], tmp_path / "store", args) == PrepareSummary(3, 1, 1, tmp_path / "store")
    assert snapshot(tmp_path / "store") == snapshot(tmp_path / "whole")


def test_killed_run_goes_on_and_ends_the_same(
    source: Path, tmp_path: Path, args: PrepareArgs, snapshot: Snapshot
) -> None:
    script = (
        "import time\n"
        "from voco2d.store import conversion\n"
        "save = conversion.Record.save\n"
        "def slow(self, root):\n"
        "    time.sleep(60) if self.row['patient_id'] == 'scan1' else save(self, root)\n"
        "conversion.Record.save = slow\n"
    ) + PREPARE
    store = tmp_path / "store"
    process = subprocess.Popen([sys.executable, "-c", script, str(source), str(store)])
    deadline = time.monotonic() + 60
    while not 0 < len(list(store.glob("records/*.json"))) < len(list(store.glob("volumes/s-*.npy"))):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with pytest.raises(StoreError, match="no index yet"):
        VolumeStore(store)
    summary = prepare([source], store, args)
    assert summary.unchanged > 0
    prepare([source], tmp_path / "whole", args)
    assert snapshot(store) == snapshot(tmp_path / "whole")


def test_workers_give_the_same_store(source: Path, tmp_path: Path, args: PrepareArgs, snapshot: Snapshot) -> None:
    prepare([source], tmp_path / "one", args)
    prepare([source], tmp_path / "two", replace(args, workers=2))
    assert snapshot(tmp_path / "one") == snapshot(tmp_path / "two")


def test_full_disk_leaves_what_was_there(
    source: Path,
    tmp_path: Path,
    args: PrepareArgs,
    scan: WriteScan,
    snapshot: Snapshot,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = tmp_path / "store"
    prepare([source], store, args)
    before = snapshot(store)
    scan(source, "scan9", seed=9)
    with monkeypatch.context() as patch:

        def fill(_: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        patch.setattr(files.os, "fsync", fill)
        with pytest.raises(StoreError, match=r"store: the disk is full; 1 volumes of up to .* GB are left; .* again"):
            prepare([source], store, args)
    assert snapshot(store) == before
    assert prepare([source], store, args).prepared == 1


def test_file_size_limit_in_a_worker_is_one_sentence(source: Path, tmp_path: Path) -> None:
    script = (
        "import resource, signal, sys, pathlib\n"
        "from voco2d.errors import StoreError\n"
        "from voco2d.preprocessing.preprocess import PreprocessArgs\n"
        "from voco2d.store.build import PrepareArgs, prepare\n"
        "if __name__ == '__main__':\n"
        "    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "    try:\n"
        "        args = PrepareArgs(preprocess=PreprocessArgs(size=(4, 32, 32)), workers=2)\n"
        "        prepare([pathlib.Path(sys.argv[1])], pathlib.Path(sys.argv[2]), args)\n"
        "    except StoreError as error:\n"
        "        print(error)\n"
    )
    (tmp_path / "script.py").write_text(script)
    words = [sys.executable, str(tmp_path / "script.py"), str(source), str(tmp_path / "store")]
    # coverage's own file, where that is measured, would be too large as well
    alone = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    run = subprocess.run(words, capture_output=True, text=True, check=True, env=alone)
    assert "File too large; " in run.stdout
    assert "run the same command again" in run.stdout
    assert list((tmp_path / "store" / "volumes").iterdir()) == []


def test_workers_load_neither_torch_nor_pandas() -> None:
    script = "import sys, voco2d.store.conversion; print(sorted({'torch', 'pandas', 'sklearn'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_other_settings_are_refused_by_name(
    source: Path, tmp_path: Path, args: PrepareArgs, snapshot: Snapshot
) -> None:
    prepare([source], tmp_path / "store", args)
    before = snapshot(tmp_path / "store")
    other = replace(args, preprocess=PreprocessArgs(size=(4, 16, 16), body_crop=False))
    with pytest.raises(StoreError, match=r"preprocess\.body_crop is True there, False here\); .* another --out"):
        prepare([source], tmp_path / "store", other)
    assert snapshot(tmp_path / "store") == before


def test_folder_of_something_else_is_refused(source: Path, tmp_path: Path, args: PrepareArgs) -> None:
    for out in (source, source.parent):
        with pytest.raises(UsageError, match="its own source"):
            prepare([source], out, args)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").touch()
    with pytest.raises(StoreError, match="other: holds files but no store"):
        prepare([source], tmp_path / "other", args)
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="not a folder"):
        prepare([source], tmp_path / "file", args)


def test_folder_without_rights_is_refused(source: Path, tmp_path: Path, args: PrepareArgs) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="give a folder that can be written"):
        prepare([source], tmp_path / "file" / "store", args)


def test_nothing_to_prepare_is_wrong_use(tmp_path: Path, args: PrepareArgs) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="empty: no DICOM, NIfTI, NRRD, MetaImage or NumPy file"):
        prepare([tmp_path / "empty"], tmp_path / "store", args)
    with pytest.raises(UsageError, match="missing"):
        prepare([tmp_path / "missing"], tmp_path / "store", args)
    with pytest.raises(UsageError, match="workers=-1"):
        prepare([tmp_path], tmp_path / "store", replace(args, workers=-1))
    assert not (tmp_path / "store").exists()


def test_store_below_its_source_is_not_read(source: Path, args: PrepareArgs) -> None:
    first = prepare([source], source / "store", args)
    assert prepare([source], source / "store", args) == replace(first, prepared=0, unchanged=4)


def test_hostile_ids_stay_inside(tmp_path: Path, args: PrepareArgs, scan: WriteScan) -> None:
    for name in ("one", "two"):
        scan(tmp_path / "source", name, patient_id="../../etc/x", series_id="../../../y")
    prepare([tmp_path / "source"], tmp_path / "store", args)
    assert {entry.name for entry in tmp_path.iterdir()} == {"source", "store"}
    store = VolumeStore(tmp_path / "store")
    assert len(store) == 2
    assert store.index["key"].is_unique
    assert set(store.index["patient_id"]) == {"../../etc/x"}


def test_damaged_record_is_made_anew(source: Path, tmp_path: Path, args: PrepareArgs, snapshot: Snapshot) -> None:
    store = tmp_path / "store"
    prepare([source], store, args)
    before = snapshot(store)
    (store / "records" / f"{key_of(store, 'scan1')}.json").write_bytes(b"{\x00")
    (store / "index.parquet").unlink()
    assert prepare([source], store, args).prepared == 1
    assert snapshot(store) == before


def test_two_runs_at_once_do_no_harm(tmp_path: Path, args: PrepareArgs, scan: WriteScan, snapshot: Snapshot) -> None:
    for number in range(20):
        scan(tmp_path / "source", f"scan{number}", seed=number, body=number % 4 != 0)
    words = [sys.executable, "-c", PREPARE, str(tmp_path / "source"), str(tmp_path / "store")]
    runs = [subprocess.Popen(words) for _ in range(2)]
    assert [run.wait() for run in runs] == [0, 0]
    prepare([tmp_path / "source"], tmp_path / "alone", args)
    assert snapshot(tmp_path / "store") == snapshot(tmp_path / "alone")


def test_prepared_values_are_those_of_preprocess(source: Path, tmp_path: Path, args: PrepareArgs) -> None:
    prepare([source], tmp_path / "store", args)
    store = VolumeStore(tmp_path / "store")
    for row, volume in zip(store.index.itertuples(), store, strict=True):
        np.testing.assert_array_equal(volume, preprocess(read_volume(str(row.source)), args.preprocess))
        assert (row.hu_min, row.hu_max) == (volume.min(), volume.max())


@pytest.mark.slow
def test_job_that_kills_the_reader_or_hangs_is_quarantined(source: Path, tmp_path: Path, scan: WriteScan) -> None:
    script = (
        "import os, signal, sys, time, pathlib\n"
        "from voco2d.store import conversion\n"
        "from voco2d.preprocessing.preprocess import PreprocessArgs\n"
        "from voco2d.store.build import PrepareArgs, prepare\n"
        "read = conversion.read_source\n"
        "def odd(source, args):\n"
        "    if source.path.stem == 'crash': os.kill(os.getpid(), signal.SIGSEGV)\n"
        "    if source.path.stem == 'hang': time.sleep(100)\n"
        "    return read(source, args)\n"
        "conversion.read_source = odd\n"
        "if __name__ == '__main__':\n"
        "    preprocess = PreprocessArgs(size=(4, 16, 16))\n"
        "    args = PrepareArgs(preprocess=preprocess, workers=int(sys.argv[3]), seconds_per_series=5)\n"
        "    prepare([pathlib.Path(sys.argv[1])], pathlib.Path(sys.argv[2]), args)\n"
    )
    (tmp_path / "script.py").write_text(script)
    scan(source, "crash", seed=20)
    scan(source, "hang", seed=21)
    for workers in ("1", "2"):
        store = tmp_path / f"store{workers}"
        subprocess.run([sys.executable, str(tmp_path / "script.py"), str(source), str(store), workers], check=True)
        left_out = quarantine(store)
        assert left_out["crash.npy"] == "the reader crashed on it"
        assert left_out["hang.npy"] == "took longer than 5 s"
        assert len(VolumeStore(store)) == 4
        assert prepare([source], store, PrepareArgs(preprocess=PreprocessArgs(size=(4, 16, 16)))).prepared == 2


@pytest.mark.slow
def test_run_that_is_killed_three_times_ends_the_same(tmp_path: Path, scan: WriteScan, snapshot: Snapshot) -> None:
    source, store = tmp_path / "source", tmp_path / "store"
    for number in range(24):
        scan(source, f"scan{number}", seed=number, body=number % 5 != 0)
    (source / "notes.txt").write_text("no scan")
    words = [sys.executable, "-m", "voco2d", "prepare", str(source), "--workers", "2", "preprocess.size=[4,16,16]"]
    done: dict[str, int] = {}
    for share in (3, 8, 14):
        with subprocess.Popen([*words, "--out", str(store)]) as process:
            deadline = time.monotonic() + 60
            while len(list(store.glob("records/s-*.json"))) < share and process.poll() is None:
                assert time.monotonic() < deadline
                time.sleep(0.002)
            process.kill()
        time.sleep(1)  # workers whose parent was killed end by themselves
        moments = {path.name: path.stat().st_mtime_ns for path in store.glob("volumes/s-*.npy")}
        recorded = {f"{path.stem}.npy" for path in store.glob("records/s-*.json")}
        assert all(moments[name] == moment for name, moment in done.items())
        done = {name: moments[name] for name in recorded}
    subprocess.run([*words, "--out", str(store)], check=True)
    subprocess.run([*words, "--out", str(tmp_path / "whole")], check=True)
    assert snapshot(store) == snapshot(tmp_path / "whole")
    assert {"index.parquet", "quarantine.csv", "quality.parquet", "quality.html"} <= snapshot(store).keys()


def test_runs_over_different_places_at_once_keep_each_others_lists(
    tmp_path: Path, args: PrepareArgs, scan: WriteScan, snapshot: Snapshot
) -> None:
    places = [tmp_path / name for name in ("one", "two", "three")]
    for seed, place in enumerate(places):
        scan(place, f"scan_{place.name}", seed=seed)
        scan(place, f"air_{place.name}", body=False)
        (place / f"{place.name}.txt").write_text("no scan")
    words = [sys.executable, "-c", PREPARE]
    runs = [subprocess.Popen([*words, str(place), str(tmp_path / "store")]) for place in places]
    assert [run.wait() for run in runs] == [0, 0, 0]
    assert len(VolumeStore(tmp_path / "store")) == 3
    assert len(quarantine(tmp_path / "store")) == 6
    for place in reversed(places):
        prepare([place], tmp_path / "alone", args)
    assert snapshot(tmp_path / "store") == snapshot(tmp_path / "alone")


def test_competition_folder_brings_labels_and_series_meta(tmp_path: Path, args: PrepareArgs, scan: WriteScan) -> None:
    store = tmp_path / "store"
    for root, patient in (("one", "7"), ("two", "8")):
        series = tmp_path / root / "train_images" / patient / "21"
        scan(series, "scan", seed=int(patient), patient_id=patient, series_id="21")
        scan(series, "other", seed=10 + int(patient), patient_id=patient, series_id="22")
        (tmp_path / root / "train.csv").write_text(f"patient_id,any_injury\n{patient},0\n")
        meta = f"patient_id,series_id,aortic_hu,incomplete_organ\n{patient},21,{patient}5.5,1\n"
        (tmp_path / root / "train_series_meta.csv").write_text(meta)
    prepare([tmp_path / "one"], store, args)
    assert (store / "labels.csv").read_bytes() == (tmp_path / "one" / "train.csv").read_bytes()
    assert VolumeStore(store).labels == store / "labels.csv"
    prepare([tmp_path / "two"], store, args)
    index = VolumeStore(store).index.set_index(["patient_id", "series_id"])
    assert index["aortic_hu"].loc[[("7", "21"), ("8", "21")]].tolist() == [75.5, 85.5]
    assert index["incomplete_organ"].loc[("7", "21")] == 1
    assert index.loc[[("7", "22"), ("8", "22")], ["aortic_hu", "incomplete_organ"]].isna().all(axis=None)
    rows = (store / "labels.csv").read_text().splitlines()
    assert rows[0] == "patient_id,any_injury"
    assert sorted(rows[1:]) == ["7,0", "8,0"]


def test_faulty_table_of_series_is_told_before_the_work(tmp_path: Path, args: PrepareArgs, scan: WriteScan) -> None:
    scan(tmp_path / "root" / "train_images" / "7" / "21", "scan")
    (tmp_path / "root" / "train_series_meta.csv").write_text("patient_id\n7\n")
    with pytest.raises(LabelError, match="lacks the column"):
        prepare([tmp_path / "root"], tmp_path / "store", args)
    assert not (tmp_path / "store").exists()


def test_failure_of_the_survey_keeps_the_volume(
    source: Path, tmp_path: Path, args: PrepareArgs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stumble(*_: object) -> None:
        raise ZeroDivisionError("DOE^JANE")

    monkeypatch.setattr(survey, "measure", stumble)
    monkeypatch.setattr(survey, "thumbnail", stumble)
    prepare([source], tmp_path / "store", args)
    store = VolumeStore(tmp_path / "store")
    assert len(store) == 4
    expected = "quality: not measured; quality: no picture"
    assert all(notes.endswith(expected) for notes in store.index["notes"])
    table = pd.read_parquet(store.path / "quality.parquet")
    assert table["noise_hu"].isna().all()
    assert (table["flags"] == "").all()
    assert (store.path / "quality.html").is_file()


def test_store_of_the_first_format_is_read_but_not_continued(source: Path, tmp_path: Path, args: PrepareArgs) -> None:
    store = tmp_path / "store"
    prepare([source], store, args)
    tree = json.loads((store / "store.json").read_text())
    tree["format"] = 1
    tree["preprocess"] = {key: tree["preprocess"][key] for key in ("size", "body_crop", "clip_hu")}
    tree["read"] = {"identity_axes": "RAS", "min_slices": 5}
    (store / "store.json").write_text(json.dumps(tree))
    index = pd.read_parquet(store / "index.parquet").drop(columns=["aortic_hu", "incomplete_organ"])
    index.to_parquet(store / "index.parquet")
    old = VolumeStore(store)
    assert len(old) == 4
    assert old.index["incomplete_organ"].isna().all()
    assert not old.settings.read.correct_tilt
    with pytest.raises(StoreError, match=r"made by an older voco2d \(format 1, now 2\)"):
        prepare([source], store, args)


def test_changed_mask_prepares_its_series_anew(source: Path, tmp_path: Path, args: PrepareArgs) -> None:
    masks = tmp_path / "masks"
    masks.mkdir()
    args = replace(args, masks=str(masks))
    prepare([source], tmp_path / "store", args)
    (masks / "scan1.nii.gz").write_bytes(b"not looked into: organ_crop is none")
    assert prepare([source], tmp_path / "store", args).prepared == 1
    with pytest.raises(UsageError, match="no such folder of organ masks"):
        prepare([source], tmp_path / "store", replace(args, masks="nowhere"))


@pytest.mark.realdata
@pytest.mark.slow
def test_real_folder_is_sorted_into_volumes_and_quarantine(real_data: Path, tmp_path: Path, args: PrepareArgs) -> None:
    summary = prepare([real_data / "abdomen", real_data / "dicom"], tmp_path / "store", args)
    store = VolumeStore(tmp_path / "store")
    assert summary.prepared == len(store) >= 13
    left_out = quarantine(tmp_path / "store")
    assert summary.quarantined == len(left_out)
    assert {"amos_0001_labels.nii.gz", "example_ct_labels.nii.gz", "MR_truncated.dcm"} <= left_out.keys()
    assert pd.Series([Path(path).name for path in store.index["source"]]).isin(left_out.keys()).sum() == 0
