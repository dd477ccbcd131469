import json
from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor, nn

import voco2d
from voco2d.errors import CheckpointError, UsageError
from voco2d.models.checkpoint import read_weights, save_weights
from voco2d.models.conversion import ConvertArgs, convert

NAME = "test_resnet"
RUN = {
    "kind": "pretrain",
    "backbone": NAME,
    "in_chans": 1,
    "window_hu": [-175.0, 250.0],
    "method": {"name": "voco", "crop": 64},
    "preprocess": {"size": [32, 96, 96]},
    "init": "/home/someone/start.pth",
    "patients_seen": ["digest-a", "digest-b"],
}


def calibrated(name: str = NAME, in_chans: int = 1, classes: int = 0) -> nn.Module:
    """Build a model whose batch norm has seen images: fresh statistics hide a buffer that wasn't loaded."""
    torch.manual_seed(0)
    model: nn.Module = timm.create_model(name, in_chans=in_chans, num_classes=classes).train()
    with torch.no_grad():
        for _ in range(4):
            model(torch.rand(4, in_chans, 64, 64) * 3 + torch.rand(4, 1, 1, 1))
    return model.eval()


def prefixed(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + key: tensor for key, tensor in state.items()}


def paper(path: Path) -> tuple[Path, nn.Module]:
    model = calibrated(classes=10)
    state = prefixed(dict(model.state_dict()), "student.")
    state |= prefixed({key: torch.zeros_like(tensor) for key, tensor in model.state_dict().items()}, "teacher.")
    torch.save({**state, "student_proj_head.layer1.0.weight": torch.ones(2, 2)}, path / "paper.pth")
    return path / "paper.pth", model


def timm_file(path: Path) -> tuple[Path, nn.Module]:
    model = calibrated(classes=10)
    torch.save(model.state_dict(), path / "timm.pth")
    return path / "timm.pth", model


def lightly(path: Path) -> tuple[Path, nn.Module]:
    model = calibrated()
    state = prefixed(dict(model.state_dict()), "backbone.") | {"projection_head.layers.0.weight": torch.ones(2)}
    state |= prefixed(
        {key: torch.zeros_like(tensor) for key, tensor in model.state_dict().items()}, "backbone_momentum."
    )
    torch.save({"epoch": 1, "state_dict": state}, path / "lightly.ckpt")
    return path / "lightly.ckpt", model


def lightly_sequential(path: Path) -> tuple[Path, nn.Module]:
    """Save the children of a model by number, as lightly's examples do."""
    model = calibrated()
    state = nn.Sequential(*list(model.children())[:-1]).state_dict()
    torch.save({"state_dict": prefixed(dict(state), "backbone.")}, path / "counted.ckpt")
    return path / "counted.ckpt", model


def own_run(path: Path) -> tuple[Path, nn.Module]:
    model = calibrated()
    run = path / "run"
    run.mkdir()
    state = prefixed(dict(model.state_dict()), "student.backbone.") | {
        "student.projector.layers.0.weight": torch.ones(2)
    }
    state |= prefixed({k: torch.zeros_like(v) for k, v in model.state_dict().items()}, "teacher.backbone.")
    save_weights(run / "weights_00000010.safetensors", state, RUN)
    return run, model


SOURCES = {
    "2D-VoCo, the paper's code": paper,
    "timm": timm_file,
    "lightly": lightly,
    "lightly, counted": lightly_sequential,
    "voco2d pretrain run": own_run,
}


def features(model: nn.Module, image: Tensor) -> Tensor:
    with torch.no_grad():
        found = model.eval()(image)
    assert isinstance(found, Tensor)
    return found


@pytest.mark.parametrize("kind", SOURCES)
def test_features_stay_the_same(tmp_path: Path, kind: str) -> None:
    """A plain timm model, `load_backbone`, the converted file and the folder give the very same features."""
    source, model = SOURCES[kind](tmp_path)
    model.reset_classifier(0)  # type: ignore[operator]
    images = torch.rand(3, 1, 96, 64)
    expected = features(model, images)
    assert (expected[0] - expected[1]).abs().max() > 1e-3  # else any network would do
    assert torch.equal(features(voco2d.load_backbone(source, NAME), images), expected)
    file = convert(source, tmp_path / "out.safetensors", ConvertArgs(backbone=NAME))
    assert file.is_complete
    assert file.kind == kind.split(", counted")[0]
    plain = timm.create_model(NAME, checkpoint_path=file.written[0], in_chans=1, num_classes=0)
    assert torch.equal(features(plain, images), expected)
    folder = convert(source, tmp_path / "hub", ConvertArgs("hf", backbone=NAME))
    assert [Path(name).name for name in folder.written] == ["README.md", "config.json", "model.safetensors"]
    local = timm.create_model(f"local-dir:{tmp_path / 'hub'}", pretrained=True)
    assert torch.equal(features(local, images), expected)
    for again in (tmp_path / "hub", tmp_path / "out.safetensors"):
        assert torch.equal(features(voco2d.load_backbone(again), images), expected)


