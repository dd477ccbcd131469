"""The self-supervised methods by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import nn

from voco2d.methods.byol import BYOL
from voco2d.methods.dino import DINO
from voco2d.methods.method import Method
from voco2d.methods.simclr import SimCLR
from voco2d.methods.simmim import SimMIM
from voco2d.methods.view_args import BYOLArgs, DINOArgs, SimCLRArgs, SimMIMArgs
from voco2d.methods.voco import VoCo
from voco2d.methods.voco_args import VoCoArgs

MethodArgs: TypeAlias = VoCoArgs | SimCLRArgs | BYOLArgs | DINOArgs | SimMIMArgs
"""Settings of any method; `name` tells which."""


@dataclass(frozen=True)
class MethodEntry:
    """A method.

    Args:
        args: Class of its settings.
        build: Takes a backbone that gives feature maps, and the settings.
    """

    args: type[MethodArgs]
    build: Callable[[nn.Module, Any], Method]


METHODS: Mapping[str, MethodEntry] = {
    "voco": MethodEntry(VoCoArgs, VoCo),
    "simclr": MethodEntry(SimCLRArgs, SimCLR),
    "byol": MethodEntry(BYOLArgs, BYOL),
    "dino": MethodEntry(DINOArgs, DINO),
    "simmim": MethodEntry(SimMIMArgs, SimMIM),
}


def build_method(backbone: nn.Module, args: MethodArgs) -> Method:
    """Build the method that `args` are for.

    Args:
        backbone: Gives feature maps; it becomes the student's.
        args: Settings of any method.

    Raises:
        UsageError: A package it needs is not installed.
        ConfigError: The backbone takes no crops of that size.
    """
    return METHODS[args.name].build(backbone, args)
