"""DINO's loss and centre against the publication's pseudocode, written out image by image."""

import math

import pytest
import torch

from voco2d.losses.dino import DINOLoss

pytest.importorskip("lightly")
STUDENT, TEACHER, MOMENTUM = 0.2, 0.07, 0.8  # lightly's defaults are others


def softmax(values: list[float], temperature: float) -> list[float]:
    powers = [math.exp(value / temperature) for value in values]
    return [power / sum(powers) for power in powers]


def literal(student: torch.Tensor, teacher: torch.Tensor, center: list[float]) -> tuple[float, list[float]]:
    """Algorithm 1 of arXiv 2104.14294: the loss and the next centre."""
    views, images, prototypes = student.shape
    total, pairs = 0.0, 0
    for t in range(views):
        for s in range(views):
            if s == t:
                continue
            pairs += 1
            for image in range(images):
                centred = [x - c for x, c in zip(teacher[t, image].tolist(), center, strict=True)]
                target = softmax(centred, TEACHER)
                guess = softmax(student[s, image].tolist(), STUDENT)
                total -= sum(p * math.log(q) for p, q in zip(target, guess, strict=True))
    mean = [teacher[:, :, p].mean().item() for p in range(prototypes)]
    return total / pairs / images, [MOMENTUM * c + (1 - MOMENTUM) * m for c, m in zip(center, mean, strict=True)]


def test_loss_and_centre_are_the_publications_over_several_steps() -> None:
    loss = DINOLoss(6, STUDENT, TEACHER, MOMENTUM)
    generator = torch.Generator().manual_seed(0)
    center = [0.0] * 6
    for _ in range(3):
        student, teacher = torch.rand(2, 2, 4, 6, generator=generator)
        expected, center = literal(student, teacher, center)
        assert loss(student, teacher).item() == pytest.approx(expected, rel=1e-4)
        assert loss.state_dict()["inner.center"].flatten().tolist() == pytest.approx(center, rel=1e-5)


def test_the_centre_is_in_the_state_and_the_loss_in_float32() -> None:
    loss = DINOLoss(6, STUDENT, TEACHER, MOMENTUM)
    assert set(loss.state_dict()) == {"inner.center"}
    student, teacher = torch.rand(2, 2, 4, 6).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = loss(student, teacher)
    expected = DINOLoss(6, STUDENT, TEACHER, MOMENTUM)(student.float(), teacher.float())
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
