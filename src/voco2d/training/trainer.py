"""Where and in which precision a training runs."""

from collections.abc import Mapping
from typing import Literal

import torch
from lightning_fabric import Fabric

from voco2d.errors import ConfigError

PRECISIONS: Mapping[str, Literal["32-true", "bf16-mixed", "16-mixed"]] = {
    "fp32": "32-true",
    "bf16": "bf16-mixed",
    "fp16": "16-mixed",
}
"""Our names and lightning-fabric's; the last two compute in the short type and keep parameters in float32."""


def launch(device: str, precision: str, seed: int) -> Fabric:
    """Start lightning-fabric on one device and seed torch.

    Args:
        device: `auto` (a GPU where there is one), `cpu`, `cuda` or `cuda:N`.
        precision: `fp32`, `bf16` or `fp16`.
        seed: Seed of torch's global generators, which initialise layers and drop features.

    Raises:
        ConfigError: The device or precision is unknown, or the device is not there.
    """
    if precision not in PRECISIONS:
        raise ConfigError(f"precision={precision} is not known; choose {', '.join(PRECISIONS)}")
    accelerator, index = _choose(device)
    if precision == "fp16" and accelerator == "cpu":
        raise ConfigError("precision=fp16 needs a GPU; choose precision=fp32 or bf16 on the CPU")
    fabric = Fabric(
        accelerator=accelerator, devices=1 if index is None else [index], num_nodes=1, precision=PRECISIONS[precision]
    )
    fabric.launch()
    torch.manual_seed(seed)
    return fabric


def _choose(device: str) -> tuple[str, int | None]:
    """Return lightning-fabric's accelerator name and the GPU's index, None for the CPU."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    name, _, number = device.partition(":")
    if device == "cpu" or (device == "auto" and gpus == 0):
        return "cpu", None
    if device not in ("auto", "cuda") and not (name == "cuda" and number.isdecimal()):
        raise ConfigError(f"device={device} is not known; choose auto, cpu, cuda or cuda:N")
    index = int(number or 0)
    if index >= gpus:
        raise ConfigError(f"device={device}: torch sees {gpus} GPUs here; choose device=cpu or auto")
    return "cuda", index
