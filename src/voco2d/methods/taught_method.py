"""What the methods share whose student learns from a momentum teacher."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from voco2d.methods.method import Method
from voco2d.models.momentum import MomentumTeacher


class TaughtMethod(Method):
    """A method with a `student`, whose backbone is its `backbone`, and a `teacher` that follows it."""

    student: nn.Module
    teacher: MomentumTeacher

    @staticmethod
    @abstractmethod
    def features(network: Any, units: Tensor) -> Tensor:
        """Return what a student, or its teacher's network, encodes units (M, …) into: (M, F)."""

    def encode(self, units: Float[Tensor, "M S h w"], seeds: Sequence[int] | None = None) -> Float[Tensor, "M F"]:
        """Return the student's features of units."""
        del seeds  # nothing is drawn
        return self.features(self.student, units)

    @torch.no_grad()
    def teach(self, units: Float[Tensor, "M S h w"]) -> Float[Tensor, "M F"]:
        """Return the teacher's features of units."""
        return self.features(self.teacher.network, units)

    def after_step(self, share: float) -> None:
        """Let the teacher follow the student."""
        self.teacher.update(self.student, share)

    def teacher_distance(self) -> float:
        """Return ‖teacher − student‖ / ‖student‖ over the backbone's parameters."""
        return self.teacher.distance(self.student, "backbone")

    def networks(self) -> Mapping[str, nn.Module]:
        """Return the student and the teacher's network, each a backbone and a projector."""
        return {"student": self.student, "teacher": self.teacher.network}
