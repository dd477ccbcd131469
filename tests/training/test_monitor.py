import math

import pytest
import torch
from torch import Tensor

from voco2d.methods.method import StepOutput
from voco2d.training.monitor import Monitor, effective_rank, feature_std, localised, nearest_shares


def output_of(features: Tensor) -> StepOutput:
    similarity = torch.tensor([[[0.9, 0.1], [0.2, -0.4]]])
    overlap = torch.tensor([[[1.0, 0.0], [0.3, 0.7]]])
    terms = {"intra": torch.tensor(0.5), "inter": torch.tensor(0.25)}
    return StepOutput(terms, features, similarity, overlap)


def healthy() -> Tensor:
    return torch.randn(40, 8, generator=torch.Generator().manual_seed(0))


def test_the_rank_counts_directions() -> None:
    line = torch.linspace(-1, 1, 20)[:, None] * torch.ones(4)
    assert effective_rank(line) == pytest.approx(1.0, abs=1e-3)
    assert effective_rank(torch.ones(20, 4)) == 0.0
    assert effective_rank(torch.cat([torch.eye(4), -torch.eye(4)])) == pytest.approx(4.0, abs=1e-3)
    assert math.isnan(effective_rank(torch.tensor([[1.0, 2.0], [float("nan"), 0.0]])))


def test_the_deviation_is_one_when_healthy_and_zero_when_collapsed() -> None:
    assert feature_std(healthy()) == pytest.approx(1.0, abs=0.1)
    assert feature_std(torch.ones(20, 4)) == pytest.approx(0.0, abs=1e-6)


def test_a_crop_is_localised_where_its_best_base_crop_overlaps_most() -> None:
    output = output_of(healthy())
    assert output.similarity is not None
    assert output.overlap is not None
    assert localised(output.similarity, output.overlap).tolist() == [[1.0, 0.0]]
    tie = torch.tensor([[[0.5, 0.5]]])
    assert localised(torch.tensor([[[0.1, 0.2]]]), tie).tolist() == [[1.0]]


def test_chance_is_what_naming_the_most_frequent_base_crop_scores() -> None:
    overlap = torch.tensor([[[0.9, 0.1, 0.0], [0.8, 0.1, 0.1]], [[0.6, 0.4, 0.0], [0.0, 0.2, 0.8]]])
    assert nearest_shares(overlap).tolist() == [0.75, 0.0, 0.25]
    monitor = Monitor()
    for similarity in (torch.zeros(2, 2, 3), torch.ones(2, 2, 3)):
        monitor.watch(StepOutput({"loss": torch.tensor(1.0)}, healthy(), similarity, overlap), torch.tensor(1.0))
    assert monitor.summary(2)["localisation_chance"] == pytest.approx(0.75)


def test_a_summary_holds_means_and_starts_anew() -> None:
    monitor = Monitor()
    for norm in (1.0, 3.0):
        monitor.watch(output_of(healthy()), torch.tensor(norm))
    record = monitor.summary(2)
    assert record["step"] == 2
    assert record["loss"] == pytest.approx(0.75)
    assert record["intra"] == pytest.approx(0.5)
    assert record["grad_norm"] == pytest.approx(2.0)
    assert record["nonfinite_grads"] == 0.0
    assert record["localisation_accuracy"] == pytest.approx(0.5)
    assert record["similarity_mean"] == pytest.approx(0.2)
    assert record["similarity_std"] == pytest.approx(0.4637, abs=1e-3)
    assert record["similarity_histogram"] == pytest.approx([0, 0, 0, 0.25, 0, 0.25, 0.25, 0, 0, 0.25])
    monitor.watch(output_of(healthy()), torch.tensor(5.0))
    assert monitor.summary(3)["grad_norm"] == pytest.approx(5.0)


def test_similarities_that_rounding_put_outside_of_one_are_counted() -> None:
    similarity = torch.tensor([[[1.0000001, -1.0000001]]])
    monitor = Monitor()
    monitor.watch(
        StepOutput({"loss": torch.tensor(1.0)}, healthy(), similarity, torch.eye(2)[None, :1]), torch.tensor(1.0)
    )
    assert monitor.summary(1)["similarity_histogram"] == pytest.approx([0.5, 0, 0, 0, 0, 0, 0, 0, 0, 0.5])


def test_a_method_without_base_crops_has_no_similarities() -> None:
    monitor = Monitor()
    monitor.watch(StepOutput({"invariance": torch.tensor(2.0)}, healthy()), torch.tensor(1.0))
    record = monitor.summary(1)
    assert record["loss"] == record["invariance"] == 2.0
    assert not [key for key in record if key.startswith(("localisation", "similarity"))]


def test_gradients_that_are_not_finite_are_counted_and_left_out_of_the_norm() -> None:
    monitor = Monitor()
    for norm in (2.0, math.inf, 4.0, math.nan):
        monitor.watch(output_of(healthy()), torch.tensor(norm))
    record = monitor.summary(4)
    assert record["grad_norm"] == pytest.approx(3.0)
    assert record["nonfinite_grads"] == pytest.approx(0.5)
    monitor.watch(output_of(healthy()), torch.tensor(math.inf))
    assert math.isnan(monitor.summary(5)["grad_norm"])


def test_watching_keeps_no_graph() -> None:
    weight = torch.ones(8, requires_grad=True)
    monitor = Monitor()
    monitor.watch(
        StepOutput({"loss": weight.sum()}, healthy() * weight, weight[None, None, :2] * 0.1, torch.eye(2)[None, :1]),
        weight.norm(),
    )
    kept = [monitor._features, *monitor._terms, *monitor._grad_norms, *monitor._hits, *monitor._similarity]
    assert not any(tensor is None or tensor.requires_grad for tensor in kept)
