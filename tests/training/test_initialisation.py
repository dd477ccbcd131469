from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from voco2d.errors import CheckpointError, UsageError
from voco2d.models.backbones import build_backbone
from voco2d.models.checkpoint import save_weights
from voco2d.training import initialisation
from voco2d.training.initialisation import DEFAULT_BACKBONE, Initialisation, read_initialisation


@pytest.fixture
def pretrained(tmp_path: Path) -> Path:
    backbone = build_backbone("test_efficientnet")
    state = {f"student.backbone.{name}": tensor for name, tensor in backbone.state_dict().items()}
    path = tmp_path / "weights_00000001.safetensors"
    save_weights(path, state, {"kind": "pretrain", "backbone": "test_efficientnet", "in_chans": 1})
    return tmp_path


def test_random_leaves_the_backbone_alone() -> None:
    start = read_initialisation("random", None, in_chans=1)
    assert (start.backbone, start.is_checkpoint) == (DEFAULT_BACKBONE, False)
    backbone = build_backbone("test_efficientnet")
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    start.apply(backbone)
    assert all(torch.equal(before[name], tensor) for name, tensor in backbone.state_dict().items())


def test_a_run_gives_its_architecture_and_its_tensors(pretrained: Path) -> None:
    start = read_initialisation(str(pretrained), None, in_chans=1)
    assert (start.backbone, start.is_checkpoint) == ("test_efficientnet", True)
    first, second = build_backbone("test_efficientnet"), build_backbone("test_efficientnet")
    start.apply(first)
    start.apply(second)
    for name, tensor in first.state_dict().items():
        torch.testing.assert_close(tensor, second.state_dict()[name])


def test_another_architecture_names_both(pretrained: Path) -> None:
    with pytest.raises(CheckpointError, match=r"test_efficientnet.*test_resnet"):
        read_initialisation(str(pretrained), "test_resnet", in_chans=1)


def test_a_timm_file_of_three_channels_is_adapted(tmp_path: Path) -> None:
    path = tmp_path / "imagenet.pth"
    torch.save(timm.create_model("test_efficientnet").state_dict(), path)
    start = read_initialisation(str(path), "test_efficientnet", in_chans=1)
    backbone = build_backbone("test_efficientnet", in_chans=1)
    start.apply(backbone)
    assert backbone.eval()(torch.rand(1, 1, 32, 32)).isfinite().all()


def test_imagenet_weights_are_asked_for_once_and_applied(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def without_download(name: str, in_chans: int, imagenet: bool) -> nn.Module:
        asked.append(imagenet)
        return build_backbone(name, in_chans=in_chans)

    monkeypatch.setattr(initialisation, "build_backbone", without_download)
    start = read_initialisation("imagenet", "test_efficientnet", in_chans=1)
    backbone = build_backbone("test_efficientnet")
    start.apply(backbone)
    assert (asked, start.is_checkpoint) == ([True], False)
    for name, tensor in backbone.state_dict().items():
        torch.testing.assert_close(tensor, start.state[name])


def test_missing_and_unknown_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere"):
        read_initialisation(str(tmp_path / "nowhere"), None, in_chans=1)
    with pytest.raises(UsageError, match="no_such_net"):
        read_initialisation("random", "no_such_net", in_chans=1)


@pytest.mark.parametrize("metadata", [{"window_hu": [0.0, 80.0]}, {"readout": {"window": [0.0, 80.0]}}])
def test_a_start_that_saw_another_window_is_told(metadata: dict[str, object], caplog: pytest.LogCaptureFixture) -> None:
    """Checkpoints of pretraining and of fine-tuning write their window in different places."""
    start = Initialisation("start.safetensors", "test_resnet", {}, metadata)
    start.compare((0.0, 80.0), {})
    assert caplog.text == ""
    start.compare((-175.0, 250.0), {})
    assert "trained on a window of [0.0, 80.0] HU" in caplog.text
