"""What every method promises the training loop."""

import copy
import sys
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from voco2d.errors import UsageError
from voco2d.methods.method import Batch, CropBatch, Method
from voco2d.methods.registry import METHODS, MethodArgs, build_method
from voco2d.methods.view_args import BYOLArgs, DINOArgs, SimCLRArgs, SimMIMArgs
from voco2d.methods.voco_args import VoCoArgs
from voco2d.models.backbones import build_backbone
from voco2d.training.gradients import Chance, compute_gradients

pytest.importorskip("lightly")

ARGS: Mapping[str, MethodArgs] = {
    "voco": VoCoArgs(crop=32, slices=2, hidden=16, feature_dropout=0.0),
    "simclr": SimCLRArgs(crop=32, slices=3, hidden=16, out=8),
    "byol": BYOLArgs(crop=32, slices=3, hidden=16, out=8),
    "dino": DINOArgs(crop=32, slices=3, hidden=16, bottleneck=8, prototypes=12),
    "simmim": SimMIMArgs(crop=32, slices=3),
}
TAUGHT = ("voco", "byol", "dino")


def method_of(name: str, backbone: str = "test_efficientnet", seed: int = 0) -> Method:
    torch.manual_seed(seed)
    return build_method(build_backbone(backbone), ARGS[name])


def batch_of(name: str, volumes: int = 2) -> Batch:
    generator = torch.Generator().manual_seed(0)
    args = ARGS[name]
    if isinstance(args, VoCoArgs):
        overlap = torch.rand(volumes, 2, 9, generator=generator)
        units = torch.rand(volumes * 11, 2, 32, 32, generator=generator)
        partner = torch.arange(volumes).roll(-1)
        return CropBatch(units, 11, overlap / overlap.sum(-1, keepdim=True), partner)
    views = args.images_per_volume
    units = torch.rand(volumes * views, 1, 32, 32, generator=generator)
    if isinstance(args, SimMIMArgs):
        hidden = torch.zeros_like(units)
        hidden[..., 16:, :] = 1
        units = torch.cat([units, hidden], dim=1)
    return Batch(units, views)


def gradients_of(method: Method) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in method.named_parameters() if p.grad is not None}


def test_the_contract_is_tested_for_every_method() -> None:
    assert set(ARGS) == set(METHODS)
    assert all(type(ARGS[name]) is entry.args for name, entry in METHODS.items())
    assert all(entry.args().name == name for name, entry in METHODS.items())


@pytest.mark.parametrize("name", METHODS)
def test_terms_are_finite_and_features_are_a_row_a_unit(name: str) -> None:
    batch = batch_of(name)
    output = method_of(name)(batch)
    assert torch.isfinite(output.loss)
    assert output.loss > 0
    assert len(output.features) == len(batch.units)
    assert not output.features.requires_grad


@pytest.mark.parametrize("name", METHODS)
def test_weights_come_back(name: str) -> None:
    first, second = method_of(name), method_of(name, seed=1)
    first(batch_of(name))
    saved = {key: tensor.clone() for key, tensor in first.weights().items()}
    second.load_weights(saved)
    assert saved.keys() == second.weights().keys()
    assert all(torch.equal(tensor, second.weights()[key]) for key, tensor in saved.items())
    state = first.state_dict()  # nothing that a step changes is left out
    assert len(saved) == len(state)


@pytest.mark.parametrize("name", METHODS)
def test_backbones_are_saved_under_timms_names(name: str) -> None:
    own = {f"student.backbone.{key}" for key in build_backbone("test_efficientnet").state_dict()}
    assert own <= set(method_of(name).weights())


