"""What a pretraining run says when memory runs out: the same sentence wherever that happens."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from voco2d.errors import DeviceMemoryError
from voco2d.methods.voco import VoCo
from voco2d.methods.voco_args import VoCoArgs
from voco2d.store.volume_store import VolumeStore
from voco2d.targets import CLASS_COLUMNS
from voco2d.training.localisation import measure_localisation
from voco2d.training.pretrain import PretrainArgs, pretrain
from voco2d.training.pretrain_checkpoint import weights_path
from voco2d.training.probe import ProbeArgs

ARGS = PretrainArgs(
    backbone="test_efficientnet",
    steps=3,
    batch_size=2,
    checkpoint_every=3,
    log_every=2,
    device="cpu",
    method=VoCoArgs(crop=32, slices=2, hidden=16),
)
HEALTHY, INJURED = "1,0,1,0,1,0,0,1,0,0,1,0,0", "1,0,0,1,1,0,0,1,0,0,0,1,0"


def torch_runs_out(*_words: Any, **_settings: Any) -> Any:
    return torch.empty(10**15)


def the_host_runs_out(*_words: Any, **_settings: Any) -> Any:
    raise MemoryError


def a_gpu_runs_out(*_words: Any, **_settings: Any) -> Any:
    raise torch.cuda.OutOfMemoryError("CUDA out of memory.")


def test_memory_that_runs_out_says_which_setting_lowers_it(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def greedy(self: VoCo, units: Any, seeds: Any = None) -> Any:
        return torch_runs_out() if len(units) > 5 else healthy(self, units, seeds)

    healthy = VoCo.encode
    monkeypatch.setattr(VoCo, "encode", greedy)
    with pytest.raises(DeviceMemoryError, match="memory has run out in a step; set chunk=11, and go on"):
        pretrain(store, tmp_path / "run", ARGS)
    with pytest.raises(DeviceMemoryError, match="set chunk=5, or residency=disk, and go on"):
        pretrain(store, tmp_path / "chunk", replace(ARGS, chunk=11, residency="device"))
    run = pretrain(store, tmp_path / "run", replace(ARGS, steps=1, chunk=5), resume=True)  # as the first one said
    assert weights_path(run, 1).is_file()


@pytest.mark.parametrize("runs_out", [torch_runs_out, the_host_runs_out, a_gpu_runs_out])
@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("voco2d.data.slice_source.MappedSlices.read", "while a batch was drawn; set batch_size=2 in a new run"),
        ("voco2d.data.crop_dataset.cut_crops", "while a batch was drawn; set batch_size=2 in a new run"),
        ("voco2d.training.monitor.effective_rank", "while the run was watched; set chunk=22, and go on with --resume"),
        ("voco2d.training.alarm.Alarm.check", "while the run was watched; set chunk=22, and go on with --resume"),
        ("voco2d.training.pretrain_checkpoint.save_tensors", "while the run was watched; set chunk=22, and go on"),
        ("voco2d.training.probe.read_out", "in the probe; set probe.slices=2, and go on with --resume"),
        ("voco2d.training.pretrain.build_method", "while the networks were built; set method.hidden=8 or a smaller"),
    ],
)
def test_memory_runs_out_anywhere(
    place: str, told: str, runs_out: Any, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [f"p{number},{INJURED if number % 2 else HEALTHY}" for number in range(5)]
    (tmp_path / "labels.csv").write_text("\n".join([",".join(("patient_id", *CLASS_COLUMNS)), *rows]))
    probe = ProbeArgs(labels=str(tmp_path / "labels.csv"), every=2, slices=4, crop=32, folds=2)
    monkeypatch.setattr(place, runs_out)
    with pytest.raises(DeviceMemoryError, match=f"^memory has run out {told}"):
        pretrain(store, tmp_path / "run", replace(ARGS, batch_size=4, probe=probe))


def test_volumes_that_do_not_fit_the_device_stay_on_disk(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voco2d.data.slice_source.ResidentSlices.__init__", torch_runs_out)
    words = "while the volumes .* were copied to the device; set residency=disk, and go on with --resume"
    with pytest.raises(DeviceMemoryError, match=words):
        pretrain(store, tmp_path / "run", replace(ARGS, residency="device"))
    pretrain(store, tmp_path / "run", replace(ARGS, steps=1, residency="disk"), resume=True)


def test_localisation_that_runs_out_says_which_chunk_to_set(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = pretrain(store, tmp_path / "run", replace(ARGS, steps=1))
    found = measure_localisation(run, VolumeStore(store), ["p0", "p1"])
    healthy = VoCo.teach
    monkeypatch.setattr(VoCo, "teach", lambda self, units: torch_runs_out() if len(units) > 5 else healthy(self, units))
    with pytest.raises(DeviceMemoryError, match=r"while crops were found; set chunk=11$"):
        measure_localisation(run, VolumeStore(store), ["p0", "p1"])
    with pytest.raises(DeviceMemoryError, match=r"while crops were found; set chunk=5$"):
        measure_localisation(run, VolumeStore(store), ["p0", "p1"], chunk=11)
    in_parts = measure_localisation(run, VolumeStore(store), ["p0", "p1"], chunk=5)
    assert in_parts.hits.tolist() == found.hits.tolist()
    assert in_parts.feature_std == pytest.approx(found.feature_std, abs=1e-4)
    monkeypatch.setattr("voco2d.data.crop_dataset.cut_crops", torch_runs_out)
    with pytest.raises(DeviceMemoryError, match=r"drawn to be found; set method.slices=1 in a new run$"):
        measure_localisation(run, VolumeStore(store), ["p0", "p1"])
