from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from voco2d.errors import CheckpointError
from voco2d.models.checkpoint import backbone_state, load_backbone, newest_weights, read_weights, save_weights

NAME = "test_efficientnet"


def build(name: str = NAME, in_chans: int = 1, classes: int = 0, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    model: nn.Module = timm.create_model(name, in_chans=in_chans, num_classes=classes)
    return model.eval()


def prefixed(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + key: tensor for key, tensor in state.items()}


def same(first: nn.Module, second: nn.Module) -> bool:
    image = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return torch.equal(first(image), second(image))


def test_weights_come_back_with_their_metadata(tmp_path: Path) -> None:
    shared = torch.arange(6.0).reshape(2, 3)
    save_weights(tmp_path / "w.safetensors", {"a": shared.T, "b": shared}, {"kind": "pretrain", "window_hu": [1, 2]})
    state, metadata = read_weights(tmp_path / "w.safetensors")
    assert torch.equal(state["a"], shared.T)
    assert metadata == {"kind": "pretrain", "window_hu": [1, 2]}
    assert [file.name for file in tmp_path.iterdir()] == ["w.safetensors"]


def test_a_byte_that_changed_is_found(tmp_path: Path) -> None:
    """In a tensor or in the description; a file without a digest, as they were once, is read as it is."""
    path = tmp_path / "w.safetensors"
    state = {"a": torch.arange(6.0), "b": torch.tensor(3, dtype=torch.int64), "c": torch.ones(4, dtype=torch.bfloat16)}
    save_weights(path, state | {"none": torch.empty(0)}, {"kind": "pretrain", "step": 12345})
    whole = path.read_bytes()
    assert set(read_weights(path)[0]) == {"a", "b", "c", "none"}
    for place in (len(whole) - 1, len(whole) - 20, whole.index(b"12345")):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(CheckpointError, match=r"w\.safetensors: damaged \(its content is not what was written\)"):
            read_weights(path)
    save_file(state, str(path), metadata={"voco2d": "{}"})
    assert torch.equal(read_weights(path)[0]["a"], state["a"])


def test_our_run_gives_the_students_backbone(tmp_path: Path) -> None:
    student, teacher = build(seed=1), build(seed=2)
    state = prefixed(dict(student.state_dict()), "student.backbone.") | {
        "student.projector.layers.0.weight": torch.ones(2)
    }
    state |= prefixed(dict(teacher.state_dict()), "teacher.backbone.")
    for step in (9, 10):
        save_weights(tmp_path / f"weights_{step:08d}.safetensors", state, {"backbone": NAME, "in_chans": 1})
    assert newest_weights(tmp_path).name == "weights_00000010.safetensors"
    assert same(load_backbone(tmp_path), student)
    assert same(load_backbone(str(tmp_path / "weights_00000009.safetensors")), student)


@pytest.mark.parametrize("prefix", ["", "student.", "student.backbone.", "module.student.encoder.0.", "backbone."])
@pytest.mark.parametrize("nest", [None, "state_dict", "model"])
def test_other_peoples_state_dicts(tmp_path: Path, prefix: str, nest: str | None) -> None:
    """The paper's code saves `student.*`, lightly `backbone.*`, timm plain names."""
    model = build()
    state = prefixed(dict(model.state_dict()), prefix)
    if prefix:
        state |= {"projection_head.weight": torch.ones(2), f"{prefix}projection.weight": torch.ones(2)}
    torch.save(state if nest is None else {nest: state, "epoch": 3}, tmp_path / "c.pth")
    assert same(load_backbone(tmp_path / "c.pth", NAME), model)


def test_a_timm_classifier_of_three_channels_keeps_its_channels(tmp_path: Path) -> None:
    model = build(in_chans=3, classes=10)
    torch.save(model.state_dict(), tmp_path / "timm.pth")
    state, metadata = backbone_state(tmp_path / "timm.pth", NAME)
    assert metadata["in_chans"] == 3
    assert "classifier.weight" not in state
    assert load_backbone(tmp_path / "timm.pth", NAME)(torch.rand(1, 3, 64, 64)).shape == (1, 256)


def test_foreign_safetensors(tmp_path: Path) -> None:
    model = build()
    save_file(dict(model.state_dict()), str(tmp_path / "f.safetensors"))
    assert same(load_backbone(tmp_path / "f.safetensors", NAME), model)


def test_the_papers_backbone_is_recognised(tmp_path: Path) -> None:
    state = build("efficientnet_b0").state_dict()
    torch.save(prefixed(dict(state), "student."), tmp_path / "paper.pt")
    assert backbone_state(tmp_path / "paper.pt")[1]["backbone"] == "efficientnet_b0"


def test_another_architecture_is_refused_with_the_keys(tmp_path: Path) -> None:
    torch.save(build("test_resnet").state_dict(), tmp_path / "c.pth")
    with pytest.raises(CheckpointError, match=r"not those of a test_efficientnet: \d+ missing \(conv_stem.weight"):
        load_backbone(tmp_path / "c.pth", NAME)
    save_weights(tmp_path / "w.safetensors", dict(build().state_dict()), {"backbone": NAME})
    with pytest.raises(CheckpointError, match="holds a test_efficientnet, not a test_resnet"):
        load_backbone(tmp_path / "w.safetensors", "test_resnet")


def test_missing_and_reshaped_tensors_are_listed(tmp_path: Path) -> None:
    state = dict(build().state_dict())
    state.pop("conv_head.weight")
    state["bn2.weight"] = torch.ones(7)
    torch.save(state, tmp_path / "c.pth")
    with pytest.raises(
        CheckpointError, match=r"1 missing \(conv_head.weight\); 1 of another shape \(bn2.weight \(7,\)"
    ):
        load_backbone(tmp_path / "c.pth", NAME)


def test_unnamed_architecture_asks_for_it(tmp_path: Path) -> None:
    torch.save(build().state_dict(), tmp_path / "c.pth")
    with pytest.raises(CheckpointError, match="set backbone=NAME"):
        load_backbone(tmp_path / "c.pth")


class Pickled:
    """Something only an unsafe load would build."""


def test_files_that_are_no_checkpoints(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        load_backbone(tmp_path / "none", NAME)
    with pytest.raises(CheckpointError, match="holds no"):
        load_backbone(tmp_path, NAME)
    (tmp_path / "text.pth").write_text("not a checkpoint")
    (tmp_path / "text.safetensors").write_text("not a checkpoint")
    torch.save({"model": Pickled()}, tmp_path / "object.pt")
    torch.save({"epoch": 3}, tmp_path / "empty.pt")
    cut = tmp_path / "cut.safetensors"
    save_weights(cut, dict(build().state_dict()), {})
    cut.write_bytes(cut.read_bytes()[:-100])
    for name, words in {
        "text.pth": "state dict|not a checkpoint",
        "text.safetensors": "damaged",
        "cut.safetensors": "damaged",
        "object.pt": "no state dict of plain tensors",
        "empty.pt": "holds no tensors",
    }.items():
        with pytest.raises(CheckpointError, match=words):
            load_backbone(tmp_path / name, NAME)
    save_file({"a": torch.ones(1)}, str(tmp_path / "foreign.safetensors"))
    with pytest.raises(CheckpointError, match="not written by voco2d"):
        read_weights(tmp_path / "foreign.safetensors")
