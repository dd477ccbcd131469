"""Which setting of a pretraining run lowers its memory, and to what; each is told only where it can help."""

from voco2d.methods.voco_args import VoCoArgs
from voco2d.training.pretrain_args import PretrainArgs

_GO_ON = "and go on with --resume"
_ANEW = "in a new run"
_STAYS_ON_DISK = "residency=disk"


def for_step(args: PretrainArgs, units: int, resident: bool) -> str:
    """Return the way out of a step that takes too much.

    Args:
        args: Settings.
        units: Crops or views that this process has in a step.
        resident: Whether a copy of the volumes lies on the device.
    """
    encoded = min(args.chunk or units, units)
    lower = [f"chunk={encoded // 2}"] if encoded > 1 else []
    lower += [_STAYS_ON_DISK] if resident else []
    return f"set {', or '.join(lower)}, {_GO_ON}" if lower else _smaller_unit(args)


def for_batch(args: PretrainArgs, resident: bool, processes: int = 1) -> str:
    """Return the way out of a batch that takes too much before anything is encoded.

    Args:
        args: Settings.
        resident: Whether a copy of the volumes lies on the device.
        processes: How many share a batch.
    """
    if resident:
        return f"set {_STAYS_ON_DISK}, {_GO_ON}"
    compared = isinstance(args.method, VoCoArgs) and args.method.loss == "v2"
    half = args.batch_size // 2 // processes * processes
    if half >= (2 if compared else 1):
        return f"set batch_size={half} {_ANEW}"
    if args.method.slices > 1:
        return f"set method.slices={args.method.slices // 2} {_ANEW}"
    return f"prepare volumes of a smaller size, and pretrain on them {_ANEW}"


def for_probe(args: PretrainArgs) -> str:
    """Return the way out of a probe that takes too much."""
    for key, least in (("slices", 2), ("crop", 64), ("patients", 2 * args.probe.folds)):
        value = getattr(args.probe, key)
        if value >= 2 * least or (key == "slices" and value > 1):
            return f"set probe.{key}={value // 2}, {_GO_ON}"
    return f"leave probe.labels out, {_GO_ON}"


def for_networks(args: PretrainArgs) -> str:
    """Return the way out where networks, optimizer or a checkpoint take too much."""
    hidden = getattr(args.method, "hidden", 1)
    return f"set method.hidden={hidden // 2} or a smaller backbone {_ANEW}" if hidden > 1 else _smaller_unit(args)


def _smaller_unit(args: PretrainArgs) -> str:
    """Return the way out where units are encoded one at a time already."""
    if isinstance(args.method, VoCoArgs) and args.method.slices > 1:
        return f"set method.slices={args.method.slices // 2} {_ANEW}"
    return f"set a smaller backbone {_ANEW}"
