import json
import logging
import shutil
import time
from dataclasses import replace
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest
import torch

from voco2d.cli import main
from voco2d.config import from_tree, resolve, to_yaml
from voco2d.errors import CheckpointError, ConfigError, NonFiniteLossError, StoreError, UsageError
from voco2d.methods.voco import VoCo
from voco2d.methods.voco_args import VoCoArgs
from voco2d.models.backbones import build_backbone
from voco2d.models.checkpoint import load_backbone, read_weights, save_weights
from voco2d.preprocessing.preprocess import PreprocessArgs
from voco2d.store.build import PrepareArgs, prepare
from voco2d.store.volume_store import VolumeStore
from voco2d.training.optim import OptimArgs
from voco2d.training.pretrain import PRESETS, PretrainArgs, pretrain
from voco2d.training.pretrain_checkpoint import TrainingState, resume_path, weights_path

ARGS = PretrainArgs(
    backbone="test_efficientnet",
    steps=6,
    batch_size=2,
    checkpoint_every=3,
    log_every=2,
    device="cpu",
    schedule_steps=6,
    method=VoCoArgs(crop=32, slices=2, hidden=16),
    optim=OptimArgs(lr=1e-3),
)


@pytest.fixture(scope="module")
def finished(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pretrain(store, tmp_path_factory.mktemp("runs") / "run", ARGS)


@pytest.fixture
def halfway(store: Path, tmp_path: Path) -> Path:
    return pretrain(store, tmp_path / "half", replace(ARGS, steps=3, checkpoint_every=2))


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(file): (file.read_bytes(), file.stat().st_mtime_ns) for file in files}


