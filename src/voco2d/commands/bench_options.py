"""What `voco2d bench` takes; imports nothing heavy, so that `--help` answers at once."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from voco2d.commands.option_types import count

METHODS = ("2d_b0", "2d_v2t", "2d_v2s", "3d_swin_b")
"""What `bench cost` can measure."""
_PRETRAIN = (
    ("batch-size", 4, "volumes a step"),
    ("slices", 32, "slices a crop"),
    ("steps", 3, "timed steps"),
    ("warm-up", 1, "steps before them that aren't timed; the first may compile"),
    ("rounds", 1, "how often each side is started anew"),
    ("threads", 0, "threads; 0 takes one a core"),
    ("chunk", 0, "crops that our side encodes at a time; 0 takes all at once"),
)
_COST = (
    ("batch-size", 1, "volumes a step"),
    ("steps", 3, "timed steps of 2D-VoCo"),
    ("warm-up", 1, "steps before them that aren't timed; the first may compile"),
    ("steps-3d", 1, "timed steps of 3D VoCo, minutes each, without warm-up"),
    ("rounds", 1, "how often each method is started anew"),
    ("threads", 0, "threads; 0 takes one a core"),
    ("chunk", 0, "crops that are encoded at a time; 0 takes all at once"),
)


def bench(parser: argparse.ArgumentParser) -> None:
    """Add both benches with the options that apply to each."""
    benches = parser.add_subparsers(dest="what", required=True, metavar="pretrain|cost")
    summary = "a pretraining step of paper-v2, alone or beside the paper's code"
    pretrain = benches.add_parser("pretrain", help=summary, description=summary, allow_abbrev=False)
    pretrain.add_argument(
        "--reference", type=Path, metavar="PATH", help="checkout of the paper's code, timed beside ours"
    )
    pretrain.add_argument("--backbone", default="efficientnet_b0", metavar="NAME", help="default %(default)s")
    pretrain.add_argument(
        "--device",
        choices=("cpu", "cuda"),
        default="cpu",
        help="default %(default)s, in fp32; on a GPU ours computes in bf16 and the paper's code in fp16",
    )
    _add_counts(pretrain, _PRETRAIN)
    summary = "a step of 2D-VoCo with three backbones and of 3D VoCo on the same volumes: time, operations, memory"
    cost = benches.add_parser("cost", help=summary, description=summary, allow_abbrev=False)
    cost.add_argument(
        "--methods",
        nargs="+",
        choices=METHODS,
        default=list(METHODS),
        metavar="NAME",
        help=f"of {', '.join(METHODS)} (default: all); ratios are over the first",
    )
    cost.add_argument("--figure", type=Path, metavar="PNG", help="draw the result")
    cost.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default %(default)s")
    _add_counts(cost, _COST)
    cost.add_argument(
        "--no-checkpointing",
        dest="checkpointing",
        action="store_false",
        help="let 3D VoCo keep its activations, which takes several times the memory",
    )
    cost.add_argument("--quick", action="store_true", help="tiny crops: tries the command, the numbers say nothing")
    for command in (pretrain, cost):
        command.add_argument("--json", type=Path, metavar="FILE", help="write the result for machines")
        command.add_argument("--plain", dest="fast_cpu", action="store_false", help="without the fused loops for CPUs")
        command.add_argument(
            "-v", "--verbose", action="store_true", default=argparse.SUPPRESS, help="tell more, and show tracebacks"
        )
        command.set_defaults(parser=command)  # so that wrong use shows the usage of the bench


def _add_counts(parser: argparse.ArgumentParser, options: Sequence[tuple[str, int, str]]) -> None:
    for name, value, what in options:
        parser.add_argument(f"--{name}", type=count, default=value, metavar="N", help=f"{what} (default %(default)s)")
