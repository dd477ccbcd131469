"""Where a classifier's backbone starts: at random, from ImageNet, or from a checkpoint."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from voco2d.models.backbones import build_backbone, check_name
from voco2d.models.checkpoint import backbone_state
from voco2d.models.state_names import load_state

RANDOM = "random"
IMAGENET = "imagenet"
DEFAULT_BACKBONE = "efficientnet_b0"
"""Where neither the configuration nor a checkpoint names one; the paper's smallest."""


@dataclass(frozen=True)
class Initialisation:
    """A start for backbones of one architecture.

    Args:
        origin: `random`, `imagenet`, or the checkpoint's path as it was given.
        backbone: timm name.
        state: The backbone's tensors under timm's names; empty where it starts at random.
        metadata: The checkpoint's description, empty without one.
    """

    origin: str
    backbone: str
    state: Mapping[str, Tensor]
    metadata: Mapping[str, Any]

    @property
    def is_checkpoint(self) -> bool:
        """Whether the tensors come from a file."""
        return self.origin not in (RANDOM, IMAGENET)

    def apply(self, backbone: nn.Module) -> None:
        """Put the tensors into a backbone of that architecture; its image channels may differ."""
        if self.state:
            load_state(backbone, self.state, self.backbone, self.origin)


def read_initialisation(init: str, backbone: str | None, in_chans: int) -> Initialisation:
    """Read a start once, for all folds.

    Args:
        init: `random`, `imagenet`, or the path of a run folder or weights file.
        backbone: timm name; None takes the checkpoint's, or `DEFAULT_BACKBONE` where there is no checkpoint.
        in_chans: Channels of the images.

    Raises:
        UsageError: timm knows no such backbone.
        CheckpointError: The weights are missing, damaged, or of another architecture than `backbone`.
    """
    if init not in (RANDOM, IMAGENET):
        state, metadata = backbone_state(Path(init), backbone)
        return Initialisation(init, str(metadata["backbone"]), state, metadata)
    name = backbone or DEFAULT_BACKBONE
    check_name(name)
    if init == RANDOM:
        return Initialisation(init, name, {}, {})
    return Initialisation(init, name, build_backbone(name, in_chans=in_chans, imagenet=True).state_dict(), {})
