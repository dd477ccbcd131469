from collections.abc import Mapping
from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from voco2d.errors import CheckpointError
from voco2d.models.checkpoint import backbone_state
from voco2d.models.state_names import State, complete, load_state, match

NAME = "test_resnet"


def build(in_chans: int = 1) -> nn.Module:
    model: nn.Module = timm.create_model(NAME, in_chans=in_chans, num_classes=0)
    return model.eval()


def extract(tensors: Mapping[str, torch.Tensor], origin: str) -> State:
    matched = match(tensors, NAME)
    matched.refuse(origin)
    return complete(matched)


def test_three_channels_become_one_as_timm_does(tmp_path: Path) -> None:
    colour, grey = build(3), build(1)
    torch.save(colour.state_dict(), tmp_path / "c.pth")
    state, _ = backbone_state(tmp_path / "c.pth", NAME)
    load_state(grey, state, NAME, "c.pth")
    image = torch.rand(1, 1, 64, 64)
    torch.testing.assert_close(grey(image), colour(image.expand(1, 3, 64, 64)), atol=1e-4, rtol=1e-4)
    assert torch.equal(state["conv1.0.weight"], colour.state_dict()["conv1.0.weight"])


def test_batch_counters_may_be_missing() -> None:
    """Older checkpoints have none."""
    state = {key: tensor for key, tensor in build().state_dict().items() if not key.endswith("num_batches_tracked")}
    load_state(build(), extract(state, "old"), NAME, "old")


def test_the_student_goes_before_the_teacher() -> None:
    own = build().state_dict()
    both = {f"teacher.{key}": torch.zeros_like(tensor) for key, tensor in own.items()}
    both |= {f"student.{key}": tensor for key, tensor in own.items()}
    assert torch.equal(extract(both, "both")["conv1.0.weight"], own["conv1.0.weight"])


def test_a_strange_tensor_inside_the_model_is_refused() -> None:
    state = dict(build().state_dict()) | {"layer1.9.conv.weight": torch.ones(1)}
    with pytest.raises(CheckpointError, match=r"1 unexpected .layer1.9.conv.weight"):
        extract(state, "odd")
    with pytest.raises(CheckpointError, match="holds nothing of a test_resnet, but for example other"):
        extract({"other": torch.ones(1)}, "odd")
