"""Weights on disk: our own safetensors files, and the backbones inside other people's checkpoints."""

import json
import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from voco2d.errors import CheckpointError
from voco2d.models.backbones import check_name
from voco2d.models.state_names import extract, fits, image_channels, load_state

_KEY = "voco2d"
_GUESSES = ("efficientnet_b0", "efficientnetv2_rw_t", "efficientnetv2_rw_s")
"""Backbones of the paper, tried where neither the caller nor the file names one."""
_NESTS = ("state_dict", "model", "model_state_dict", "student", "net")
"""Keys under which other people's checkpoints keep their state dict."""

Metadata = dict[str, Any]
State = dict[str, Tensor]


def save_weights(path: Path, state: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write tensors and what must be known to use them as one safetensors file, atomically.

    Args:
        path: The file; its folder exists.
        state: Tensors by name.
        metadata: Anything JSON can hold.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}
    try:
        save_file(tensors, str(temporary), metadata={_KEY: json.dumps(dict(metadata))})
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_weights(path: Path) -> tuple[State, Metadata]:
    """Read a file that `save_weights` wrote.

    Raises:
        CheckpointError: It is missing, damaged or not ours.
    """
    tensors, header = _read_safetensors(path)
    if _KEY not in header:
        raise CheckpointError(f"{path}: not written by voco2d; name a run of `voco2d pretrain` or `voco2d finetune`")
    return tensors, _parse_metadata(header, path)


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

    Args:
        checkpoint: A run folder or file, as for `backbone_state`.
        backbone: timm name; by default what the checkpoint says, or the paper's backbone that fits.

    Raises:
        CheckpointError: As `backbone_state`.
    """
    state, metadata = backbone_state(checkpoint, backbone)
    name = metadata["backbone"]
    model: nn.Module = timm.create_model(name, in_chans=metadata["in_chans"], num_classes=0)
    load_state(model, state, name, str(checkpoint))
    return model.eval()


def backbone_state(checkpoint: Path | str, backbone: str | None = None) -> tuple[State, Metadata]:
    """Return a backbone's tensors under timm's names, whatever they are called in the checkpoint.

    Args:
        checkpoint: A run folder, our safetensors, other safetensors, or a `.pt`/`.pth` with a state dict, plain or
            under `state_dict`, `model` or `student`: the paper's code (`student.*`), lightly (`backbone.*`), timm.
        backbone: timm name; by default what the checkpoint says, or the paper's backbone that fits.

    Returns:
        The tensors, and metadata that has at least `backbone` and `in_chans`; `load_state` of
        `voco2d.models.state_names` puts the tensors into a model, also one of other channels.

    Raises:
        CheckpointError: Missing, damaged, or of another architecture (the keys that don't fit are listed).
    """
    path = Path(checkpoint)
    tensors, metadata = _read_any(newest_weights(path) if path.is_dir() else path)
    recorded = metadata.get("backbone")
    if backbone and recorded and _architecture(backbone) != _architecture(recorded):
        raise CheckpointError(f"{path}: holds a {recorded}, not a {backbone}; set backbone={recorded}")
    name = backbone or recorded or _guess(tensors, path)
    check_name(name)
    state = extract(tensors, name, str(path))
    return state, {**metadata, "backbone": name, "in_chans": image_channels(state, name)}


def _guess(tensors: Mapping[str, Tensor], path: Path) -> str:
    name = next((name for name in _GUESSES if fits(tensors, name)), None)
    if name is None:
        raise CheckpointError(f"{path}: doesn't say which architecture it holds; set backbone=NAME, a timm name")
    return name


def _architecture(name: str) -> str:
    """Drop the tag of the weights from a timm name."""
    return name.split(".")[0]


def _read_any(path: Path) -> tuple[State, Metadata]:
    if path.suffix == ".safetensors":
        tensors, header = _read_safetensors(path)
        return tensors, _parse_metadata(header, path) if _KEY in header else {}
    return _read_torch(path), {}


def _read_safetensors(path: Path) -> tuple[State, dict[str, str]]:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; give a run folder, *.safetensors, *.pt or *.pth")
    try:
        with safe_open(str(path), framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: damaged ({error}); use another checkpoint of the run") from error


def _parse_metadata(header: Mapping[str, str], path: Path) -> Metadata:
    try:
        metadata: Metadata = json.loads(header[_KEY])
    except json.JSONDecodeError as error:
        raise CheckpointError(f"{path}: its description is damaged; use another checkpoint of the run") from error
    return metadata


def _read_torch(path: Path) -> State:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; give a run folder, *.safetensors, *.pt or *.pth")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: no state dict of plain tensors; save it as torch.save(model.state_dict(), FILE)"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path}: not a checkpoint, or damaged ({type(error).__name__})") from error
    for nest in ("", *_NESTS):
        inner = content.get(nest) if nest and isinstance(content, Mapping) else content
        tensors = {k: v for k, v in inner.items() if isinstance(v, Tensor)} if isinstance(inner, Mapping) else {}
        if tensors:
            return tensors
    raise CheckpointError(f"{path}: holds no tensors; looked at its top and under {', '.join(_NESTS)}")
