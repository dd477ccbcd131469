import copy
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from timm.layers import BatchNormAct2d, DropPath
from timm.models._efficientnet_blocks import DepthwiseSeparableConv, InvertedResidual, SqueezeExcite
from torch import Tensor, distributed, nn

from voco2d.errors import UsageError
from voco2d.models import fast_cpu
from voco2d.models.backbones import build_backbone
from voco2d.models.shared_norm import share_norms

TOLERANCE = 2e-5
"""Relative error of float32 beside the same network in float64."""


def _block(kind: type[nn.Module], channels: tuple[int, int], kernel: int, stride: int, squeezes: bool) -> nn.Module:
    torch.manual_seed(0)
    settings = {"exp_ratio": 3.0} if kind is InvertedResidual else {}
    block: nn.Module = kind(
        *channels,
        dw_kernel_size=kernel,
        stride=stride,
        act_layer=nn.SiLU,
        se_layer=SqueezeExcite if squeezes else None,
        **settings,
    )
    for module in block.modules():
        if isinstance(module, BatchNormAct2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return block.train()


def _error(own: Tensor | None, exact: Tensor | None) -> float:
    assert own is not None
    assert exact is not None
    return float((own.double() - exact).norm() / exact.norm().clamp_min(1e-3))


def _run(network: nn.Module, x: Tensor, weight: Tensor) -> dict[str, Tensor]:
    """Return what a network makes of x, and all gradients of a weighted sum of it."""
    x = x.detach().to(next(network.parameters()).dtype, copy=True).requires_grad_()
    out = network(x)
    (out * weight.to(out.dtype)).sum().backward()
    gradients = {f"d{name}": parameter.grad for name, parameter in network.named_parameters()}
    buffers = {name: buffer for name, buffer in network.named_buffers() if buffer.is_floating_point()}
    return {"out": out.detach(), "dx": x.grad, **gradients, **buffers}


@pytest.mark.parametrize("kind", [InvertedResidual, DepthwiseSeparableConv])
@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    ("channels", "size", "squeezes"),
    [((8, 8), (9, 7), True), ((6, 10), (16, 12), False), ((48, 24), (4, 2), True), ((40, 40), (1, 5), True)],
)
def test_block_equals_timm(
    kind: type[nn.Module], kernel: int, stride: int, channels: tuple[int, int], size: tuple[int, int], squeezes: bool
) -> None:
    plain = _block(kind, channels, kernel, stride, squeezes)
    fast = fast_cpu.accelerate_cpu(copy.deepcopy(plain))
    exact = copy.deepcopy(plain).double()
    assert type(fast) is not type(plain)
    x = torch.randn(5, channels[0], *size)
    weight = torch.randn_like(copy.deepcopy(plain)(x))
    own, other = _run(fast, x, weight), _run(exact, x, weight)
    assert own.keys() == other.keys()
    errors = {name: _error(own[name], other[name]) for name in own}
    assert max(errors.values()) < TOLERANCE, errors


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("chunk", [1, 1 << 21])
def test_backbone_equals_timm(threads: int, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from voco2d.models import cpu_blocks

    monkeypatch.setattr(cpu_blocks, "_CHUNK", chunk)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        torch.manual_seed(0)
        plain = build_backbone("efficientnet_b0").train()
        fast = fast_cpu.accelerate_cpu(copy.deepcopy(plain))
        exact = copy.deepcopy(plain).double()
        x = torch.rand(6, 1, 64, 64)
        weight = torch.randn(6, 1280, 2, 2)
        for network in (plain, fast, exact):
            out = network(x.to(next(network.parameters()).dtype))
            (out * weight.to(out.dtype)).sum().backward()
    finally:
        torch.set_num_threads(before)
    assert list(fast.state_dict()) == list(plain.state_dict())
    for (name, own), other in zip(fast.named_buffers(), exact.buffers(), strict=True):
        assert torch.allclose(own.double(), other.double(), rtol=1e-4, atol=1e-6), name
    parameters = zip(fast.named_parameters(), plain.parameters(), exact.parameters(), strict=True)
    for (name, own), timms, other in parameters:
        assert other.grad is not None
        if other.grad.norm() > 1e-6:  # a bias before a norm has none
            assert _error(own.grad, other.grad) < max(1e-3, 2 * _error(timms.grad, other.grad)), name


def test_without_graph_gives_the_same_and_moves_buffers() -> None:
    plain = _block(InvertedResidual, (8, 8), 3, 1, squeezes=True)
    fast = fast_cpu.accelerate_cpu(copy.deepcopy(plain))
    x = torch.randn(4, 8, 6, 6)
    with torch.no_grad():
        assert torch.allclose(fast(x), plain(x), atol=1e-5)
    for own, other in zip(fast.buffers(), plain.buffers(), strict=True):
        assert torch.allclose(own, other, atol=1e-5)


def test_statistics_that_are_not_tracked_stay() -> None:
    fast = fast_cpu.accelerate_cpu(_block(InvertedResidual, (8, 8), 3, 1, squeezes=False))
    before = {name: buffer.clone() for name, buffer in fast.named_buffers()}
    for module in fast.modules():
        if isinstance(module, BatchNormAct2d):
            module.track_running_stats = False
    fast(torch.randn(4, 8, 6, 6))
    assert all(torch.equal(buffer, before[name]) for name, buffer in fast.named_buffers())


def test_copies_and_pickles_stand_alone() -> None:
    fast = fast_cpu.accelerate_cpu(_block(InvertedResidual, (8, 8), 3, 1, squeezes=True))
    for twin in (copy.deepcopy(fast), pickle.loads(pickle.dumps(fast))):
        twin(torch.randn(4, 8, 6, 6)).sum().backward()
        assert all(parameter.grad is not None for parameter in twin.parameters())
    assert all(parameter.grad is None for parameter in fast.parameters())


def test_shared_norms_are_taken_the_plain_way(tmp_path: Path) -> None:
    """`share_norms` replaces the norms of a network that is already fast; each order must give what timm gives."""
    torch.manual_seed(0)
    plain = build_backbone("efficientnet_b0").train()
    both, first = fast_cpu.accelerate_cpu(copy.deepcopy(plain)), copy.deepcopy(plain)
    x, weight = torch.rand(6, 1, 64, 64), torch.randn(6, 1280, 2, 2)
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    try:
        share_norms(both)
        share_norms(first)
        fast_cpu.accelerate_cpu(first)
        outs = [_run(network, x, weight) for network in (plain, both, first)]
    finally:
        distributed.destroy_process_group()
    assert both.state_dict().keys() == plain.state_dict().keys()
    for own in outs[1:]:
        assert torch.allclose(own["out"], outs[0]["out"], rtol=1e-3, atol=1e-3)
        assert _error(own["dconv_head.weight"], outs[0]["dconv_head.weight"].double()) < 1e-3
        assert torch.allclose(own["bn1.running_var"], outs[0]["bn1.running_var"], rtol=1e-4)


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_statistics_from_the_input_are_exact(offset: float) -> None:
    """They are differences of sums, so values far from zero show whether these are kept well enough."""
    plain = _block(InvertedResidual, (8, 8), 3, 1, squeezes=False)
    fast = fast_cpu.accelerate_cpu(copy.deepcopy(plain))
    exact = copy.deepcopy(plain).double()
    x = torch.randn(64, 8, 8, 8) + offset
    weight = torch.randn(64, 8, 8, 8)
    own, timms, other = (_run(network, x, weight) for network in (fast, plain, exact))
    errors = {name: (_error(own[name], other[name]), _error(timms[name], other[name])) for name in own}
    assert all(ours < max(TOLERANCE, 3 * theirs) for ours, theirs in errors.values()), errors


def test_evaluation_is_timms_own() -> None:
    plain = _block(InvertedResidual, (8, 8), 3, 1, squeezes=True)
    fast = fast_cpu.accelerate_cpu(copy.deepcopy(plain))
    x = torch.randn(4, 8, 6, 6)
    assert torch.equal(fast.eval()(x), plain.eval()(x))


def test_a_frozen_norm_stays_frozen() -> None:
    plain = _block(InvertedResidual, (8, 8), 3, 1, squeezes=True)
    plain.bn2.eval()
    fast = fast_cpu.accelerate_cpu(copy.deepcopy(plain))
    x = torch.randn(4, 8, 6, 6)
    assert torch.allclose(fast(x), plain(x), atol=1e-5)
    assert torch.equal(fast.bn2.running_mean, plain.bn2.running_mean)


def test_without_a_folder_for_its_cache_it_compiles_anew(tmp_path: Path) -> None:
    """numba refuses to import loops that it is told to keep where it finds no folder it can write to."""
    package = Path(fast_cpu.__file__).parent
    for name in ("cpu_compile", "cpu_kernels"):
        (tmp_path / f"{name}.py").write_text((package / f"{name}.py").read_text())
    (tmp_path / "__pycache__").write_text("no folder")
    script = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
import cpu_compile
sys.modules["voco2d.models.cpu_compile"] = cpu_compile
import numpy as np
import cpu_kernels
out = np.zeros((1, 1, 1), np.float32)
cpu_kernels.norm_gradient(out + 1, out, np.ones((3, 1), np.float32), out, 0, 1)
assert out.item() == 2
assert not cpu_kernels.norm_gradient.stats.cache_path
"""
    nowhere = {name: str(tmp_path / "__pycache__") for name in ("HOME", "XDG_CACHE_HOME", "LOCALAPPDATA")}
    subprocess.run([sys.executable, "-B", "-c", script], check=True, env={**os.environ, **nowhere})


def test_other_kinds_are_left_alone() -> None:
    relu = InvertedResidual(8, 8, act_layer=nn.ReLU)
    dropping = InvertedResidual(8, 8, act_layer=nn.SiLU)
    dropping.drop_path = DropPath(0.5)
    same = timm.create_model("tf_efficientnet_b0", num_classes=0).blocks[1][0]  # pads by the image's size
    for block in (relu, dropping, same):
        kind = type(block)
        assert type(fast_cpu.accelerate_cpu(block)) is kind


def test_not_a_number_stays_one() -> None:
    fast = fast_cpu.accelerate_cpu(_block(InvertedResidual, (8, 8), 3, 1, squeezes=True))
    x = torch.randn(4, 8, 6, 6)
    x[0, 0, 0, 0] = torch.nan
    assert fast(x).isnan().any()


def test_a_numba_that_cannot_be_imported_says_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(UsageError, match=r"^numba can't be imported \(.*\): .* set fast_cpu=false$"):
        fast_cpu.accelerate_cpu(_block(InvertedResidual, (8, 8), 3, 1, squeezes=True))
    fast_cpu.accelerate_cpu(nn.Linear(2, 2))
