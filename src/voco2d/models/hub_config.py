"""What timm must know to build a backbone again from a Hugging Face folder."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from voco2d.models.backbones import any_size
from voco2d.models.imagenet import weights_config


def describe_for_hub(model: nn.Module, name: str, in_chans: int, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the `config.json` with which timm builds `model` from its folder.

    Args:
        model: timm model without classifier.
        name: Its timm name.
        in_chans: C of its images.
        metadata: The checkpoint's description; where it has a window, images are 0…1 and not normalised.

    Returns:
        timm's keys, and the description under `voco2d`.
    """
    own = weights_config(name)
    size = training_size(metadata) or int(own.input_size[-1])
    mean, std = ((0.0,), (1.0,)) if window_hu(metadata) else (own.mean, own.std)
    if in_chans == 1 and len(mean) != 1:
        mean, std = (sum(mean) / len(mean),), (sum(std) / len(std),)
    elif len(mean) != in_chans:
        mean, std = (sum(mean) / len(mean),) * in_chans, (sum(std) / len(std),) * in_chans
    fixed = bool(own.fixed_input_size) and not any_size(name)
    return {
        "architecture": name.split(".")[0],
        "num_classes": 0,
        "num_features": int(model.num_features),  # type: ignore[arg-type]
        "model_args": {"in_chans": in_chans, **any_size(name)},
        "pretrained_cfg": {
            "tag": "voco2d",
            "custom_load": False,
            "num_classes": 0,
            "input_size": [in_chans, *(own.input_size[1:] if fixed else (size, size))],
            "fixed_input_size": fixed,
            "interpolation": own.interpolation,
            "crop_pct": 1.0,
            "crop_mode": "center",
            "mean": list(mean),
            "std": list(std),
            "pool_size": None,
            "first_conv": own.first_conv,
            "classifier": own.classifier,
        },
        "voco2d": dict(metadata),
    }


def image_size(name: str) -> int:
    """Return the side in pixels of the images that timm made model `name` for."""
    return int(weights_config(name).input_size[-1])


def window_hu(metadata: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return the HU mapped to 0 and 1, where a checkpoint says so."""
    window = metadata.get("window_hu") or _section(metadata, "readout").get("window")
    return (float(window[0]), float(window[1])) if isinstance(window, list | tuple) and len(window) == 2 else None


def training_size(metadata: Mapping[str, Any]) -> int | None:
    """Return the side in pixels of the crops a checkpoint was trained on, where it says so."""
    crop = _section(metadata, "readout").get("crop") or _section(metadata, "method").get("crop")
    return int(crop) if isinstance(crop, int) else None


def _section(metadata: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = metadata.get(key)
    return value if isinstance(value, Mapping) else {}
