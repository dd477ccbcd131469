"""SimMIM's loss against a loop over pixels."""

import pytest
import torch

from voco2d.losses.masked import hidden_pixel_loss


def test_it_is_the_mean_error_of_hidden_pixels_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    predicted, images = torch.rand(2, 3, 4, 4, generator=generator)
    hidden = (torch.rand(3, 4, 4, generator=generator) < 0.5).float()
    losses = hidden_pixel_loss(predicted, images, hidden)
    for image in range(3):
        errors = [
            abs(predicted[image, r, c].item() - images[image, r, c].item())
            for r in range(4)
            for c in range(4)
            if hidden[image, r, c] == 1
        ]
        assert losses[image].item() == pytest.approx(sum(errors) / len(errors), rel=1e-5)


def test_visible_pixels_take_no_gradient() -> None:
    predicted = torch.rand(1, 4, 4, requires_grad=True)
    hidden = torch.eye(4)[None]
    hidden_pixel_loss(predicted, torch.rand(1, 4, 4), hidden).sum().backward()
    assert predicted.grad is not None
    assert torch.equal(predicted.grad != 0, hidden == 1)
