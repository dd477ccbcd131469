"""Where timm's pretrained weights come from: this machine's cache, or one quick try of the network."""

from pathlib import Path
from typing import Any

import huggingface_hub
import timm
import torch
from huggingface_hub import constants
from huggingface_hub.utils import get_session  # type: ignore[attr-defined]

from voco2d.errors import CheckpointError

_PATIENCE_S = 5.0
"""Seconds a server has to answer before it counts as out of reach."""
_NAMES = ("model.safetensors", "pytorch_model.bin")
"""What timm looks for on the Hugging Face hub, in this order."""
_ADVICE = (
    "connect to it once, copy the cache of a machine that has them (HF_HOME) here, start from a local timm state dict "
    "(init FILE, a .safetensors or .pth), or at random (init random)"
)


def imagenet_source(name: str) -> dict[str, Any]:
    """Return the settings of `timm.create_model` that load model `name`'s pretrained weights without long waits.

    Left to itself, timm asks an unreachable hub twelve times, for close to a minute, even for weights in the cache.

    Raises:
        CheckpointError: timm has no weights for it, or they are neither here nor within reach.
    """
    config = weights_config(name)
    url, hub = config.url, config.hf_hub_id
    if not (url or hub):
        raise CheckpointError(f"{name}: timm has no pretrained weights for it; start from a file or at random")
    file = _cached(hub, config.hf_hub_filename) if hub else _downloaded(url)
    if file is not None:
        return {"pretrained_cfg_overlay": {"file": str(file)}}
    server = f"{constants.ENDPOINT}/{hub.partition('@')[0]}" if hub else url
    try:
        get_session().head(server, timeout=_PATIENCE_S)
    except Exception as error:  # httpx or requests or an offline switch: without a common class
        raise CheckpointError(
            f"{name}: ImageNet weights can't be had, {server} is out of reach ({type(error).__name__}); {_ADVICE}"
        ) from error
    return {}


def weights_config(name: str) -> Any:
    """Return what timm knows of model `name`'s weights: input size, normalisation, origin."""
    return timm.get_pretrained_cfg(name, allow_unregistered=True)


def _cached(hub: str, filename: str | None) -> Path | None:
    repository, _, revision = hub.partition("@")
    for name in (filename,) if filename else _NAMES:
        found = huggingface_hub.try_to_load_from_cache(repository, name, revision=revision or None)
        if isinstance(found, str):
            return Path(found)
    return None


def _downloaded(url: str) -> Path | None:
    file = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    return file if file.is_file() else None
