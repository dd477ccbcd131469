"""The loop of pretraining: steps, what is watched, checkpoints, and the ways it can stop."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NoReturn

from torch import Tensor

from voco2d.data.pretrain_dataset import PretrainDataset
from voco2d.errors import NonFiniteLossError
from voco2d.memory import enough_memory
from voco2d.methods.method import Batch, StepOutput
from voco2d.progress import Progress
from voco2d.training.alarm import Alarm, alarm_entry
from voco2d.training.memory_advice import for_batch, for_probe, for_step
from voco2d.training.monitor import Monitor
from voco2d.training.pretrain_args import PretrainArgs
from voco2d.training.pretrain_checkpoint import TrainingState, save_tensors
from voco2d.training.pretrain_step import take_step
from voco2d.training.probe import Probe
from voco2d.training.processes import all_do, first_does, is_first
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
            DeviceMemoryError: Memory has run out; the message says which setting lowers it, and to what.
            TrainingStoppedError: The alarm stops the run; its last step has a checkpoint.
        """
        args, clock = self.args, _Clock(self.dataset, start)
        monitor = Monitor()
        fabric = self.state.fabric
        batches = self.dataset.batches(start, args.steps, fabric.device)
        with Progress("pretraining", args.steps, done=start, shown=is_first()) as progress:
            for step in range(start + 1, args.steps + 1):
                rate = float(self.state.schedule.get_last_lr()[0])
                batch = all_do(partial(self._draw, batches))
                smaller = for_step(args, len(batch.units), self.dataset.is_resident)
                with enough_memory("in a step", smaller):
                    output, norm = self.step(batch, step)
                    monitor.watch(output, norm)
                note = ""
                saves = step % args.checkpoint_every == 0 or step == args.steps
                probes = self.probe is not None and self.probe.is_due(step)
                if saves or probes or step % args.log_every == 0:
                    with enough_memory("while the run was watched", smaller):
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
        return take_step(self.state, batch, self.args, step, partial(self._refuse, batch, step))

    def _draw(self, batches: Iterator[Batch]) -> Batch:
        smaller = for_batch(self.args, self.dataset.is_resident, self.state.fabric.world_size)
        with enough_memory("while a batch was drawn", smaller):
            return next(batches)

    def _tell(self, record: Record, probes: bool) -> None:
        """Probe if it is time, judge, and write the record everywhere."""
        if probes and self.probe is not None:
            with enough_memory("in the probe", for_probe(self.args)):
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

    def _refuse(self, batch: Batch, step: int, terms: Mapping[str, float], what: str) -> NoReturn:
        """Stop at what is not finite, and leave what is needed to look into it.

        Raises:
            NonFiniteLossError: With the step, what it is and the file; OtherProcessError but in the first process.
        """
        file = self.folder.path / f"nonfinite_{step:08d}.pt"
        dump = {"step": step, "terms": dict(terms), "batch": vars(batch), "weights": self.state.method.weights()}
        error = NonFiniteLossError(f"step {step}: {what}; the batch and weights are in {file}; try {self._cure()}")

        def stop() -> None:
            save_tensors(file, dump)
            raise error

        first_does(stop)  # raises in every process
        raise error


class _Clock:
    """Measures the time a step takes and the shares of it that go by waiting for data and preparing it."""

    def __init__(self, dataset: PretrainDataset[Any, Any], step: int) -> None:
        self._dataset = dataset
        self._begin(step)

    def read(self, step: int) -> dict[str, float]:
        """Return all since the last reading, and start anew."""
        passed = max(time.monotonic() - self._since, 1e-9)
        waited = self._dataset.waited_seconds - self._waited
        prepared = self._dataset.prepared_seconds - self._prepared
        steps = step - self._step
        self._begin(step)
        return {"seconds": passed / steps, "wait_share": waited / passed, "prepare_share": prepared / passed}

    def skip(self) -> None:
        """Leave out the time since the last reading, which was no step's."""
        self._since = time.monotonic()
        self._waited, self._prepared = self._dataset.waited_seconds, self._dataset.prepared_seconds

    def _begin(self, step: int) -> None:
        self._step = step
        self.skip()


def _note(record: Mapping[str, Any]) -> str:
    where = record.get("localisation_accuracy")
    return f"loss {record['loss']:.3f}" + ("" if where is None else f", localisation {where:.2f}")
