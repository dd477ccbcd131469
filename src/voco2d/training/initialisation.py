"""Where a classifier's backbone starts: at random, from ImageNet, or from a checkpoint."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from voco2d.config import Tree
from voco2d.models.backbones import build_backbone, check_name
from voco2d.models.checkpoint import backbone_state
from voco2d.models.hub_config import window_hu as known_window
from voco2d.models.state_names import load_state
from voco2d.training.continuation import differences

_log = logging.getLogger(__name__)

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

    def compare(self, window_hu: Sequence[float], prepared: Tree) -> None:
        """Warn where the start has seen other intensities than it is going to, or volumes that were prepared otherwise.

        Args:
            window_hu: Low and high end of what it is going to see, HU.
            prepared: How its volumes were prepared, as plain values.
        """
        known = known_window(self.metadata)
        if known is not None and list(known) != list(window_hu):
            _log.warning(
                "%s was trained on a window of %s HU, this run shows %s; choose the same unless you mean it",
                self.origin, list(known), list(window_hu),
            )  # fmt: skip
        before = self.metadata.get("preprocess")
        if isinstance(before, Mapping):
            # a checkpoint from before a key there was says nothing about it
            changed = [f"{key} {old}, now {new}" for key, old, new in differences({**prepared, **before}, prepared)]
            if changed:
                _log.warning(
                    "%s was trained on a store that was prepared otherwise (preprocess: %s); "
                    "prepare the store alike unless you mean it", self.origin, "; ".join(changed),
                )  # fmt: skip


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
