"""Where and in which precision a training runs."""

import atexit
import os
from collections.abc import Mapping
from typing import Literal

import torch
from lightning_fabric import Fabric

from voco2d.errors import ConfigError
from voco2d.training.processes import leave

PRECISIONS: Mapping[str, Literal["32-true", "bf16-mixed", "16-mixed"]] = {
    "fp32": "32-true",
    "bf16": "bf16-mixed",
    "fp16": "16-mixed",
}
"""Our names and lightning-fabric's; the last two compute in the short type and keep parameters in float32."""


def launch(device: str, precision: str, seed: int, devices: int = 1, nodes: int = 1) -> Fabric:
    """Start lightning-fabric and seed torch.

    Several processes are started by this one where `devices` says so; under `torchrun` or SLURM they are there
    already, and those programs say how many.

    Args:
        device: `auto` (a GPU where there is one), `cpu`, `cuda` or `cuda:N`.
        precision: `fp32`, `bf16` or `fp16`.
        seed: Seed of torch's global generators, which initialise layers and drop features.
        devices: GPUs, or processes on the CPU, on each machine.
        nodes: Machines.

    Raises:
        ConfigError: The device or precision is unknown, or the devices are not there.
    """
    if precision not in PRECISIONS:
        raise ConfigError(f"precision={precision} is not known; choose {', '.join(PRECISIONS)}")
    accelerator, index = _choose(device)
    if precision == "fp16" and accelerator == "cpu":
        raise ConfigError("precision=fp16 needs a GPU; choose precision=fp32 or bf16 on the CPU")
    each, machines = _started_elsewhere() or (devices, nodes)
    if accelerator == "cuda" and each > torch.cuda.device_count():
        raise ConfigError(f"devices={each}: torch sees {torch.cuda.device_count()} GPUs here")
    alone = each * machines == 1
    fabric = Fabric(
        accelerator=accelerator,
        devices=[index] if alone and index is not None else each,
        num_nodes=machines,
        strategy="auto" if alone else "ddp",
        precision=PRECISIONS[precision],
    )
    fabric.launch()
    if not alone:
        atexit.register(leave)
    torch.manual_seed(seed)
    return fabric


def _started_elsewhere() -> tuple[int, int] | None:
    """Return processes a machine and machines where torchrun or SLURM has started this process."""
    if "LOCAL_WORLD_SIZE" in os.environ and "WORLD_SIZE" in os.environ:
        each = int(os.environ["LOCAL_WORLD_SIZE"])
        return each, int(os.environ["WORLD_SIZE"]) // each
    if "SLURM_PROCID" in os.environ and int(os.environ.get("SLURM_NTASKS", "1")) > 1:
        machines = int(os.environ.get("SLURM_NNODES", "1"))
        return int(os.environ["SLURM_NTASKS"]) // machines, machines
    return None


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
