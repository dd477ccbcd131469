"""Weights on disk: our own safetensors files, and the backbones inside other people's checkpoints."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
from safetensors.torch import save_file
from torch import Tensor, nn

from voco2d.durable import write_durably
from voco2d.errors import CheckpointError
from voco2d.models.backbones import any_size, check_name
from voco2d.models.state_files import (
    DIGEST_KEY,
    METADATA_KEY,
    State,
    digest,
    parse_metadata,
    read_safetensors,
    read_state,
)
from voco2d.models.state_files import Metadata as Metadata
from voco2d.models.state_names import Match, complete, fits, image_channels, load_state, match

_GUESSES = ("efficientnet_b0", "efficientnetv2_rw_t", "efficientnetv2_rw_s")
"""Backbones of the paper, tried where neither the caller nor the file names one."""
_HUB_CONFIG = "config.json"
"""What timm's folders keep the architecture in."""


def save_weights(path: Path, state: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write tensors and what must be known to use them as one safetensors file, which is there whole or not at all.

    Its header has a digest of all of it, by which a reader finds later damage.

    Args:
        path: The file; its folder exists.
        state: Tensors by name.
        metadata: Anything JSON can hold.
    """
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}
    described = json.dumps(dict(metadata))
    header = {"format": "pt", METADATA_KEY: described, DIGEST_KEY: digest(tensors, described)}
    write_durably(path, lambda file: save_file(tensors, str(file), metadata=header))


def read_weights(path: Path) -> tuple[State, Metadata]:
    """Read a file that `save_weights` wrote.

    Raises:
        CheckpointError: It is missing, damaged or not ours.
    """
    tensors, header = read_safetensors(path)
    if METADATA_KEY not in header:
        raise CheckpointError(f"{path}: not written by voco2d; name a run of `voco2d pretrain` or `voco2d finetune`")
    return tensors, parse_metadata(header, path)


def newest_weights(run: Path) -> Path:
    """Return the last `*.safetensors` of a run folder, by name.

    Raises:
        CheckpointError: There is none.
    """
    found = sorted(file for file in run.glob("*.safetensors") if not file.name.startswith("."))
    if not found:
        raise CheckpointError(f"{run}: holds no *.safetensors; name a run folder that has saved a checkpoint")
    return found[-1]


def load_backbone(checkpoint: Path | str, backbone: str | None = None) -> nn.Module:
    """Build the timm model a checkpoint holds: (N, C, H, W) → pooled features (N, F), ready for evaluation.

    Vision transformers and Swin models take images of any size their patches divide.

    Args:
        checkpoint: A run folder or file, as for `backbone_state`.
        backbone: timm name; by default what the checkpoint says, or the paper's backbone that fits.

    Raises:
        CheckpointError: As `backbone_state`.
    """
    state, metadata = backbone_state(checkpoint, backbone)
    return build_loaded(state, metadata["backbone"], metadata["in_chans"], str(checkpoint))


def build_loaded(state: Mapping[str, Tensor], name: str, in_chans: int, origin: str) -> nn.Module:
    """Build timm model `name` of `in_chans` channels with the tensors of `backbone_state`, ready for evaluation.

    Raises:
        CheckpointError: The tensors don't fit; `origin` is what the message calls their file.
    """
    model: nn.Module = timm.create_model(name, in_chans=in_chans, num_classes=0, **any_size(name))
    load_state(model, state, name, origin)
    return model.eval()


def backbone_state(checkpoint: Path | str, backbone: str | None = None) -> tuple[State, Metadata]:
    """Return a backbone's tensors under timm's names, whatever they are called in the checkpoint.

    Args:
        checkpoint: A run folder, a folder of the Hugging Face hub, our safetensors, other safetensors, or what
            `torch.save` wrote with a state dict, plain or under `state_dict`, `model` or `student`: the paper's code
            (`student.*`), lightly (`backbone.*`), timm.
        backbone: timm name; by default what the checkpoint says, or the paper's backbone that fits.

    Returns:
        The tensors, and metadata that has at least `backbone` and `in_chans`; `load_state` of
        `voco2d.models.state_names` puts the tensors into a model, also one of other channels.

    Raises:
        CheckpointError: Missing, damaged, or of another architecture (the keys that don't fit are listed).
    """
    matched, metadata = match_backbone(checkpoint, backbone)
    matched.refuse(str(checkpoint))
    return complete(matched), metadata


def match_backbone(checkpoint: Path | str, backbone: str | None = None) -> tuple[Match, Metadata]:
    """Compare a checkpoint with the timm model it should hold; `backbone_state` without its last step.

    Raises:
        CheckpointError: Missing, damaged, or it can't be told which architecture it holds.
    """
    path = Path(checkpoint)
    file = newest_weights(path) if path.is_dir() else path
    tensors, metadata = read_state(file)
    recorded = metadata.get("backbone") or _hub_architecture(file.parent)
    if recorded is not None and not isinstance(recorded, str):
        raise CheckpointError(f"{path}: its description is damaged; use another checkpoint of the run")
    if backbone and recorded and _architecture(backbone) != _architecture(recorded):
        raise CheckpointError(f"{path}: holds a {recorded}, not a {backbone}; set backbone={recorded}")
    name = backbone or recorded or _guess(tensors, path)
    check_name(name)
    matched = match(tensors, name)
    return matched, {**metadata, "backbone": name, "in_chans": image_channels(matched.state, name)}


def _guess(tensors: Mapping[str, Tensor], path: Path) -> str:
    name = next((name for name in _GUESSES if fits(tensors, name)), None)
    if name is None:
        raise CheckpointError(f"{path}: doesn't say which architecture it holds; set backbone=NAME, a timm name")
    return name


def _hub_architecture(folder: Path) -> str | None:
    """Return the architecture that the `config.json` beside a file names, if there is one."""
    try:
        config = json.loads((folder / _HUB_CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    name = config.get("architecture") if isinstance(config, dict) else None
    return name if isinstance(name, str) and timm.is_model(name) else None


def _architecture(name: str) -> str:
    """Drop the tag of the weights from a timm name."""
    return name.split(".")[0]
