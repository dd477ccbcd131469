"""The injury classifier: a 2D backbone a slice, an aggregator over the slices, one head a target."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from voco2d.config import from_tree
from voco2d.errors import CheckpointError, ConfigError, UsageError
from voco2d.models.aggregators import AggregatorArgs, build_aggregator
from voco2d.models.backbones import build_backbone
from voco2d.models.checkpoint import Metadata, read_weights
from voco2d.models.feature_distance import PREFIX, FeatureDistance
from voco2d.models.ordinal_head import OrdinalHead
from voco2d.models.pooling import POOLINGS, check_pooling
from voco2d.target_block import told_targets
from voco2d.targets import RSNA_2023, Target, TargetSet

CLASSIFIER_KIND = "classifier"
"""What the metadata of a classifier's weights have as their `kind`."""
CLASS_SHARES = "class_shares"
"""In the metadata of a classifier's weights: column → its share among the patients it was trained on."""
SLICE_LOGITS = "slices"
"""Under this name `Classifier.forward` gives the logits of `ClassifierArgs.slice_targets`, where there are any."""


@dataclass(frozen=True)
class ClassifierArgs:
    """Architecture of `Classifier`; travels in its checkpoints.

    Args:
        backbone: timm name.
        in_chans: C, channels of a slice.
        aggregator: How slices become one vector, a name of `AGGREGATORS`.
        hidden: Width of the aggregator, see `AggregatorArgs`.
        dropout: Share of the volume's features dropped before the heads, 0…1.
        pooling: How the feature map of a slice becomes a vector, a name of `POOLINGS`.
        bidirectional: Whether a recurrent aggregator goes along the slices both ways.
        layers: Layers of the aggregator.
        slice_targets: What is graded a slice besides, by name.
    """

    backbone: str = "efficientnet_b0"
    in_chans: int = 1
    aggregator: str = "lstm"
    hidden: int = 128
    dropout: float = 0.2
    pooling: str = "avg"
    bidirectional: bool = True
    layers: int = 1
    slice_targets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse values no network can have."""
        if min(self.hidden, self.in_chans, self.layers) < 1:
            told = f"hidden={self.hidden}, in_chans={self.in_chans}, layers={self.layers}"
            raise ConfigError(f"{told}: each must be at least 1")
        check_pooling(self.pooling)
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout={self.dropout}: must lie in 0…1, 1 excluded")


class Classifier(nn.Module):
    """Grades every target from the slices of a volume.

    Its backbone is laid out channels-last, which nearly halves the time of a step on CPUs.

    Args:
        args: Architecture.
        imagenet: Whether the backbone starts from timm's pretrained weights.
        targets: What is graded; binary and multiclass targets have a linear head, ordinal ones an `OrdinalHead`.
    """

    def __init__(self, args: ClassifierArgs, imagenet: bool = False, targets: TargetSet = RSNA_2023) -> None:
        super().__init__()
        self.args = args
        self.targets = targets
        backbone = build_backbone(args.backbone, in_chans=args.in_chans, imagenet=imagenet)
        self.backbone = backbone.to(memory_format=torch.channels_last)
        self.pooling = POOLINGS[args.pooling]()
        settings = AggregatorArgs(args.hidden, args.bidirectional, args.layers)
        self.aggregator = build_aggregator(args.aggregator, self.pooling.copies * _num_features(backbone), settings)
        self.dropout = nn.Dropout(args.dropout)
        width = self.aggregator.num_features
        self.heads = nn.ModuleDict({_key(name): _build_head(target, width) for name, target in targets.items()})
        if args.slice_targets:
            self.slice_head = nn.Linear(self.aggregator.num_features, len(args.slice_targets))

    def forward(self, volumes: Float[Tensor, "B S C H W"]) -> dict[str, Float[Tensor, "B ..."]]:
        """Grade volumes.

        Args:
            volumes: (B, S, C, H, W) windowed slices from superior to inferior, 0…1.

        Returns:
            Target name → logits (B, number of its classes); with `slice_targets` also `SLICE_LOGITS` → (B, S, their
            number).
        """
        return self.grade_features(self.slice_features(volumes))

    def grade_features(self, vectors: Float[Tensor, "B S D"]) -> dict[str, Float[Tensor, "B ..."]]:
        """Return what `forward` does, from what `slice_features` gave."""
        states = self.aggregator.states(vectors)
        features = self.dropout(self.aggregator.reduce(states))
        logits = {name: self.head(name)(features) for name in self.targets}
        if self.args.slice_targets:
            logits[SLICE_LOGITS] = self.slice_head(states)
        return logits

    def head(self, target: str) -> nn.Module:
        """Return the head of a target."""
        return self.heads[_key(target)]

    def slice_features(self, volumes: Float[Tensor, "B S C H W"]) -> Float[Tensor, "B S D"]:
        """Return (B, S, D): the backbone's map of each slice, pooled in-plane; the argument is that of `forward`."""
        slices = rearrange(volumes, "b s c h w -> (b s) c h w").to(memory_format=torch.channels_last)
        maps: Tensor = self.backbone(slices)  # (B·S, D, h, w)
        vectors: Tensor = self.pooling(maps)
        return rearrange(vectors, "(b s) d -> b s d", b=volumes.shape[0])


