"""Which tensors of a state dict are a given timm backbone's, whatever prefix they carry."""

from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

import timm
import torch
from timm.models import adapt_input_conv
from torch import Tensor, nn

from voco2d.errors import CheckpointError

_SHOWN = 4
"""Keys quoted in a message."""
_COUNTER = "num_batches_tracked"
_HEADS = ("head", "fc", "classif", "logits", "proj", "predict", "proto", "queue", "aux", "mask_token", "global_pool")
"""Words in the names of parts that only training needs; anything else beside a backbone's own parts is unexpected."""

State = dict[str, Tensor]


@dataclass(frozen=True)
class Match:
    """How the tensors of a file compare with those of a timm model.

    Args:
        name: timm name of the model.
        prefix: What the model's tensors are called by in the file before timm's own names; None where none is found.
        state: The tensors under timm's names, as they are in the file.
        missing: Names of the model without a tensor; batch counters may lack.
        unexpected: Tensors inside the model that it doesn't know.
        reshaped: Tensors of another shape or kind of number, with both.
        left_out: Other tensors of the file: heads, projectors, a teacher; under the file's names.
    """

    name: str
    prefix: str | None
    state: State
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    reshaped: tuple[str, ...]
    left_out: tuple[str, ...]

    @property
    def is_complete(self) -> bool:
        """Whether every tensor of the model is there and nothing strange is inside it."""
        return not (self.missing or self.unexpected or self.reshaped)

    def refuse(self, origin: str) -> None:
        """Raise CheckpointError where it isn't complete; `origin` is what the message calls the file."""
        if self.prefix is None:
            raise CheckpointError(
                f"{origin}: holds nothing of a {self.name}, but for example {_quote(sorted(self.left_out))}"
            )
        kinds = {"missing": self.missing, "unexpected": self.unexpected, "of another shape": self.reshaped}
        told = [f"{len(keys)} {kind} ({_quote(keys)})" for kind, keys in kinds.items() if keys]
        if told:
            raise CheckpointError(
                f"{origin}: its tensors are not those of a {self.name}: {'; '.join(told)}; "
                "set backbone=NAME to its architecture"
            )


