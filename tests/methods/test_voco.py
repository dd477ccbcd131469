import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from voco2d.errors import CheckpointError
from voco2d.methods.method import CropBatch
from voco2d.methods.voco import ClipEncoder, VoCo
from voco2d.methods.voco_args import PAPER_V1, PAPER_V2, VoCoArgs
from voco2d.models.backbones import build_backbone

ARGS = VoCoArgs(crop=32, slices=2, hidden=16)
PAPER = replace(ARGS, **PAPER_V2)


def method(args: VoCoArgs = ARGS, backbone: str = "test_efficientnet") -> VoCo:
    torch.manual_seed(0)
    return VoCo(build_backbone(backbone), args)


def batch_of(args: VoCoArgs = ARGS, volumes: int = 3) -> CropBatch:
    generator = torch.Generator().manual_seed(0)
    size = (args.slices, args.crop, args.crop)
    overlap = torch.rand(volumes, args.random_crops, args.grid**2, generator=generator)
    views = args.random_crops + args.grid**2
    return CropBatch(
        units=torch.rand(volumes * views, *size, generator=generator),
        views=views,
        overlap=overlap / overlap.sum(-1, keepdim=True),
        partner=torch.arange(volumes).roll(-1),
    )


def step(voco: VoCo, args: VoCoArgs = ARGS) -> dict[str, Tensor]:
    """Compute the gradients of one batch; return those that are there."""
    voco(batch_of(args)).loss.backward()
    return {name: p.grad for name, p in voco.named_parameters() if p.grad is not None}


def test_features_and_similarities_have_their_shapes() -> None:
    output = method()(batch_of())
    assert torch.isfinite(output.loss)
    assert output.features.shape == (3 * 11, 16)
    assert output.similarity is not None
    assert output.similarity.shape == (3, 2, 9)


def test_weights_are_named_by_network_and_timm() -> None:
    names = set(method().weights())
    backbone = set(build_backbone("test_efficientnet").state_dict())
    for network in ("student", "teacher"):
        own = {name for name in names if name.startswith(f"{network}.")}
        assert own == {f"{network}.backbone.{key}" for key in backbone} | {
            f"{network}.projector.layers.{layer}.weight" for layer in range(3)
        }


@pytest.mark.parametrize(
    ("backbone", "crop", "width"),
    [("test_efficientnet", 32, 256), ("test_efficientnet", 64, 1024), ("test_resnet", 96, 864), ("test_vit", 32, 256)],
)
def test_the_projectors_width_is_features_times_map(backbone: str, crop: int, width: int) -> None:
    voco: Any = method(replace(ARGS, crop=crop), backbone)
    assert voco.student.projector.layers[0].in_features == width
    assert torch.isfinite(voco(batch_of(replace(ARGS, crop=crop))).loss)


def test_a_clip_is_the_mean_over_slices_of_the_flattened_map() -> None:
    encoder = ClipEncoder(build_backbone("test_efficientnet"), replace(ARGS, crop=64)).eval()
    crops = torch.rand(6, 2, 64, 64)
    clips = encoder.clip(crops)
    assert clips.shape == (6, 1024)
    expected = encoder.backbone(crops[5, :, None]).flatten(1).mean(0)
    torch.testing.assert_close(clips[5], expected, atol=1e-5, rtol=1e-4)


