"""Faster training of timm's EfficientNet-like backbones on a CPU, with the same weights and results."""

from importlib import import_module
from typing import Any

import torch
from timm.layers.norm_act import BatchNormAct2d
from timm.models._efficientnet_blocks import DepthwiseSeparableConv, InvertedResidual, SqueezeExcite
from torch import Tensor, nn

from voco2d.errors import UsageError

_FEW = 32
"""Values a patch of a first convolution has at most."""


def accelerate_cpu(backbone: nn.Module) -> nn.Module:
    """Let a backbone's inverted residual blocks and norms train by fused loops, in place.

    Names, weights and buffers stay what they are, and so do results, to rounding. Only training in float32 on a CPU
    takes another way: elsewhere, and in `eval`, the backbone does what timm does. Layers that are not of the kind
    (another activation, padding that depends on the image, drop path) are left as they are. Hooks on layers inside of
    a block are not called on the fast way.

    Args:
        backbone: Any module; parts that aren't timm's are left alone.

    Returns:
        The backbone.

    Raises:
        UsageError: numba can't be imported, for example because numpy is newer than it knows.
    """
    pairs = [(module, _FAST.get(type(module))) for module in backbone.modules()]
    taken = [(module, fast) for module, fast in pairs if fast is not None and fast.takes(module)]  # type: ignore[attr-defined]
    if taken:
        _check_numba()
    for module, fast in taken:
        module.__class__ = fast
    return backbone


def _check_numba() -> None:
    try:
        import_module("numba")
    except ImportError as error:
        raise UsageError(f"numba can't be imported ({error}): install another, or set fast_cpu=false") from error


class _FastNormAct(BatchNormAct2d):
    """Batch norm and SiLU in one step that keeps only its input."""

    @staticmethod
    def takes(layer: BatchNormAct2d) -> bool:
        return _is_norm(layer, nn.SiLU)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise and activate (N, C, H, W)."""
        if not _goes_fast(self, x) or not _is_norm(self, nn.SiLU):
            plain: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
            return plain
        from voco2d.models.cpu_blocks import NormActivation

        maps = _last(x)
        out: Tensor = NormActivation.apply(maps.flatten(1, 2), self.weight, self.bias, self)
        return _first(out.view(maps.shape))


class _FastFirst(nn.Conv2d):
    """The convolution of the image."""

    @staticmethod
    def takes(conv: nn.Conv2d) -> bool:
        few = conv.in_channels * conv.kernel_size[0] ** 2 <= _FEW and conv.kernel_size != (1, 1)
        square = len({*conv.kernel_size}) == len({*conv.stride}) == 1
        return few and square and _is_bare(conv, 1) and conv.padding[0] == conv.padding[1]

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, F, H', W')."""
        if not _goes_fast(self, x) or x.requires_grad:
            plain: Tensor = super().forward(x)
            return plain
        from voco2d.models.cpu_blocks import FirstConvolution

        out: Tensor = FirstConvolution.apply(_last(x), self.weight, self.stride[0], int(self.padding[0]))
        return _first(out)


