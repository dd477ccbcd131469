import copy

import pytest
import torch
from torch import nn

from voco2d.models.momentum import MomentumTeacher


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def moved(student: nn.Module) -> nn.Module:
    """Return the student after an update: parameters and statistics changed."""
    student = copy.deepcopy(student)
    with torch.no_grad():
        for tensor in (*student.parameters(), *student.buffers()):
            tensor.add_(1)
    return student


def test_everything_follows_by_the_momentum() -> None:
    student = network()
    teacher = MomentumTeacher(student, 0.9, "constant", buffers=True)
    before = copy.deepcopy(teacher.network.state_dict())
    teacher.update(moved(student), 0.0)
    for name, tensor in teacher.network.state_dict().items():
        step = 1.0 if name.endswith("num_batches_tracked") else 0.1
        torch.testing.assert_close(tensor - before[name], torch.full_like(tensor, step))
    assert not any(parameter.requires_grad for parameter in teacher.parameters())


def test_without_buffers_only_parameters_follow_and_the_teacher_keeps_statistics_of_its_own() -> None:
    student = network()
    teacher = MomentumTeacher(student, 0.9, "constant", buffers=False)
    teacher.update(moved(student), 0.0)
    assert torch.equal(teacher.network[1].running_mean, torch.zeros(4))  # type: ignore[index]
    teacher.network(torch.ones(5, 3))
    assert not torch.equal(teacher.network[1].running_mean, torch.zeros(4))  # type: ignore[index]


def test_with_buffers_a_forward_pass_leaves_the_statistics() -> None:
    teacher = MomentumTeacher(network(), 0.9, "constant", buffers=True)
    teacher.network(torch.ones(5, 3))
    assert torch.equal(teacher.network[1].running_mean, torch.zeros(4))  # type: ignore[index]


def test_a_trained_child_takes_a_gradient_and_does_not_follow() -> None:
    student = network()
    teacher = MomentumTeacher(student, 0.9, "constant", buffers=True, trained="2")
    before = teacher.network[2].weight.clone()  # type: ignore[index]
    teacher.update(moved(student), 0.0)
    assert torch.equal(teacher.network[2].weight, before)  # type: ignore[index]
    assert [name for name, p in teacher.network.named_parameters() if p.requires_grad] == ["2.weight", "2.bias"]


def test_the_momentum_rises_on_a_cosine_to_one() -> None:
    teacher = MomentumTeacher(network(), 0.9, "cosine", buffers=True)
    assert [teacher.momentum_at(share) for share in (0.0, 0.5, 1.0, 2.0)] == pytest.approx([0.9, 0.95, 1.0, 1.0])
    assert MomentumTeacher(network(), 0.9, "constant", buffers=True).momentum_at(0.7) == 0.9


def test_distance_is_relative() -> None:
    student = nn.ModuleDict({"backbone": nn.Linear(2, 2)})
    teacher = MomentumTeacher(student, 0.9, "constant", buffers=True)
    assert teacher.distance(student, "backbone") == 0
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.mul_(2)
    assert teacher.distance(student, "backbone") == pytest.approx(0.5)