def match(tensors: Mapping[str, Tensor], name: str) -> Match:
    """Compare tensors with timm model `name`.

    The prefix (`student.backbone.`, `module.`, none) is the one under which most of the model's names are found; among
    equals the student's goes before the teacher's. Where a file counts the model's parts (`backbone.4.0.conv1.weight`,
    as a Sequential of the model's children is saved, lightly's examples for one), the parts' names take their place.
    """
    expected, parts = _describe(name)
    counted = {_counted(key, parts): key for key in expected}
    prefix, count = _find_prefix(tensors, expected)
    counted_prefix, counted_count = _find_prefix(tensors, counted)
    if counted_count > max(count, len(expected) // 2):  # fewer are chance: "6.weight" is in many files
        names, prefix = counted, counted_prefix
    else:
        names = {key: key for key in expected}
    if prefix is None:
        return Match(name, None, {}, tuple(expected), (), (), tuple(tensors))
    found = {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
    roots = {key.split(".")[0] for key in names}
    classifier = set(_names(name, "classifier"))
    heads = {
        key for key in found if key not in names and (_is_head(key, roots) or key.rpartition(".")[0] in classifier)
    }
    state = {names.get(key, key): tensor for key, tensor in found.items() if key not in heads}
    firsts = _first_convolutions(name)
    return Match(
        name,
        prefix,
        {key: tensor for key, tensor in state.items() if key in expected},
        tuple(key for key in expected if key not in state and not key.endswith(_COUNTER)),
        tuple(key for key in state if key not in expected),
        tuple(_differences(state, expected, firsts)),
        tuple(key for key in tensors if not key.startswith(prefix) or key.removeprefix(prefix) in heads),
    )


def complete(matched: Match) -> State:
    """Return a match's tensors, with batch counters at 0 where the file has none, as older files do."""
    counters = {
        key: torch.zeros((), dtype=torch.long) for key in expected_state(matched.name) if key.endswith(_COUNTER)
    }
    return {**counters, **matched.state}


def load_state(backbone: nn.Module, state: Mapping[str, Tensor], name: str, origin: str) -> None:
    """Load what `complete` returned, strictly; a first convolution of other channels is adapted as timm does.

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
    firsts = _first_convolutions(name)
    for key in firsts:
        if key in fitted and key in own and fitted[key].shape[1] != own[key].shape[1]:
            fitted[key] = adapt_input_conv(own[key].shape[1], fitted[key], base_chans=fitted[key].shape[1])
    missing = tuple(key for key in own if key not in fitted and not key.endswith(_COUNTER))
    unexpected = tuple(key for key in fitted if key not in own)
    Match(name, "", fitted, missing, unexpected, tuple(_differences(fitted, own, firsts)), ()).refuse(origin)
    backbone.load_state_dict(fitted, strict=True)


def image_channels(state: Mapping[str, Tensor], name: str) -> int:
    """Return the channels of the images a backbone with these tensors takes."""
    return next((int(state[key].shape[1]) for key in _first_convolutions(name) if key in state), 1)


def fits(tensors: Mapping[str, Tensor], name: str) -> bool:
    """Tell whether the tensors hold a complete timm model `name`."""
    matched = match(tensors, name)
    return matched.prefix is not None and matched.is_complete


def expected_state(name: str) -> State:
    """Return timm model `name`'s tensors for one channel, without memory behind them."""
    return _describe(name)[0]


def _describe(name: str) -> tuple[State, list[str]]:
    """Return timm model `name`'s tensors for one channel, without memory behind them, and its parts in order."""
    with torch.device("meta"):
        model: nn.Module = timm.create_model(name, in_chans=1, num_classes=0)
    return dict(model.state_dict()), [part for part, _ in model.named_children()]


def _counted(key: str, parts: list[str]) -> str:
    """Put the number of a model's part in the place of its name."""
    part, dot, rest = key.partition(".")
    return f"{parts.index(part)}.{rest}" if dot else key


def _find_prefix(tensors: Mapping[str, Tensor], names: Container[str]) -> tuple[str | None, int]:
    """Return the prefix under which most of `names` are found, and how many."""
    counts: Counter[str] = Counter()
    for key in tensors:
        parts = key.split(".")
        counts.update(
            ".".join((*parts[:cut], "")) if cut else "" for cut in range(len(parts)) if ".".join(parts[cut:]) in names
        )
    if not counts:
        return None, 0
    best = max(counts, key=lambda prefix: (counts[prefix], "student" in prefix, "teacher" not in prefix, -len(prefix)))
    return best, counts[best]


def _is_head(key: str, roots: Container[str]) -> bool:
    """Tell whether a tensor beside the model's own parts belongs to something only training needs."""
    root = key.split(".")[0]
    return root not in roots and "norm" not in root and any(word in root for word in _HEADS)


def _differences(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], firsts: tuple[str, ...]) -> list[str]:
    """Describe tensors whose shape or kind of number isn't the model's."""
    told = []
    for key, tensor in expected.items():
        if key not in state:
            continue
        if _comparable(state[key], key in firsts) != _comparable(tensor, key in firsts):
            told.append(f"{key} {tuple(state[key].shape)} not {tuple(tensor.shape)}")
        elif state[key].is_floating_point() != tensor.is_floating_point():
            told.append(f"{key} {state[key].dtype} not {tensor.dtype}")
    return told


def _comparable(tensor: Tensor, is_first: bool) -> tuple[int, ...]:
    """Return the shape, without the channels where they can be adapted."""
    return (tensor.shape[0], *tensor.shape[2:]) if is_first and tensor.ndim else tuple(tensor.shape)


def _first_convolutions(name: str) -> tuple[str, ...]:
    return tuple(f"{layer}.weight" for layer in _names(name, "first_conv"))


def _names(name: str, entry: str) -> tuple[str, ...]:
    """Return the layer names timm's weights configuration has under `entry`."""
    config = timm.get_pretrained_cfg(name, allow_unregistered=True)
    value = getattr(config, entry, None)
    return () if value is None else (value,) if isinstance(value, str) else tuple(value)


def _quote(keys: Sequence[str]) -> str:
    shown = ", ".join(keys[:_SHOWN])
    return f"{shown}, …" if len(keys) > _SHOWN else shown
