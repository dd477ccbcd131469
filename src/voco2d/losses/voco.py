"""The losses of 2D-VoCo: predicted against true overlap of crops (arXiv 2601.14593; VoCo, arXiv 2402.17300)."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.amp import autocast

_EPSILON = 1e-6


def cosine_similarity(first: Float[Tensor, "B N D"], second: Float[Tensor, "B M D"]) -> Float[Tensor, "B N M"]:
    """Return the cosine of each pair of features, in −1…1, in float32 also under autocast.

    Args:
        first: N features a volume.
        second: M features a volume.
    """
    with autocast(first.device.type, enabled=False):
        return F.normalize(first.float(), dim=-1) @ F.normalize(second.float(), dim=-1).transpose(-1, -2)


def contrast(
    label: Float[Tensor, "B R K"], similarity: Float[Tensor, "B R K"]
) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
    """Return both parts of a volume's prediction loss (docs/method.md).

    Args:
        label: y, 0…1.
        similarity: l, below 1 away from y, or the logarithm is NaN.

    Returns:
        Σ −y·log(1 − |y − l| + ε) / (Σ y + ε), and Σ l² where y is 0, over their number + ε.
    """
    absent = (label == 0).float()
    positive = -label * torch.log(1 - (label - similarity).abs() + _EPSILON)
    negative = absent * similarity.square()
    return (
        positive.sum((-1, -2)) / (label.sum((-1, -2)) + _EPSILON),
        negative.sum((-1, -2)) / (absent.sum((-1, -2)) + _EPSILON),
    )


def prediction_loss(label: Float[Tensor, "B R K"], similarity: Float[Tensor, "B R K"]) -> Float[Tensor, ""]:
    """Return the mean over volumes of `contrast`'s sum, both arguments clamped to 0…1 before the logarithm.

    Args:
        label: Overlaps, or another network's similarities.
        similarity: What is held against them, −1…1.
    """
    with autocast(label.device.type, enabled=False):
        positive, negative = contrast(label.float().clamp(0, 1), similarity.float().clamp(0, 1))
        return (positive + negative).mean()


def intra_loss(
    student_random: Float[Tensor, "B R D"], teacher_base: Float[Tensor, "B K D"], overlap: Float[Tensor, "B R K"]
) -> Float[Tensor, ""]:
    """Return how far crops' similarities are from their overlap, within each volume.

    Args:
        student_random: The student's features of the random crops; takes the gradient.
        teacher_base: The teacher's features of the base crops of the same volume; a gradient reaches them where they
            carry one.
        overlap: Share of each random crop's area in each base crop, 0…1, summing to 1.
    """
    return prediction_loss(overlap, cosine_similarity(student_random, teacher_base))


def inter_loss(
    student_random: Float[Tensor, "B R D"],
    teacher_random: Float[Tensor, "B R D"],
    student_base: Float[Tensor, "B K D"],
    teacher_base: Float[Tensor, "B K D"],
) -> Float[Tensor, ""]:
    """Return how far the student's similarities between two volumes are from the teacher's.

    Args:
        student_random: The student's features of the random crops; takes a gradient.
        teacher_random: The teacher's features of the same crops.
        student_base: The student's features of the partner's base crops, rolled into place by the caller.
        teacher_base: The teacher's features of the same base crops.
    """
    label = cosine_similarity(teacher_random, teacher_base).detach()
    return prediction_loss(label, cosine_similarity(student_random, student_base))


def base_regularization(student_base: Float[Tensor, "B K D"]) -> Float[Tensor, ""]:
    """Return the mean squared positive similarity of base pairs i < j, without a gradient to j."""
    count = student_base.shape[1]
    first, second = torch.triu_indices(count, count, offset=1, device=student_base.device)
    similarity = cosine_similarity(student_base, student_base.detach())[:, first, second]
    return similarity.clamp(min=0).square().mean()


def paper_v1_loss(
    student_random: Float[Tensor, "B R D"],
    teacher_random: Float[Tensor, "B R D"],
    student_base: Float[Tensor, "B K D"],
    teacher_base: Float[Tensor, "B K D"],
    overlap: Float[Tensor, "B R K"],
    clamp: bool = False,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""], Float[Tensor, ""]]:
    """Return the terms pos, neg and reg of the paper's first version, within each volume.

    Its similarities are the mean of student → teacher and teacher → student and are not clamped: one that differs from
    the overlap by more than 1 gives NaN, as in the paper's code.

    Args:
        student_random: The student's features of the random crops.
        teacher_random: The teacher's features of the same crops.
        student_base: The student's features of the base crops of the same volumes.
        teacher_base: The teacher's features of the same base crops.
        overlap: As in `intra_loss`.
        clamp: Whether similarities are clamped to 0…1 after all, which can't give NaN.
    """
    forward = cosine_similarity(student_random, teacher_base)
    backward = cosine_similarity(teacher_random, student_base)
    similarity = (forward + backward) / 2
    positive, negative = contrast(overlap.float(), similarity.clamp(0, 1) if clamp else similarity)
    return positive.mean(), negative.mean(), base_regularization(student_base)
