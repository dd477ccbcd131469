"""Which tensors of a state dict are a given timm backbone's, whatever prefix they carry."""

import logging
from collections import Counter
from collections.abc import Mapping

import timm
import torch
from timm.models import adapt_input_conv
from torch import Tensor, nn

from voco2d.errors import CheckpointError

_log = logging.getLogger(__name__)
_SHOWN = 4
"""Keys quoted in a message."""
_COUNTER = "num_batches_tracked"

State = dict[str, Tensor]


def extract(tensors: Mapping[str, Tensor], name: str, origin: str) -> State:
    """Return the tensors of timm model `name` under its own names.

    The prefix (`student.backbone.`, `module.`, none) is the one under which most of the model's names are found; among
    equals the student's goes before the teacher's. Heads beside the model are left out.

    Raises:
        CheckpointError: Tensors of the model are missing, of another shape, or unknown to it; they are listed.
    """
    expected = expected_state(name)
    prefix = _find_prefix(tensors, expected)
    if prefix is None:
        raise CheckpointError(f"{origin}: holds nothing of a {name}, but for example {_quote(sorted(tensors))}")
    classifier = _names(name, "classifier")
    parts = {key.split(".")[0] for key in expected}
    found = {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
    heads = {key for key in found if key.split(".")[0] not in parts or key.rpartition(".")[0] in classifier}
    if heads and prefix:
        _log.info("%s: left out %d tensors of heads: %s", origin, len(heads), _quote(sorted(heads)))
    state = {key: tensor for key, tensor in found.items() if key not in heads}
    _refuse_mismatch(state, expected, name, origin)
    counters = {key: torch.zeros((), dtype=torch.long) for key in expected if key.endswith(_COUNTER)}
    return {**counters, **state}


def load_state(backbone: nn.Module, state: Mapping[str, Tensor], name: str, origin: str) -> None:
    """Load what `extract` returned, strictly; a first convolution of other channels is adapted as timm does.

    Args:
        backbone: timm model `name`.
        state: Its tensors under timm's names; not changed.
        name: timm name of both.
        origin: Where the tensors come from, for messages.

    Raises:
        CheckpointError: The tensors don't fit; the keys are listed.
    """
    own = backbone.state_dict()
    fitted = dict(state)
    for key in _first_convolutions(name):
        if key in fitted and key in own and fitted[key].shape[1] != own[key].shape[1]:
            fitted[key] = adapt_input_conv(own[key].shape[1], fitted[key], base_chans=fitted[key].shape[1])
    _refuse_mismatch(fitted, own, name, origin)
    backbone.load_state_dict(fitted, strict=True)


def image_channels(state: Mapping[str, Tensor], name: str) -> int:
    """Return the channels of the images a backbone with these tensors takes."""
    return next((int(state[key].shape[1]) for key in _first_convolutions(name) if key in state), 1)


def fits(tensors: Mapping[str, Tensor], name: str) -> bool:
    """Tell whether the tensors hold a complete timm model `name`."""
    try:
        extract(tensors, name, "")
    except CheckpointError:
        return False
    return True


def expected_state(name: str) -> State:
    """Return timm model `name`'s tensors for one channel, without memory behind them."""
    with torch.device("meta"):
        model: nn.Module = timm.create_model(name, in_chans=1, num_classes=0)
    return dict(model.state_dict())


def _find_prefix(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str | None:
    counts: Counter[str] = Counter()
    for key in tensors:
        parts = key.split(".")
        counts.update(
            ".".join((*parts[:cut], "")) if cut else ""
            for cut in range(len(parts))
            if ".".join(parts[cut:]) in expected
        )
    if not counts:
        return None
    return max(counts, key=lambda prefix: (counts[prefix], "student" in prefix, "teacher" not in prefix, -len(prefix)))


def _refuse_mismatch(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], name: str, origin: str) -> None:
    firsts = _first_convolutions(name)
    missing = [key for key in expected if key not in state and not key.endswith(_COUNTER)]
    unexpected = [key for key in state if key not in expected]
    reshaped = [
        f"{key} {tuple(state[key].shape)} not {tuple(tensor.shape)}"
        for key, tensor in expected.items()
        if key in state and _comparable(state[key], key in firsts) != _comparable(tensor, key in firsts)
    ]
    kinds = {"missing": missing, "unexpected": unexpected, "of another shape": reshaped}
    told = [f"{len(keys)} {kind} ({_quote(keys)})" for kind, keys in kinds.items() if keys]
    if told:
        raise CheckpointError(
            f"{origin}: its tensors are not those of a {name}: {'; '.join(told)}; set backbone=NAME to its architecture"
        )


def _comparable(tensor: Tensor, is_first: bool) -> tuple[int, ...]:
    """Return the shape, without the channels where they can be adapted."""
    return (tensor.shape[0], *tensor.shape[2:]) if is_first else tuple(tensor.shape)


def _first_convolutions(name: str) -> tuple[str, ...]:
    return tuple(f"{layer}.weight" for layer in _names(name, "first_conv"))


def _names(name: str, entry: str) -> tuple[str, ...]:
    """Return the layer names timm's weights configuration has under `entry`."""
    config = timm.get_pretrained_cfg(name, allow_unregistered=True)
    value = getattr(config, entry, None)
    return () if value is None else (value,) if isinstance(value, str) else tuple(value)


def _quote(keys: list[str]) -> str:
    shown = ", ".join(keys[:_SHOWN])
    return f"{shown}, …" if len(keys) > _SHOWN else shown