def test_three_channels_are_summed_to_one_or_kept(tmp_path: Path) -> None:
    model = calibrated(in_chans=3)
    torch.save(model.state_dict(), tmp_path / "c.pth")
    grey = convert(tmp_path / "c.pth", tmp_path / "grey.safetensors", ConvertArgs(backbone=NAME))
    assert grey.channels == (3, 1)
    image = torch.rand(2, 1, 64, 64)
    torch.testing.assert_close(
        features(voco2d.load_backbone(tmp_path / "grey.safetensors"), image),
        features(model, image.expand(2, 3, 64, 64)),
        atol=1e-4,
        rtol=1e-4,
    )
    kept = convert(tmp_path / "c.pth", tmp_path / "colour", ConvertArgs("hf", NAME, in_chans=None))
    assert kept.channels == (3, 3)
    image = torch.rand(2, 3, 64, 64)
    local = timm.create_model(f"local-dir:{tmp_path / 'colour'}", pretrained=True)
    assert torch.equal(features(local, image), features(model, image))


def test_the_folder_tells_how_to_use_it_and_nothing_private(tmp_path: Path) -> None:
    source, _ = own_run(tmp_path)
    convert(source, tmp_path / "hub", ConvertArgs("hf", licence="cc-by-4.0"))
    config = json.loads((tmp_path / "hub/config.json").read_text())
    assert config["pretrained_cfg"]["mean"] == [0.0]
    assert config["pretrained_cfg"]["std"] == [1.0]
    assert config["pretrained_cfg"]["input_size"] == [1, 64, 64]
    card = (tmp_path / "hub/README.md").read_text()
    for words in ("license: cc-by-4.0", "`window_hu`: -175 … 250 HU", "Research only", '"crop": 64', "seen: 2."):
        assert words in card
    for file in (tmp_path / "hub").iterdir():
        text = file.read_bytes()
        assert b"digest-a" not in text
        assert b"someone" not in text
    convert(source, tmp_path / "kept", ConvertArgs("hf", keep_patients=True))
    assert read_weights(tmp_path / "kept/model.safetensors")[1]["patients_seen"] == RUN["patients_seen"]
    convert(source, tmp_path / "file.safetensors", ConvertArgs())
    assert read_weights(tmp_path / "file.safetensors")[1]["patients_seen"] == RUN["patients_seen"]


def test_the_card_counts_the_features_that_come_out(tmp_path: Path) -> None:
    """Took a bug: mobilenetv3 gives 1,024 features, though timm's num_features says 288."""
    name = "mobilenetv3_small_050"
    model = timm.create_model(name, in_chans=1, num_classes=0)
    save_weights(tmp_path / "m.safetensors", model.state_dict(), {"backbone": name})
    convert(tmp_path / "m.safetensors", tmp_path / "hub", ConvertArgs("hf"))
    assert features(voco2d.load_backbone(tmp_path / "hub"), torch.rand(1, 1, 64, 64)).shape == (1, 1024)
    assert "1024 features an image" in (tmp_path / "hub/README.md").read_text()


def test_the_papers_window_is_known(tmp_path: Path) -> None:
    convert(paper(tmp_path)[0], tmp_path / "c.safetensors", ConvertArgs(backbone=NAME))
    assert read_weights(tmp_path / "c.safetensors")[1]["window_hu"] == [-175.0, 250.0]


def test_a_size_free_transformer_stays_so(tmp_path: Path) -> None:
    model = timm.create_model("vit_tiny_patch16_224", in_chans=1, num_classes=0)
    save_weights(tmp_path / "v.safetensors", model.state_dict(), {"backbone": "vit_tiny_patch16_224"})
    convert(tmp_path / "v.safetensors", tmp_path / "hub", ConvertArgs("hf"))
    local = timm.create_model(f"local-dir:{tmp_path / 'hub'}", pretrained=True)
    image = torch.rand(1, 1, 96, 96)
    assert torch.equal(features(local, image), features(voco2d.load_backbone(tmp_path / "hub"), image))


def test_nothing_is_written_unless_everything_matches(tmp_path: Path) -> None:
    state = dict(calibrated().state_dict())
    state["layer1.0.conv1.weight"] = state["layer1.0.conv1.weight"][:3]
    state["layer9.weight"] = torch.ones(1)
    state["reg_token"] = torch.ones(1)
    state["layer2.0.bn1.weight"] = state["layer2.0.bn1.weight"] * torch.nan
    del state["layer3.0.conv1.weight"]
    torch.save(state, tmp_path / "c.pth")
    found = convert(tmp_path / "c.pth", tmp_path / "c.safetensors", ConvertArgs(backbone=NAME))
    assert not found.is_complete
    assert found.missing == ("layer3.0.conv1.weight",)
    assert found.unexpected == ("layer9.weight", "reg_token")
    assert [text.split(" ")[0] for text in found.reshaped] == ["layer1.0.conv1.weight", "layer2.0.bn1.weight"]
    assert [file.name for file in tmp_path.iterdir()] == ["c.pth"]


def test_out_is_never_replaced(tmp_path: Path) -> None:
    source, _ = timm_file(tmp_path)
    with pytest.raises(UsageError, match=r"timm.pth: exists"):
        convert(source, source, ConvertArgs(backbone=NAME))
    with pytest.raises(UsageError, match=r"name it out\.safetensors"):
        convert(source, tmp_path / "out", ConvertArgs(backbone=NAME))


def test_a_description_that_lies_is_refused(tmp_path: Path) -> None:
    save_weights(tmp_path / "c.safetensors", calibrated().state_dict(), {"backbone": 7})
    with pytest.raises(CheckpointError, match="its description is damaged"):
        convert(tmp_path / "c.safetensors", tmp_path / "out.safetensors", ConvertArgs())
