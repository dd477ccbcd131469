"""The injury classifier: a 2D backbone a slice, an aggregator over the slices, one linear head a target."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from voco2d.config import from_tree
from voco2d.errors import CheckpointError, ConfigError, UsageError
from voco2d.models.aggregators import build_aggregator
from voco2d.models.backbones import build_backbone
from voco2d.models.checkpoint import Metadata, read_weights
from voco2d.targets import CLASS_COLUMNS, TARGETS

CLASSIFIER_KIND = "classifier"
"""What the metadata of a classifier's weights have as their `kind`."""


@dataclass(frozen=True)
class ClassifierArgs:
    """Architecture of `Classifier`; travels in its checkpoints.

    Args:
        backbone: timm name.
        in_chans: C, channels of a slice.
        aggregator: How slices become one vector: lstm, mean or max.
        hidden: Units of each direction of the LSTM.
        dropout: Share of the volume's features dropped before the heads, 0…1.
    """

    backbone: str = "efficientnet_b0"
    in_chans: int = 1
    aggregator: str = "lstm"
    hidden: int = 128
    dropout: float = 0.2

    def __post_init__(self) -> None:
        """Refuse values no network can have."""
        if self.hidden < 1 or self.in_chans < 1:
            raise ConfigError(f"hidden={self.hidden}, in_chans={self.in_chans}: both must be at least 1")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout={self.dropout}: must lie in 0…1, 1 excluded")


class Classifier(nn.Module):
    """Grades every target of `targets.TARGETS` from the slices of a volume.

    Its backbone is laid out channels-last, which nearly halves the time of a step on CPUs.

    Args:
        args: Architecture.
        imagenet: Whether the backbone starts from timm's pretrained weights.
    """

    def __init__(self, args: ClassifierArgs, imagenet: bool = False) -> None:
        super().__init__()
        self.args = args
        backbone = build_backbone(args.backbone, in_chans=args.in_chans, imagenet=imagenet)
        self.backbone = backbone.to(memory_format=torch.channels_last)
        self.aggregator = build_aggregator(args.aggregator, _num_features(backbone), args.hidden)
        self.dropout = nn.Dropout(args.dropout)
        self.heads = nn.ModuleDict(
            {name: nn.Linear(self.aggregator.num_features, len(target.classes)) for name, target in TARGETS.items()}
        )

    def forward(self, volumes: Float[Tensor, "B S C H W"]) -> dict[str, Float[Tensor, "B _"]]:
        """Grade volumes.

        Args:
            volumes: (B, S, C, H, W) windowed slices from superior to inferior, 0…1.

        Returns:
            Target name → logits (B, number of its classes).
        """
        features = self.dropout(self.aggregator(self.slice_features(volumes)))
        return {name: head(features) for name, head in self.heads.items()}

    def slice_features(self, volumes: Float[Tensor, "B S C H W"]) -> Float[Tensor, "B S D"]:
        """Average the backbone's feature map of each slice in-plane; the argument is that of `forward`."""
        slices = rearrange(volumes, "b s c h w -> (b s) c h w").to(memory_format=torch.channels_last)
        maps: Tensor = self.backbone(slices)  # (B·S, D, h, w)
        return rearrange(maps.mean(dim=(2, 3)), "(b s) d -> b s d", b=volumes.shape[0])


def class_probabilities(logits: Mapping[str, Float[Tensor, "B _"]]) -> Float[Tensor, "B classes"]:
    """Turn logits into probabilities in the order of `targets.CLASS_COLUMNS`; each target's classes sum to 1."""
    columns = torch.cat([logits[name].double().softmax(dim=1) for name in TARGETS], dim=1)
    assert columns.shape[1] == len(CLASS_COLUMNS)
    return columns


def load_classifier(path: Path) -> tuple[Classifier, Metadata]:
    """Build the classifier whose weights `path` holds, ready for evaluation.

    Args:
        path: A fold's weights, written by `voco2d finetune`.

    Returns:
        The classifier on the CPU, and the file's metadata.

    Raises:
        CheckpointError: The file is missing or damaged, holds something else, or grades other targets.
    """
    state, metadata = read_weights(path)
    if metadata.get("kind") != CLASSIFIER_KIND:
        raise CheckpointError(
            f"{path}: not a classifier but a {metadata.get('kind', 'nameless')} checkpoint; "
            "train one from it: voco2d finetune STORE --labels CSV --init PATH --out RUN"
        )
    targets = {name: list(target.classes) for name, target in TARGETS.items()}
    if metadata.get("targets") != targets:
        raise CheckpointError(f"{path}: grades {metadata.get('targets')}, not {targets}; use the version that wrote it")
    try:
        classifier = Classifier(from_tree(ClassifierArgs, metadata["classifier"]))
        classifier.load_state_dict(state, strict=True)
    except (KeyError, RuntimeError, UsageError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{path}: doesn't fit its own description ({reason}); train it again") from error
    return classifier.eval(), metadata


def _num_features(backbone: nn.Module) -> int:
    features = backbone.num_features
    assert isinstance(features, int)
    return features
