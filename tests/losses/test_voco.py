"""The 2D-VoCo losses against the paper's values and a literal transcription of docs/method.md."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from voco2d.losses.voco import (
    base_regularization,
    cosine_similarity,
    inter_loss,
    intra_loss,
    paper_v1_loss,
    prediction_loss,
)

TOLERANCE = 1e-5
EPSILON = 1e-6


@pytest.fixture(scope="module")
def reference(real_data: Path) -> dict[str, Tensor]:
    with np.load(real_data / "reference" / "voco_losses_dev.npz") as arrays:
        return {name: torch.as_tensor(arrays[name]) for name in arrays}


def features(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def overlaps(seed: int, volumes: int, random: int, base: int) -> Tensor:
    """Rows that sum to 1, with zeros among them."""
    weights = torch.rand(volumes, random, base, generator=torch.Generator().manual_seed(seed))
    weights = torch.where(weights < 0.5, 0.0, weights)
    weights[..., 0] += 0.1
    return weights / weights.sum(-1, keepdim=True)


def slow_similarity(first: Tensor, second: Tensor) -> float:
    dot = sum(a * b for a, b in zip(first.tolist(), second.tolist(), strict=True))
    norms = [math.sqrt(sum(a * a for a in vector.tolist())) for vector in (first, second)]
    return dot / (norms[0] * norms[1])


def slow_prediction(label: list[list[float]], similarity: list[list[float]]) -> float:
    """docs/method.md word for word, for one volume."""
    pairs = [
        (min(max(y, 0.0), 1.0), min(max(sim, 0.0), 1.0))
        for labels, sims in zip(label, similarity, strict=True)
        for y, sim in zip(labels, sims, strict=True)
    ]
    first = sum(-y * math.log(1 - abs(y - sim) + EPSILON) for y, sim in pairs) / (sum(y for y, _ in pairs) + EPSILON)
    zeros = [sim for y, sim in pairs if y == 0]
    return first + sum(sim**2 for sim in zeros) / (len(zeros) + EPSILON)


def table(first: Tensor, second: Tensor) -> list[list[float]]:
    return [[slow_similarity(a, b) for b in second] for a in first]


@pytest.mark.parametrize("seed", range(3))
def test_terms_equal_a_literal_transcription(seed: int) -> None:
    sr, tr = features(seed, 3, 2, 8), features(seed + 10, 3, 2, 8)
    sb, tb = features(seed + 20, 3, 9, 8), features(seed + 30, 3, 9, 8)
    overlap = overlaps(seed, 3, 2, 9)
    intra = [slow_prediction(overlap[i].tolist(), table(sr[i], tb[i])) for i in range(3)]
    inter = [slow_prediction(table(tr[i], tb[i]), table(sr[i], sb[i])) for i in range(3)]
    pairs = [(i, j) for i in range(9) for j in range(i + 1, 9)]
    reg = [max(slow_similarity(sb[b][i], sb[b][j]), 0.0) ** 2 for b in range(3) for i, j in pairs]
    assert intra_loss(sr, tb, overlap).item() == pytest.approx(np.mean(intra), abs=TOLERANCE)
    assert inter_loss(sr, tr, sb, tb).item() == pytest.approx(np.mean(inter), abs=TOLERANCE)
    assert base_regularization(sb).item() == pytest.approx(np.mean(reg), abs=TOLERANCE)


@pytest.mark.parametrize("clamp", [False, True])
def test_v1_terms_equal_a_literal_transcription(clamp: bool) -> None:
    """Where features are positive no similarity is below 0, and clamping changes nothing."""
    sr, tr, sb, tb = (features(seed, 3, count, 8) for seed, count in enumerate((2, 2, 9, 9)))
    if not clamp:
        sr, tr, sb, tb = (values.abs() for values in (sr, tr, sb, tb))
    overlap = overlaps(0, 3, 2, 9)
    positive, negative, reg = paper_v1_loss(sr, tr, sb, tb, overlap, clamp)
    terms = [
        slow_prediction(overlap[i].tolist(), ((np.array(table(sr[i], tb[i])) + table(tr[i], sb[i])) / 2).tolist())
        for i in range(3)
    ]
    assert (positive + negative).item() == pytest.approx(np.mean(terms), abs=TOLERANCE)
    assert reg == base_regularization(sb)


@pytest.mark.realdata
def test_v2_equals_the_papers_values_and_gradient(reference: dict[str, Tensor]) -> None:
    student = reference["student"].clone().requires_grad_()
    teacher = reference["teacher"]
    partner_student, partner_teacher = student.roll(-1, 0)[:, 2:], teacher.roll(-1, 0)[:, 2:]
    intra = intra_loss(student[:, :2], teacher[:, 2:], reference["overlap"])
    inter = inter_loss(student[:, :2], teacher[:, :2], partner_student, partner_teacher)
    reg = base_regularization(student[:, 2:])
    (intra + inter + reg).backward()
    for name, value in {"v2_intra": intra, "v2_inter": inter, "v2_reg": reg}.items():
        assert value.item() == pytest.approx(reference[name].item(), abs=TOLERANCE)
    assert student.grad is not None
    torch.testing.assert_close(student.grad, reference["v2_grad_student"], atol=TOLERANCE, rtol=0)


@pytest.mark.realdata
def test_v1_equals_the_papers_values_and_gradient(reference: dict[str, Tensor]) -> None:
    student = reference["student"].clone().requires_grad_()
    teacher = reference["teacher"]
    terms = paper_v1_loss(student[:, :2], teacher[:, :2], student[:, 2:], teacher[:, 2:], reference["overlap"])
    sum(terms, torch.zeros(())).backward()
    for name, value in zip(("v1_pos", "v1_neg", "v1_reg"), terms, strict=True):
        assert value.item() == pytest.approx(reference[name].item(), abs=TOLERANCE)
    assert student.grad is not None
    torch.testing.assert_close(student.grad, reference["v1_grad_student"], atol=TOLERANCE, rtol=0)


def test_epsilon_weighs_as_the_overlaps_do_where_they_are_small() -> None:
    loss = prediction_loss(torch.tensor([[[EPSILON]]]), torch.tensor([[[0.5]]]))
    assert loss.item() == pytest.approx(slow_prediction([[EPSILON]], [[0.5]]), rel=1e-4)


def opposed() -> tuple[Tensor, Tensor, Tensor]:
    """A random crop whose similarity to the crop it lies in is −1: the difference from y is 2."""
    base = torch.eye(9, 16)[None]
    overlap = torch.zeros(1, 2, 9)
    overlap[:, :, 0] = 1.0
    return -base[:, [0, 0]], base, overlap


def test_similarities_are_clamped_before_the_logarithm() -> None:
    random, base, overlap = opposed()
    assert torch.isfinite(intra_loss(random, base, overlap))
    assert torch.isfinite(inter_loss(random, base[:, [0, 0]], base, base))


def test_v1_keeps_the_papers_nan() -> None:
    random, base, overlap = opposed()
    assert torch.isnan(paper_v1_loss(random, random, base, base, overlap)[0])


def test_no_gradient_reaches_the_inter_label_nor_the_second_of_a_base_pair() -> None:
    tr, tb = features(0, 2, 2, 8).requires_grad_(), features(1, 2, 9, 8).requires_grad_()
    sb = features(2, 2, 9, 8).requires_grad_()
    (inter_loss(features(3, 2, 2, 8), tr, sb, tb) + base_regularization(sb)).backward()
    assert tr.grad is None
    assert tb.grad is None
    last = features(4, 1, 9, 8).requires_grad_()
    base_regularization(last).backward()
    assert last.grad is not None
    assert torch.equal(last.grad[:, -1], torch.zeros(1, 8))


@pytest.mark.parametrize(
    "loss",
    [
        lambda a, b: intra_loss(a[:, :2], b, overlaps(0, 3, 2, 9)),
        lambda a, b: inter_loss(a[:, :2], b[:, :2], a, b),
        lambda a, _: base_regularization(a),
    ],
)
def test_contrast_is_computed_in_float32_under_autocast(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    first, second = features(0, 3, 9, 64), features(1, 3, 9, 64)
    expected = loss(first, second)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(loss(first, second), expected)
    assert loss(first.bfloat16(), second.bfloat16()).dtype == torch.float32


def test_cosine_of_a_zero_feature_is_zero() -> None:
    assert torch.equal(cosine_similarity(torch.zeros(1, 1, 4), torch.ones(1, 1, 4)), torch.zeros(1, 1, 1))
