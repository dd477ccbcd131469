"""Folds batch normalisation into the convolutions before it, for networks that are only asked and never trained.

In evaluation both are linear maps with fixed numbers, so one convolution can do the work of both.
"""

from itertools import pairwise
from typing import Final

import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

_FOLDABLE: Final = (nn.Conv2d, Conv2dSame)
"""By exact type: a subclass may change its weights each time it is called, as weight standardisation does."""
_NORMS: Final = (nn.BatchNorm2d, BatchNormAct2d)
_TOLERANCE: Final = 1e-4


@torch.no_grad()
def fold_norms(network: nn.Module, shape: tuple[int, int, int]) -> None:
    """Fold every batch normalisation that stands right behind a convolution in its module, in place.

    The network then answers the same but for rounding. That the two also follow each other in the computation is
    written nowhere, so the result is tried on noise, and where it differs the network stays as it was.

    Args:
        network: In evaluation mode, on the CPU, in float32.
        shape: (C, H, W) of the pictures it will take.
    """
    pairs = _pairs(network)
    if not pairs:
        return
    noise = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))
    before: Tensor = network(noise)
    kept = [(owner, name, getattr(owner, name)) for owner, *names in pairs for name in names]
    for owner, conv_name, norm_name in pairs:
        conv, norm = getattr(owner, conv_name), getattr(owner, norm_name)
        setattr(owner, conv_name, fuse_conv_bn_eval(conv, norm))
        setattr(owner, norm_name, _rest(norm))
    if not torch.allclose(network(noise), before, rtol=_TOLERANCE, atol=_TOLERANCE * float(before.abs().max())):
        for owner, name, module in kept:
            setattr(owner, name, module)


def _rest(norm: nn.Module) -> nn.Module:
    """What is left of a normalisation without its numbers: its activation, if it has one."""
    return nn.Sequential(norm.drop, norm.act) if isinstance(norm, BatchNormAct2d) else nn.Identity()


def _pairs(network: nn.Module) -> list[tuple[nn.Module, str, str]]:
    """Find each convolution with a normalisation behind it: the module that holds both, and their names there."""
    found = []
    for owner in network.modules():
        for (name, conv), (norm_name, norm) in pairwise(owner.named_children()):
            if type(conv) in _FOLDABLE and type(norm) in _NORMS and norm.running_mean is not None:
                found.append((owner, name, norm_name))
    return found
