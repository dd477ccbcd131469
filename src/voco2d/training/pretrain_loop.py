"""The loop of pretraining: steps, what is watched, checkpoints, and the ways it can stop."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NoReturn

import torch
from torch import Tensor

from voco2d.data.pretrain_dataset import PretrainDataset
from voco2d.errors import DeviceMemoryError, NonFiniteLossError
from voco2d.methods.method import Batch, StepOutput
from voco2d.progress import Progress
from voco2d.training.alarm import Alarm, alarm_entry
from voco2d.training.gradients import Chance, compute_gradients
from voco2d.training.monitor import Monitor
from voco2d.training.pretrain_args import PretrainArgs
from voco2d.training.pretrain_checkpoint import TrainingState, save_tensors
from voco2d.training.probe import Probe
from voco2d.training.processes import first_does, is_first
from voco2d.training.run_dir import Record, RunDir

_PROBED: Final = "student.backbone"


@dataclass(frozen=True)
class PretrainLoop:
    """Everything the steps need.

    Args:
        state: What a step changes.
        dataset: What it sees.
        folder: Where it writes.
        args: Settings.
        metadata: What a checkpoint says of itself.
        alarm: Judges what is logged; only the first process's is asked.
        probe: Measures the backbone now and then, or None.
        write: Takes each record besides the run folder.
    """

    state: TrainingState
    dataset: PretrainDataset[Any, Any]
    folder: RunDir
    args: PretrainArgs
    metadata: Mapping[str, Any]
    alarm: Alarm
    probe: Probe | None
    write: Callable[[Record], None]

    def run(self, start: int) -> None:
        """Run the steps after `start`.

        Raises:
            NonFiniteLossError: The loss became NaN or infinite.
            DeviceMemoryError: A step takes more memory than there is.
            TrainingStoppedError: The alarm stops the run; its last step has a checkpoint.
        """
        args, clock = self.args, _Clock(self.dataset, start)
        monitor = Monitor()
        device = self.state.fabric.device
        with Progress("pretraining", args.steps, done=start, shown=is_first()) as progress:
            for step, batch in enumerate(self.dataset.batches(start, args.steps, device), start + 1):
                rate = float(self.state.schedule.get_last_lr()[0])
                views = len(batch.units)
                with enough_memory(args.chunk or views):
                    output, norm = self.step(batch, step)
                monitor.watch(output, norm)
                note = ""
                saves = step % args.checkpoint_every == 0 or step == args.steps
                probes = self.probe is not None and self.probe.is_due(step)
                if saves or probes or step % args.log_every == 0:
                    record = {**monitor.summary(step), "lr": rate, **self._measured(), **clock.read(step)}
                    note = _note(record)
                    first_does(partial(self._tell, record, probes))
                    first_does(partial(self._save, step, saves))
                    clock.skip()
                progress.advance(note=note)

    def step(self, batch: Batch, step: int) -> tuple[StepOutput, Tensor]:
        """Do one optimizer step.

        Returns:
            What the method made of the batch, and the gradient's norm before clipping.
        """
        state, args = self.state, self.args
        chance = Chance(args.seed, step, state.fabric.global_rank)
        output = compute_gradients(state.method, batch, state.fabric, args.chunk, chance)
        self._refuse_non_finite(output, batch, step)
        limit = args.optim.grad_clip or math.inf
        norm = state.fabric.clip_gradients(state.method, state.optimizer, max_norm=limit, error_if_nonfinite=False)
        assert norm is not None
        if args.precision != "fp16" and not bool(norm.isfinite()):  # with fp16 the scaler leaves such a step out
            self._refuse(output, batch, step, f"the gradient is not finite (norm {float(norm)})")
        state.method.before_step(step / args.horizon)
        state.fabric.strategy.optimizer_step(state.optimizer)
        state.optimizer.zero_grad()
        state.schedule.step()
        state.method.after_step(step / args.horizon)
        return output, norm

    def _tell(self, record: Record, probes: bool) -> None:
        """Probe if it is time, judge, and write the record everywhere."""
        if probes and self.probe is not None:
            record = {**record, **self.probe.measure(self.state.method.get_submodule(_PROBED))}
        record = {**record, **alarm_entry(self.alarm.check(record))}
        self.folder.log(record)
        self.write(record)

    def _save(self, step: int, due: bool) -> None:
        """Write a checkpoint if it is due or the alarm is about to stop the run, and let it."""
        if due or self.alarm.stops:
            self.state.save(self.folder.path, step, self.metadata, self.args.keep_checkpoints)
        self.alarm.stop_if_asked()

    def _measured(self) -> dict[str, float]:
        distance = self.state.method.teacher_distance()
        return {} if distance is None else {"teacher_distance": distance}

    def _cure(self) -> str:
        if not getattr(self.args.method, "clamp", True):
            return (
                "method.clamp=true in a new run: similarities that are not clamped can do this, as in the paper's code"
            )
        return "a lower optim.lr or precision=fp32 in a new run, which init= can start from these weights"

    def _refuse_non_finite(self, output: StepOutput, batch: Batch, step: int) -> None:
        """Stop at a loss that is NaN or infinite, and leave what is needed to look into it.

        Raises:
            NonFiniteLossError: With the step, the terms and the file.
        """
        values = dict(zip(output.terms, torch.stack(list(output.terms.values())).tolist(), strict=True))
        if all(math.isfinite(value) for value in values.values()):
            return
        told = ", ".join(f"{name} {value}" for name, value in values.items())
        self._refuse(output, batch, step, f"the loss is not finite ({told})")

    def _refuse(self, output: StepOutput, batch: Batch, step: int, what: str) -> NoReturn:
        values = {name: float(term.detach()) for name, term in output.terms.items()}
        file = self.folder.path / f"nonfinite_{step:08d}.pt"
        dump = {"step": step, "terms": values, "batch": vars(batch), "weights": self.state.method.weights()}
        first_does(lambda: save_tensors(file, dump))
        raise NonFiniteLossError(f"step {step}: {what}; the batch and weights are in {file}; try {self._cure()}")


class _Clock:
    """Measures the time a step takes and the share of it that goes by waiting for data."""

    def __init__(self, dataset: PretrainDataset[Any, Any], step: int) -> None:
        self._dataset = dataset
        self._begin(step)

    def read(self, step: int) -> dict[str, float]:
        """Return both since the last reading, and start anew."""
        passed = time.monotonic() - self._since
        waited = self._dataset.waited_seconds - self._waited
        steps = step - self._step
        self._begin(step)
        return {"seconds": passed / steps, "wait_share": waited / max(passed, 1e-9)}

    def skip(self) -> None:
        """Leave out the time since the last reading, which was no step's."""
        self._since, self._waited = time.monotonic(), self._dataset.waited_seconds

    def _begin(self, step: int) -> None:
        self._step = step
        self.skip()


@contextmanager
def enough_memory(encoded: int) -> Iterator[None]:
    """Turn torch's ways of saying that memory has run out into one sentence with the way out.

    Args:
        encoded: Units that are encoded at a time; 0 where it is not known.

    Raises:
        DeviceMemoryError: Memory has run out.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        short = isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)
        if not short:
            raise
        chunk = f"set chunk={max(encoded // 2, 1)}, or residency=disk, and go on with --resume"
        way_out = chunk if encoded > 1 else "set a smaller batch_size or method.slices in a new run"
        raise DeviceMemoryError(f"memory has run out in a step; {way_out}") from error


def _note(record: Mapping[str, Any]) -> str:
    where = record.get("localisation_accuracy")
    return f"loss {record['loss']:.3f}" + ("" if where is None else f", localisation {where:.2f}")
