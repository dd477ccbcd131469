"""The self-supervised methods by name."""

from collections.abc import Callable, Mapping

from torch import nn

from voco2d.methods.method import Method
from voco2d.methods.voco import VoCo
from voco2d.methods.voco_args import VoCoArgs

METHODS: Mapping[str, Callable[[nn.Module, VoCoArgs], Method]] = {"voco": VoCo}
"""Each takes a backbone that gives feature maps, and its settings."""