@pytest.mark.parametrize("name", METHODS)
def test_every_trained_parameter_takes_a_gradient_and_no_teacher_does(name: str) -> None:
    method = method_of(name)
    if name in TAUGHT:  # a teacher equal to its student may give no gradient at all
        with torch.no_grad():
            for parameter in method.get_submodule("teacher").parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
    method(batch_of(name)).loss.backward()
    trained = {key for key, parameter in method.named_parameters() if parameter.requires_grad}
    assert set(gradients_of(method)) == trained
    assert not any(key.startswith("teacher.") for key in trained)
    stem = method.get_parameter("student.backbone.conv_stem.weight").grad
    assert stem is not None
    assert stem.abs().max() > 0


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("chunk", [1, 5])
def test_pieces_give_the_gradient_of_the_whole_batch(name: str, chunk: int) -> None:
    """test_convnext has no batch norm, so that a piece is encoded as in the whole batch."""
    whole = method_of(name, "test_convnext")
    pieces = copy.deepcopy(whole)
    fabric = Fabric(accelerator="cpu", devices=1)
    batch = batch_of(name)
    outputs = [
        compute_gradients(method, batch, fabric, size, Chance(0, 1)) for method, size in ((whole, 0), (pieces, chunk))
    ]
    torch.testing.assert_close(outputs[0].loss, outputs[1].loss)
    expected, found = gradients_of(whole), gradients_of(pieces)
    assert expected.keys() == found.keys()
    for key, gradient in expected.items():
        torch.testing.assert_close(found[key], gradient, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("name", TAUGHT)
def test_teachers_follow_after_a_step(name: str) -> None:
    method = method_of(name)
    assert method.teacher_distance() == 0
    with torch.no_grad():
        for parameter in method.get_submodule("student").parameters():
            parameter.add_(0.1)
    apart = method.teacher_distance()
    method.after_step(0.0)
    nearer = method.teacher_distance()
    assert apart is not None
    assert nearer is not None
    assert nearer < apart
    before = {key: tensor.clone() for key, tensor in method.get_submodule("teacher").named_parameters()}
    method.after_step(1.0)
    for key, tensor in method.get_submodule("teacher").named_parameters():
        torch.testing.assert_close(tensor, before[key], atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", METHODS)
def test_bf16_autocast_gives_the_loss_in_float32(name: str) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = method_of(name)(batch_of(name))
    assert output.loss.dtype == torch.float32
    assert torch.isfinite(output.loss)


@pytest.mark.parametrize("name", ["simclr", "byol", "dino"])
def test_without_lightly_the_extra_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [module for module in sys.modules if module.partition(".")[0] == "lightly"]:
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, "lightly", None)
    with pytest.raises(UsageError, match=rf"method.name={name} needs lightly; pip install 'voco2d\[ssl\]'"):
        method_of(name)


def test_partners_of_simclr_and_byol_are_the_neighbouring_units() -> None:
    """Views of a slice that are equal are nearer than any others: a batch of such has the lowest loss."""
    for name in ("simclr", "byol"):
        method = method_of(name, "test_convnext")
        if name == "byol":
            method.predictor = nn.Identity()
        units = batch_of(name).units
        paired = units.repeat_interleave(2, dim=0)
        apart = torch.cat([units, units])
        losses = [method(Batch(views, 6)).loss.item() for views in (paired, apart)]
        assert losses[0] < losses[1]


def test_simmim_does_not_see_what_is_hidden() -> None:
    method: Any = method_of("simmim", "test_convnext")
    units = batch_of("simmim").units
    other = units.clone()
    other[:, 0, 16:] = torch.rand_like(other[:, 0, 16:])
    changed, same = method.student(*other.unbind(1)), method.student(*units.unbind(1))
    assert torch.equal(changed[0], same[0])
    other[:, 0, :16] = torch.rand_like(other[:, 0, :16])
    assert not torch.equal(method.student(*other.unbind(1))[0], same[0])


def test_dinos_prototypes_wait_and_its_centre_moves() -> None:
    method = method_of("dino")
    before = method.weights()["loss.inner.center"].clone()
    method(batch_of("dino")).loss.backward()
    assert not torch.equal(method.weights()["loss.inner.center"], before)
    prototypes = method.get_submodule("student.projector.last_layer")
    method.before_step(0.02)
    assert any(parameter.grad is not None for parameter in prototypes.parameters())
    method.before_step(0.01)
    assert all(parameter.grad is None for parameter in prototypes.parameters())