class _FastInverted(InvertedResidual):
    """Expansion, depthwise convolution, gates and projection in one step."""

    @staticmethod
    def takes(block: InvertedResidual) -> bool:
        pointwise = _is_pointwise(block.conv_pw) and _is_norm(block.bn1, nn.SiLU)
        return pointwise and _is_rest(block, block.bn2, block.conv_pwl, block.bn3)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output (N, C', H', W')."""
        if not _goes_fast(self, x) or not self.takes(self):
            plain: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
            return plain
        expand = (self.conv_pw, self.bn1)
        return _step(self, x, expand, (self.conv_dw, self.bn2), (self.conv_pwl, self.bn3))


class _FastSeparable(DepthwiseSeparableConv):
    """Depthwise convolution, gates and projection in one step."""

    @staticmethod
    def takes(block: DepthwiseSeparableConv) -> bool:
        return not block.has_pw_act and _is_rest(block, block.bn1, block.conv_pw, block.bn2)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output (N, C', H', W')."""
        if not _goes_fast(self, x) or not self.takes(self):
            plain: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
            return plain
        return _step(self, x, None, (self.conv_dw, self.bn1), (self.conv_pw, self.bn2))


_FAST: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv2d: _FastFirst,
    BatchNormAct2d: _FastNormAct,
    InvertedResidual: _FastInverted,
    DepthwiseSeparableConv: _FastSeparable,
}


def _step(block: Any, x: Tensor, expand: Any, depthwise: Any, project: Any) -> Tensor:
    from voco2d.models.cpu_inverted import InvertedResidualStep, Layers

    gates = isinstance(block.se, SqueezeExcite)
    layers = Layers(expand, depthwise, project, _Gate(block.se) if gates else None, block.has_skip)
    squeezing = tuple(block.se.parameters()) if gates else ()
    out: Tensor = InvertedResidualStep.apply(_last(x), layers, len(squeezing), *layers.parameters(squeezing))
    return _first(out)


class _Gate:
    """The gates of timm's squeeze and excitation from the means over the places; one-pixel convolutions are slow."""

    def __init__(self, squeeze: SqueezeExcite) -> None:
        self._squeeze = squeeze

    def __call__(self, means: Tensor) -> Tensor:
        squeeze = self._squeeze
        reduce, expand = squeeze.conv_reduce, squeeze.conv_expand
        hidden = nn.functional.silu(nn.functional.linear(means, reduce.weight.flatten(1), reduce.bias))
        gate: Tensor = squeeze.gate(nn.functional.linear(hidden, expand.weight.flatten(1), expand.bias))
        return gate


def _goes_fast(module: nn.Module, x: Tensor) -> bool:
    plain = x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    trains = all(part.training for part in module.modules())  # a norm may be frozen by itself
    return trains and plain and len(x) > 1 and not torch.compiler.is_compiling()


def _is_rest(block: Any, deep: nn.Module, project: nn.Module, last: nn.Module) -> bool:
    """Tell whether what follows the expansion is of the kind."""
    gates = isinstance(block.se, nn.Identity) or (
        type(block.se) is SqueezeExcite and isinstance(block.se.act1, nn.SiLU)
    )
    nothing = (block.aa, block.drop_path)
    if block.conv_s2d is not None or not gates or not all(isinstance(layer, nn.Identity) for layer in nothing):
        return False
    norms = _is_norm(deep, nn.SiLU) and _is_norm(last, nn.Identity)
    return norms and _is_depthwise(block.conv_dw) and _is_pointwise(project)


def _is_norm(layer: Any, activation: type[nn.Module]) -> bool:
    known = type(layer) in (BatchNormAct2d, _FastNormAct) and isinstance(layer.drop, nn.Identity)
    return known and layer.affine and isinstance(layer.act, activation)


def _is_pointwise(conv: Any) -> bool:
    return type(conv) is nn.Conv2d and conv.kernel_size == (1, 1) and conv.stride == (1, 1) and _is_bare(conv, 1)


def _is_depthwise(conv: Any) -> bool:
    same = type(conv) is nn.Conv2d and conv.in_channels == conv.out_channels and _is_bare(conv, conv.in_channels)
    square = same and len({*conv.kernel_size}) == len({*conv.stride}) == len({*conv.padding}) == 1
    return square and 2 * int(conv.padding[0]) == conv.kernel_size[0] - 1


def _is_bare(conv: nn.Conv2d, groups: int) -> bool:
    bare = conv.bias is None and conv.groups == groups and conv.dilation == (1, 1)
    return bare and conv.padding_mode == "zeros" and not isinstance(conv.padding, str)


def _last(x: Tensor) -> Tensor:
    """Return (N, C, H, W) as (N, H, W, C), a copy only where memory isn't laid out so."""
    return x.permute(0, 2, 3, 1).contiguous()


def _first(maps: Tensor) -> Tensor:
    return maps.permute(0, 3, 1, 2)