def test_order_of_slices_does_not_matter_and_slices_do() -> None:
    encoder = ClipEncoder(build_backbone("test_efficientnet"), ARGS).eval()
    crops = torch.rand(1, 2, 32, 32)
    torch.testing.assert_close(encoder.clip(crops), encoder.clip(crops.flip(1)), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(encoder.clip(crops), encoder.clip(crops[:, :1]), atol=1e-5)


def test_voco2ds_teacher_takes_no_gradient_and_follows_with_projector_and_statistics() -> None:
    voco = method()
    gradients = step(voco)
    assert {name.split(".")[0] for name in gradients} == {"student"}
    with torch.no_grad():
        for parameter in voco.student.parameters():
            parameter.add_(1)
    before = copy.deepcopy(voco.teacher.network.state_dict())
    voco.after_step(0.0)
    moved = {
        name for name, tensor in voco.teacher.network.state_dict().items() if not torch.equal(tensor, before[name])
    }
    assert moved == {name for name in before if not name.endswith("num_batches_tracked")}


def test_the_papers_teacher_projector_is_trained_and_its_encoder_follows_by_parameters_alone() -> None:
    voco = method(PAPER)
    gradients = step(voco, PAPER)
    of_teacher = {name for name in gradients if name.startswith("teacher.")}
    assert of_teacher == {f"teacher.network.projector.layers.{layer}.weight" for layer in range(3)}
    before = copy.deepcopy(voco.teacher.network.state_dict())
    with torch.no_grad():
        for parameter in voco.student.parameters():
            parameter.add_(1)
    voco.after_step(0.5)
    assert all(torch.equal(tensor, before[name]) for name, tensor in voco.teacher.network.state_dict().items())
    voco.before_step(0.5)
    moved = {
        name for name, tensor in voco.teacher.network.state_dict().items() if not torch.equal(tensor, before[name])
    }
    assert moved == {name for name, _ in voco.teacher.network.named_parameters() if name.startswith("backbone.")}
    moved_by = voco.teacher.network.state_dict()["backbone.conv_head.weight"] - before["backbone.conv_head.weight"]
    assert moved_by.mean().item() == pytest.approx(0.1, abs=1e-3)


def test_only_the_students_features_are_dropped() -> None:
    """The teacher gives the same twice, the student does not."""
    voco = method(replace(ARGS, feature_dropout=0.5))
    batch = batch_of()
    first, second = voco(batch), voco(batch)
    assert not torch.equal(first.features, second.features)
    assert torch.equal(voco.teach(batch.units), voco.teach(batch.units))
    steady = method(replace(ARGS, feature_dropout=0.0))
    assert torch.equal(steady(batch).features, steady(batch).features)


def test_the_projectors_norm_has_a_switch() -> None:
    dropless = replace(ARGS, feature_dropout=0.0)
    batch = batch_of()
    by_feature, by_position = method(dropless)(batch), method(replace(dropless, projector_norm="position"))(batch)
    torch.testing.assert_close(by_feature.features.mean(0), torch.zeros(16), atol=1e-4, rtol=0)
    assert by_position.features.mean(0).abs().max() > 1e-3


def test_the_partner_decides_the_inter_term_alone() -> None:
    voco = method(replace(ARGS, feature_dropout=0.0))
    with torch.no_grad():  # a student equal to its teacher has no inter loss
        voco.student.projector.layers[0].weight.normal_()  # type: ignore[operator]
    batch = batch_of()
    one, other = voco(batch), voco(replace(batch, partner=torch.arange(3).roll(1)))
    assert torch.equal(one.terms["intra"], other.terms["intra"])
    assert torch.equal(one.terms["reg"], other.terms["reg"])
    assert not torch.equal(one.terms["inter"], other.terms["inter"])


def test_weights_of_another_architecture_are_refused() -> None:
    with pytest.raises(CheckpointError, match="the student's weights are of another architecture"):
        method().load_weights(method(backbone="test_resnet").weights())


def test_bf16_autocast_gives_the_loss_in_float32() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = method()(batch_of())
    assert output.loss.dtype == torch.float32
    assert torch.isfinite(output.loss)


def test_the_papers_projector_ends_bare_and_the_teachers_starts_on_its_own() -> None:
    features = torch.rand(3, 11, 256)
    paper, ours = method(PAPER), method()
    plain, normal = (voco.student.projector.eval()(features).detach() for voco in (paper, ours))
    assert plain.flatten(0, 1).std(0).mean().item() != pytest.approx(1, abs=0.1)
    assert normal.flatten(0, 1).std(0).mean().item() == pytest.approx(1, abs=0.1)
    for voco, same in ((paper, False), (ours, True)):
        first, second = (net.state_dict()["projector.layers.0.weight"] for net in voco.networks().values())
        assert torch.equal(first, second) is same


def test_the_paper_drops_from_each_slice_before_the_mean() -> None:
    """A clip of two slices then has values that are half of what is kept; the mean's are dropped whole."""
    torch.manual_seed(1)
    args = replace(PAPER, feature_dropout=0.5)
    for settings, drops in ((args, True), (replace(args, dropout_on="clip"), False)):
        voco = method(settings)
        crops = torch.rand(4, 2, 32, 32)
        assert torch.equal(voco.encode(crops), voco.encode(crops)) is not drops


def test_paper_v1_compares_within_a_volume_alone_and_encodes_smaller_crops() -> None:
    args = replace(ARGS, **{**PAPER_V1, "crop": 48, "encoded": 32})
    output = method(args)(batch_of(args, volumes=1))
    assert set(output.terms) == {"pos", "neg", "reg"}
    assert torch.isfinite(output.loss)
    assert output.similarity is not None
    assert output.similarity.shape == (1, 2, 16)
    assert method(args).encode(torch.rand(2, 2, 48, 48)).shape == method(ARGS).encode(torch.rand(2, 2, 32, 32)).shape