def class_probabilities(
    logits: Mapping[str, Float[Tensor, "B ..."]], targets: TargetSet = RSNA_2023
) -> Float[Tensor, "B classes"]:
    """Return (B, classes) from `logits`, in the order of the columns of `targets`; each target's classes sum to 1."""
    columns = torch.cat([logits[name].double().softmax(dim=1) for name in targets], dim=1)
    assert columns.shape[1] == len(targets.columns)
    return columns


def load_classifier(path: Path) -> tuple[Classifier, Metadata]:
    """Build the classifier whose weights `path` holds, ready for evaluation.

    Args:
        path: A fold's weights, written by `voco2d finetune`.

    Returns:
        The classifier on the CPU, and the file's metadata.

    Raises:
        CheckpointError: The file is missing or damaged, holds something else, or tells no known targets.
    """
    classifier, metadata, _ = load_graded(path)
    return classifier, metadata


def load_graded(path: Path) -> tuple[Classifier, Metadata, FeatureDistance | None]:
    """Return what `load_classifier` does, and what was fitted on its training volumes, None where nothing was."""
    state, metadata = read_weights(path)
    if metadata.get("kind") != CLASSIFIER_KIND:
        raise CheckpointError(
            f"{path}: not a classifier but a {metadata.get('kind', 'nameless')} checkpoint; "
            "train one from it: voco2d finetune STORE --labels CSV --init PATH --out RUN"
        )
    try:
        targets = told_targets(metadata.get("targets"))
    except ConfigError as error:
        told = f"{path}: grades {metadata.get('targets')}, which this version doesn't know"
        raise CheckpointError(f"{told} ({error}); use the version that wrote it") from error
    network = {name: tensor for name, tensor in state.items() if not name.startswith(PREFIX)}
    try:
        classifier = Classifier(from_tree(ClassifierArgs, metadata["classifier"]), targets=targets)
        classifier.load_state_dict(network, strict=True)
        beside = {name: tensor.numpy() for name, tensor in state.items() if name not in network}
        distance = FeatureDistance.from_arrays(beside)
    except (KeyError, RuntimeError, ValueError, UsageError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{path}: doesn't fit its own description ({reason}); train it again") from error
    return classifier.eval(), metadata, distance


def _key(target: str) -> str:
    """Name a head; some names, such as type, are attributes of every module."""
    return f"{target}-" if hasattr(nn.ModuleDict, target) else target


def _build_head(target: Target, features: int) -> nn.Module:
    classes = len(target.classes)
    return OrdinalHead(features, classes) if target.kind == "ordinal" else nn.Linear(features, classes)


def _num_features(backbone: nn.Module) -> int:
    features = backbone.num_features
    assert isinstance(features, int)
    return features
