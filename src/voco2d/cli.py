"""The command line: what each command takes; the work itself lies in `commands/` and is imported only when called."""

import argparse
import logging
import os
import re
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from itertools import pairwise

from voco2d.commands import bench_options, data_options, result_options, service_options, training_options
from voco2d.errors import OtherProcessError, Voco2dError
from voco2d.logs import start_logging, wordless
from voco2d.version import VERSION

_OVERRIDE = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*=")
_CONFIGURABLE = ("phantom", "prepare", "pretrain", "finetune", "study")
"""Commands that take `key=value` words after their options."""
_BROKEN_PIPE = 141
"""What a shell says of a program that SIGPIPE ended."""
_FLAGS = ("--resume", "--enriched", "--ablation", "--quick", "--slurm-array", "--verbose")
"""Options without a value."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: The words after `voco2d`; by default those of the process.

    Returns:
        0 done, 1 failed, 2 wrong use.
    """
    # torch's threads wait by spinning unless told otherwise: beside another busy process that is 25 times slower
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    words = list(sys.argv[1:] if argv is None else argv)
    parser = build_parser()
    overrides: list[str] = []
    if words and words[0] in _CONFIGURABLE:
        words, overrides = _split(words)
    options, unknown = parser.parse_known_args(words)
    if unknown:
        options.parser.error(f"unrecognized arguments: {' '.join(unknown)}; see {options.parser.prog} --help")
    options.overrides = overrides
    options.main = main  # the demo runs the other commands
    start_logging(options.verbose)
    try:
        code = _finished(options)
    except Voco2dError as error:
        return _fail(options, str(error), error.exit_code, error)
    except BrokenPipeError:  # as of `| head`: whoever read has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter complains at its end
        return _BROKEN_PIPE
    except KeyboardInterrupt as error:
        return _fail(options, "interrupted; the same command goes on where it was, see --help", 1, error)
    except ModuleNotFoundError as error:  # as where an ONNX package is run without torch
        return _fail(options, _lacks(error), 2, error)
    except OSError as error:
        return _fail(options, f"{error.filename or options.command}: {error.strerror or error}", 1, error)
    except Exception as error:  # whatever it is, a user gets one line; its words may hold identifiers
        advice = "a fault of voco2d: please report it with the traceback that --verbose shows"
        return _fail(options, f"unexpected {type(error).__name__}; {advice}", 1, error)
    return code


def _lacks(error: ModuleNotFoundError) -> str:
    package = (error.name or "a package").partition(".")[0]
    return f"needs {package}, which is not installed; install voco2d with all that it depends on"


def _finished(options: argparse.Namespace) -> int:
    code: int = import_module(f"voco2d.commands.{options.command}").run(options)
    sys.stdout.flush()
    return code


def build_parser() -> argparse.ArgumentParser:
    """Describe every command; importing nothing heavy, so that `--help` answers at once."""
    parser = argparse.ArgumentParser(prog="voco2d", description=_DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"voco2d {VERSION}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, summary, describe in _COMMANDS:
        command = commands.add_parser(
            name,
            help=summary,
            description=summary,
            epilog=_OVERRIDES_HINT if name in _CONFIGURABLE else None,
            allow_abbrev=False,
        )
        command.add_argument("-v", "--verbose", action="store_true", help="tell more, and show tracebacks")
        command.set_defaults(parser=command)  # so that wrong use shows the usage of the command
        describe(command)
    return parser


def _split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Part `key=value` words from the others; the value of an option is never one of them."""
    plain: list[str] = []
    overrides: list[str] = []
    for before, word in pairwise(words):
        is_value = before.startswith("--") and before not in _FLAGS
        is_override = _OVERRIDE.match(word) and not is_value and not os.path.lexists(word)
        (overrides if is_override else plain).append(word)
    return [words[0], *plain], overrides


def _fail(options: argparse.Namespace, message: str, code: int, error: BaseException) -> int:
    if options.verbose:
        logging.getLogger(__name__).debug("traceback of the error below, without words\n%s", wordless(error))
    if not (isinstance(error, OtherProcessError) and error.is_told):
        print(f"voco2d {options.command}: error: {' '.join(message.split())}", file=sys.stderr)
    return code


_DESCRIPTION = "Pretrain on unlabeled CT slices (2D-VoCo), grade abdominal injuries (CNN-LSTM). Research use only."
_OVERRIDES_HINT = "After the options, key=value words change settings, for example seed=1; a wrong key lists all."
_COMMANDS: tuple[tuple[str, str, Callable[[argparse.ArgumentParser], None]], ...] = (
    ("demo", "the whole story on a phantom cohort, with a report", data_options.demo),
    ("phantom", "write a synthetic cohort in the RSNA 2023 layout", data_options.phantom),
    ("prepare", "turn CT files of any kind into a store of prepared volumes", data_options.prepare),
    ("cohort", "split the patients of a store into folds, and keep pretraining off them", data_options.cohort),
    ("pretrain", "pretrain a backbone on a store, without labels", training_options.pretrain),
    ("finetune", "train the injury classifier on a store and a label table", training_options.finetune),
    ("study", "compare starts over label fractions and seeds, with significance", training_options.study),
    ("predict", "grade raw scans with a trained classifier", result_options.predict),
    ("listen", "be a DICOM node: grade what is received, send reports back", service_options.listen),
    ("serve", "grade uploads over HTTP, with a page to look at scans", service_options.serve),
    ("evaluate", "score a table of predictions", result_options.evaluate),
    ("ensemble", "blend models with weights fitted on out-of-fold predictions", result_options.ensemble),
    ("report", "write the HTML page of a run", result_options.report),
    ("convert", "write a checkpoint's backbone for plain timm or the Hugging Face hub", result_options.convert),
    ("export", "write a fine-tuned run as an ONNX package, which predicts without torch", result_options.export),
    ("bench", "measure what a step costs, beside the paper's code or 3D VoCo", bench_options.bench),
    ("info", "versions and hardware, for bug reports", result_options.info),
)