def metrics(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def assert_same_weights(first: Path, second: Path, step: int) -> None:
    one, other = read_weights(weights_path(first, step))[0], read_weights(weights_path(second, step))[0]
    assert one.keys() == other.keys()
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_a_run_folder_is_complete(finished: Path, store: Path) -> None:
    assert {file.name for file in finished.iterdir()} == {
        "tensorboard",
        "config.yaml",
        "environment.json",
        "metrics.jsonl",
        *(
            f"{part}_{step:08d}.{end}"
            for step in (3, 6)
            for part, end in (("weights", "safetensors"), ("resume", "pt"))
        ),
    }
    assert resolve(PretrainArgs, finished / "config.yaml") == ARGS
    assert json.loads((finished / "environment.json").read_text())["inputs"]["store"] == str(store)
    records = metrics(finished)
    assert [record["step"] for record in records] == [2, 3, 4, 6]
    told = ("loss", "intra", "inter", "reg", "lr", "grad_norm", "effective_rank", "feature_std", "similarity_mean")
    assert all(isinstance(record[key], float) for record in records for key in told)
    assert all(0 <= record["localisation_accuracy"] <= 1 for record in records)


def test_the_checkpoint_says_what_it_is_and_its_backbone_loads(finished: Path) -> None:
    weights, metadata = read_weights(weights_path(finished, 6))
    assert metadata["kind"] == "pretrain"
    assert metadata["step"] == 6
    assert from_tree(VoCoArgs, metadata["method"]) == ARGS.method
    assert from_tree(PreprocessArgs, metadata["preprocess"]).size == (8, 48, 48)
    assert len(metadata["patients_seen"]) == 5
    backbone = load_backbone(finished)
    assert torch.equal(backbone.state_dict()["conv_stem.weight"], weights["student.backbone.conv_stem.weight"])
    assert backbone(torch.rand(2, 1, 64, 64)).shape == (2, 256)


def test_a_seed_gives_the_same_run(finished: Path, store: Path, tmp_path: Path) -> None:
    assert_same_weights(finished, pretrain(store, tmp_path / "again", ARGS), 6)
    other = read_weights(weights_path(pretrain(store, tmp_path / "other", replace(ARGS, seed=1)), 6))[0]
    name = "student.backbone.conv_head.weight"
    assert not torch.equal(read_weights(weights_path(finished, 6))[0][name], other[name])


def test_the_fused_loops_change_a_run_by_rounding_alone(store: Path, tmp_path: Path) -> None:
    args = replace(ARGS, backbone="efficientnet_b0", steps=2, checkpoint_every=1, log_every=1)
    fast = pretrain(store, tmp_path / "fast", args)
    plain = pretrain(store, tmp_path / "plain", replace(args, fast_cpu=False))
    assert metrics(fast)[0]["loss"] == pytest.approx(metrics(plain)[0]["loss"], abs=1e-4)
    one, other = (read_weights(weights_path(run, 1))[0] for run in (fast, plain))
    assert {name: tensor.shape for name, tensor in one.items()} == {name: t.shape for name, t in other.items()}
    name = "student.backbone.blocks.0.0.bn1.running_var"
    torch.testing.assert_close(one[name], other[name], rtol=1e-3, atol=1e-5)
    pretrain(store, plain, replace(args, steps=3), resume=True)


def test_six_steps_are_three_and_three_more(finished: Path, halfway: Path, store: Path) -> None:
    pretrain(store, halfway, ARGS, resume=True)
    assert_same_weights(finished, halfway, 6)
    assert [record["step"] for record in metrics(halfway)] == [2, 3, 4, 6]
    assert metrics(halfway)[-1]["loss"] == metrics(finished)[-1]["loss"]
    assert resolve(PretrainArgs, halfway / "config.yaml").steps == 6


@pytest.mark.parametrize("part", [weights_path, resume_path])
@pytest.mark.parametrize("damage", ["cut", "gone", "hole", "flip"])
def test_a_broken_newest_checkpoint_gives_way_to_the_one_before(
    finished: Path, halfway: Path, store: Path, caplog: pytest.LogCaptureFixture, part: Any, damage: str
) -> None:
    newest = part(halfway, 3)
    content = newest.read_bytes()
    newest.unlink()
    if damage == "cut":
        newest.write_bytes(content[: len(content) // 2])
    elif damage == "hole":  # as a file system leaves it where the power fails before the data was written
        quarter = len(content) // 4
        newest.write_bytes(content[:quarter] + bytes(2 * quarter) + content[3 * quarter :])
    elif damage == "flip":  # the last entry's way of packing, in the archive that torch writes
        place = content.rfind(b"PK\x01\x02") + 10 if newest.suffix == ".pt" else len(content) // 2
        newest.write_bytes(content[:place] + bytes([content[place] ^ 8]) + content[place + 1 :])
    with caplog.at_level(logging.WARNING):
        pretrain(store, halfway, replace(ARGS, checkpoint_every=6), resume=True)
    assert "going back to the checkpoint before it" in caplog.text
    assert_same_weights(finished, halfway, 6)


def test_a_broken_checkpoint_neither_counts_nor_names_the_result(
    halfway: Path, store: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one kept, the checkpoint just written went, and the broken one, of a later step, stayed as the result."""
    broken = weights_path(halfway, 5)
    broken.write_bytes(b"no weights")
    resume_path(halfway, 5).write_bytes(b"no state")
    weights_path(halfway, 1).write_bytes(b"half of a checkpoint")
    (halfway / "notes.aside").write_text("of the user")
    (halfway / f".{resume_path(halfway, 4).name}.77.tmp").write_bytes(b"what a kill left")
    seen: list[list[str]] = []
    save = TrainingState.save

    def watched(self: TrainingState, *words: Any) -> None:
        save(self, *words)
        seen.append(sorted(file.name for file in halfway.glob("weights_*")))

    monkeypatch.setattr(TrainingState, "save", watched)
    pretrain(store, halfway, replace(ARGS, checkpoint_every=1, keep_checkpoints=1), resume=True)
    assert f"{broken.name}: set aside as {broken.name}.aside; the run goes on after step 3" in caplog.text.replace(
        f"{halfway}/", ""
    )
    four, five, six = (weights_path(halfway, step).name for step in (4, 5, 6))
    assert seen == [[four, f"{broken.name}.aside"], [five], [six]]
    assert (halfway / "notes.aside").exists()
    assert not list(halfway.glob(".*.tmp"))
    assert sorted(file.name for file in halfway.glob("resume_*")) == [resume_path(halfway, 6).name]


def test_a_run_without_a_whole_checkpoint_is_left_intact(halfway: Path, store: Path) -> None:
    for file in halfway.glob("resume_*.pt"):
        file.write_bytes(b"")
    before = {file.name: file.read_bytes() for file in halfway.glob("weights_*")}
    with pytest.raises(CheckpointError, match="none of its 2 checkpoints is whole"):
        pretrain(store, halfway, ARGS, resume=True)
    after = {file.name: file.read_bytes() for file in halfway.glob("weights_*")}
    assert after.items() <= before.items()


@pytest.mark.parametrize("lost", [weights_path, resume_path])
def test_a_run_killed_within_its_first_checkpoint_begins_anew(
    finished: Path, store: Path, tmp_path: Path, lost: Any
) -> None:
    run = pretrain(store, tmp_path / "run", replace(ARGS, steps=3))
    lost(run, 3).unlink()
    assert_same_weights(finished, pretrain(store, run, ARGS, resume=True), 6)


def test_a_finished_run_is_left_alone(finished: Path, store: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = contents(finished)
    with caplog.at_level(logging.INFO):
        assert pretrain(store, finished, ARGS, resume=True) == finished
    assert "is finished: 6 of 6 steps" in caplog.text
    assert contents(finished) == before


def test_resume_refuses_what_makes_another_run(halfway: Path, store: Path) -> None:
    changed = replace(ARGS, seed=5, method=replace(ARGS.method, momentum=0.5))
    with pytest.raises(ConfigError, match=r"method.momentum was 0.9, now 0.5; seed was 0, now 5"):
        pretrain(store, halfway, changed, resume=True)
    with pytest.raises(ConfigError, match=r"volumes was 5 .* other patients are let in than with the --exclude"):
        pretrain(store, halfway, ARGS, resume=True, exclude_patients={"p0"})
    with pytest.raises(UsageError, match="is not empty; continue it with --resume"):
        pretrain(store, halfway, ARGS)


def test_resume_of_nothing_starts(store: Path, tmp_path: Path, finished: Path) -> None:
    assert_same_weights(finished, pretrain(store, tmp_path / "new", ARGS, resume=True), 6)


def test_only_the_last_checkpoints_stay(store: Path, tmp_path: Path) -> None:
    run = pretrain(store, tmp_path / "run", replace(ARGS, checkpoint_every=1, keep_checkpoints=2))
    assert sorted(file.name for file in run.glob("weights_*")) == [weights_path(run, step).name for step in (5, 6)]
    assert sorted(file.name for file in run.glob("resume_*")) == [resume_path(run, step).name for step in (5, 6)]


def test_a_non_finite_loss_stops_with_what_is_needed(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy = VoCo.contrast
    calls: list[int] = []

    def sick(self: VoCo, student: Any, teacher: Any, batch: Any) -> Any:
        calls.append(1)
        output = healthy(self, student, teacher, batch)
        return (
            replace(output, terms={**output.terms, "inter": output.terms["inter"] * float("nan")})
            if len(calls) == 5
            else output
        )

    monkeypatch.setattr(VoCo, "contrast", sick)
    with pytest.raises(
        NonFiniteLossError, match=r"step 5: the loss is not finite \(intra .*, inter nan, reg .*nonfinite_00000005.pt"
    ):
        pretrain(store, tmp_path / "run", ARGS)
    dump = torch.load(tmp_path / "run" / "nonfinite_00000005.pt", weights_only=True)
    assert dump["batch"]["units"].shape == (22, 2, 32, 32)
    assert "student.backbone.conv_stem.weight" in dump["weights"]
    assert weights_path(tmp_path / "run", 3).is_file()


def test_a_gradient_that_is_not_finite_never_reaches_the_weights(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss is finite at a step that has a checkpoint, the gradient is not."""
    healthy = VoCo.contrast
    calls: list[int] = []

    def sick(self: VoCo, student: Any, teacher: Any, batch: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            student.register_hook(lambda grad: grad * float("inf"))
        return healthy(self, student, teacher, batch)

    monkeypatch.setattr(VoCo, "contrast", sick)
    with pytest.raises(NonFiniteLossError, match=r"step 3: the gradient is not finite .*nonfinite_00000003.pt"):
        pretrain(store, tmp_path / "run", replace(ARGS, checkpoint_every=1))
    assert not weights_path(tmp_path / "run", 3).exists()
    kept = read_weights(weights_path(tmp_path / "run", 2))[0]
    assert all(bool(tensor.isfinite().all()) for tensor in kept.values())


def test_more_steps_tell_that_the_schedule_is_stretched(store: Path, tmp_path: Path, caplog: Any) -> None:
    pretrain(store, tmp_path / "run", replace(ARGS, steps=1, schedule_steps=None))
    with caplog.at_level(logging.WARNING):
        pretrain(store, tmp_path / "run", replace(ARGS, steps=2, schedule_steps=None), resume=True)
    assert "now follow a schedule of 2 steps, 1 before" in caplog.text


def test_excluded_patients_are_not_among_the_seen(store: Path, tmp_path: Path) -> None:
    run = pretrain(store, tmp_path / "run", replace(ARGS, steps=1), exclude_patients={"p0", "p3"})
    assert len(read_weights(weights_path(run, 1))[1]["patients_seen"]) == 3


def test_too_few_volumes_and_no_store_leave_nothing_behind(store: Path, tmp_path: Path) -> None:
    for place, args, error in (
        (store, replace(ARGS, batch_size=9), ConfigError),
        (tmp_path / "none", ARGS, StoreError),
        (store, replace(ARGS, backbone="efficientnetb0"), UsageError),
        (store, replace(ARGS, init=str(tmp_path / "none.pth")), CheckpointError),
        (store, replace(ARGS, device="tpu"), ConfigError),
    ):
        with pytest.raises(error):
            pretrain(place, tmp_path / "run", args)
    assert not (tmp_path / "run").exists()


def test_a_start_from_a_file(store: Path, tmp_path: Path) -> None:
    torch.manual_seed(9)
    start = build_backbone("test_efficientnet").state_dict()
    torch.save(start, tmp_path / "start.pth")
    args = replace(ARGS, init=str(tmp_path / "start.pth"), steps=1, optim=OptimArgs(name="sgd", lr=1e-12))
    run = pretrain(store, tmp_path / "run", args)
    weights, _ = read_weights(weights_path(run, 1))
    torch.testing.assert_close(weights["student.backbone.conv_head.weight"], start["conv_head.weight"])
    # a continued run has its start in its checkpoint
    (tmp_path / "start.pth").unlink()
    pretrain(store, run, replace(args, steps=2), resume=True)


def test_patients_of_the_start_count_as_seen(store: Path, tmp_path: Path) -> None:
    first = pretrain(store, tmp_path / "first", replace(ARGS, steps=1))
    known = read_weights(weights_path(first, 1))[1]["patients_seen"]
    patients = sorted(set(VolumeStore(store).index["patient_id"].astype(str)))
    args = replace(ARGS, steps=1, init=str(first))
    second = pretrain(store, tmp_path / "second", args, exclude_patients=patients[:1])
    assert read_weights(weights_path(second, 1))[1]["patients_seen"] == known


@pytest.mark.parametrize("name", ["voco2d", "paper-v2", "paper-v1"])
def test_presets_run(name: str, store: Path, tmp_path: Path) -> None:
    words = ["init=random", "backbone=test_resnet", "steps=2", "batch_size=2", "device=cpu", "precision=bf16"]
    words += ["method.crop=32", "method.encoded=32", "method.slices=2", "method.hidden=16", "method.clamp=true"]
    run = pretrain(store, tmp_path / "run", resolve(PretrainArgs, name, words, PRESETS))
    assert metrics(run)[-1]["step"] == 2
    shutil.rmtree(run)


def test_the_papers_preset_is_the_papers() -> None:
    paper = resolve(PretrainArgs, "paper-v2", (), PRESETS)
    assert (paper.backbone, paper.init, paper.batch_size, paper.horizon) == ("efficientnet_b0", "imagenet", 4, 250_000)
    assert (paper.optim.name, paper.optim.lr, paper.optim.amsgrad, paper.optim.warmup_steps) == (
        "adamw",
        1e-4,
        True,
        5000,
    )
    assert (paper.method.grid, paper.method.crop, paper.method.random_crops, paper.method.slices) == (3, 64, 2, 32)
    assert (paper.method.momentum, paper.method.feature_dropout, paper.window_hu) == (0.9, 0.2, (-175.0, 250.0))


def test_the_papers_first_version_says_why_it_becomes_nan(store: Path, tmp_path: Path) -> None:
    words = ["init=random", "backbone=test_resnet", "steps=50", "batch_size=2", "device=cpu"]
    words += ["method.crop=32", "method.encoded=32", "method.slices=2", "method.hidden=16"]
    with pytest.raises(NonFiniteLossError, match=r"step \d+: .*pos nan.* try method.clamp=true in a new run"):
        pretrain(store, tmp_path / "run", resolve(PretrainArgs, "paper-v1", words, PRESETS))


def test_chunks_change_the_run_by_batch_norm_alone(store: Path, tmp_path: Path) -> None:
    args = replace(ARGS, backbone="test_vit", steps=3, method=replace(ARGS.method, dropout_on="slices"))
    whole = pretrain(store, tmp_path / "whole", args)
    parts = pretrain(store, tmp_path / "parts", replace(args, chunk=5))
    for one, other in zip(metrics(whole), metrics(parts), strict=True):
        assert other["loss"] == pytest.approx(one["loss"], abs=1e-4)
        assert 0 <= other["wait_share"] <= 1


def test_killed_at_any_step_a_run_goes_on_to_the_same_weights(
    store: Path, tmp_path: Path, finished: Path, processes: ForkServerContext
) -> None:
    """The kill is real and comes at a random moment; what is in the folder then is all that the next start has."""
    config = tmp_path / "config.yaml"
    config.write_text(to_yaml(replace(ARGS, checkpoint_every=1)))
    words = ["pretrain", str(store), "--out", str(tmp_path / "run"), "--config", str(config), "--resume"]
    kills = 0
    for after in (1, 3, 4):
        process = processes.Process(target=main, args=(words,))
        process.start()
        while process.is_alive() and not resume_path(tmp_path / "run", after).exists():
            time.sleep(0.005)
        kills += process.is_alive()
        process.kill()
        process.join()
    assert kills >= 1
    pretrain(store, tmp_path / "run", replace(ARGS, checkpoint_every=1), resume=True)
    assert_same_weights(finished, tmp_path / "run", 6)


def test_a_store_of_other_settings_is_not_gone_on_with(halfway: Path, store: Path, tmp_path: Path) -> None:
    args = PrepareArgs(preprocess=PreprocessArgs(size=(8, 40, 40), body_crop=False), workers=1)
    other = prepare([store.parent], tmp_path / "other", args).store
    with pytest.raises(ConfigError, match=r"preprocess was .*48.*, now .*40.*; volumes was 5 .*continue with what"):
        pretrain(other, halfway, ARGS, resume=True)


def test_a_start_of_another_window_is_told(finished: Path, store: Path, tmp_path: Path, caplog: Any) -> None:
    args = replace(ARGS, steps=1, init=str(finished), window_hu=(-100.0, 200.0))
    pretrain(store, tmp_path / "run", args)
    assert "was trained on a window of [-175.0, 250.0] HU, this run shows [-100.0, 200.0]" in caplog.text


def test_a_start_from_a_store_prepared_otherwise_is_told(
    finished: Path, store: Path, tmp_path: Path, caplog: Any
) -> None:
    weights, metadata = read_weights(weights_path(finished, 6))
    other = {**metadata["preprocess"], "size": [8, 40, 40]}
    del other["body_crop"]
    save_weights(tmp_path / "start.safetensors", weights, {**metadata, "preprocess": other})
    pretrain(store, tmp_path / "run", replace(ARGS, steps=1, init=str(tmp_path / "start.safetensors")))
    assert "prepared otherwise (preprocess: size [8, 40, 40], now [8, 48, 48]); prepare" in caplog.text
    caplog.clear()
    pretrain(store, tmp_path / "alike", replace(ARGS, steps=1, init=str(finished)))
    assert "prepared otherwise" not in caplog.text


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"[1]", b'{"kind": 3'])
def test_a_damaged_environment_is_one_clear_error(halfway: Path, store: Path, content: bytes) -> None:
    (halfway / "environment.json").write_bytes(content)
    with pytest.raises(UsageError, match="holds no run; choose another --out"):
        pretrain(store, halfway, ARGS, resume=True)


def test_a_damaged_log_is_gone_on_with(halfway: Path, store: Path, finished: Path) -> None:
    log = halfway / "metrics.jsonl"
    log.write_bytes(log.read_bytes()[:-20] + b"\xff\xfe{")
    pretrain(store, halfway, ARGS, resume=True)
    assert_same_weights(finished, halfway, 6)
    assert [record["step"] for record in metrics(halfway)][-2:] == [4, 6]


def test_a_checkpoint_of_another_run_gives_way_to_the_one_before(
    finished: Path, halfway: Path, store: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = pretrain(
        store, tmp_path / "sgd", replace(ARGS, steps=3, optim=OptimArgs(name="sgd"), backbone="test_resnet")
    )
    resume_path(halfway, 3).write_bytes(resume_path(other, 3).read_bytes())
    pretrain(store, halfway, replace(ARGS, checkpoint_every=6), resume=True)
    assert "not of this run" in caplog.text
    assert_same_weights(finished, halfway, 6)


def test_compiling_changes_neither_weights_nor_their_names(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With dynamo's tracing and without a compiler of C++, which a test can't expect to find."""
    compiled: list[torch.nn.Module] = []

    def trace(module: torch.nn.Module) -> None:
        compiled.append(module)
        module._compiled_call_impl = torch.compile(module._call_impl, backend="eager")

    monkeypatch.setattr(torch.nn.Module, "compile", trace)
    args = replace(ARGS, steps=2, fast_cpu=False)
    run = pretrain(store, tmp_path / "run", replace(args, compile=True))
    assert len(compiled) == 2
    assert_same_weights(pretrain(store, tmp_path / "plain", args), run, 2)


@pytest.mark.usefixtures("no_pages")
def test_resume_takes_the_settings_of_the_run(halfway: Path, store: Path, finished: Path, run: Any) -> None:
    code, _, error = run("pretrain", store, "--out", halfway, "--resume", "steps=6", "checkpoint_every=3")
    assert (code, error) == (0, "")
    assert_same_weights(finished, halfway, 6)
