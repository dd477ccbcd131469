import logging

import pytest
import torch
from torch import Tensor

from voco2d.methods.method import StepOutput
from voco2d.training.monitor import Monitor, effective_rank, feature_std, localised


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


def test_the_deviation_is_one_when_healthy_and_zero_when_collapsed() -> None:
    assert feature_std(healthy()) == pytest.approx(1.0, abs=0.1)
    assert feature_std(torch.ones(20, 4)) == pytest.approx(0.0, abs=1e-6)


def test_a_crop_is_localised_where_its_best_base_crop_overlaps_most() -> None:
    output = output_of(healthy())
    assert localised(output.similarity, output.overlap).tolist() == [[1.0, 0.0]]
    tie = torch.tensor([[[0.5, 0.5]]])
    assert localised(torch.tensor([[[0.1, 0.2]]]), tie).tolist() == [[1.0]]


def test_a_summary_holds_means_and_starts_anew(caplog: pytest.LogCaptureFixture) -> None:
    monitor = Monitor()
    for norm in (1.0, 3.0):
        monitor.watch(output_of(healthy()), torch.tensor(norm))
    record = monitor.summary(2)
    assert record["loss"] == pytest.approx(0.75)
    assert record["intra"] == pytest.approx(0.5)
    assert record["grad_norm"] == pytest.approx(2.0)
    assert record["localisation_accuracy"] == pytest.approx(0.5)
    assert record["similarity_mean"] == pytest.approx(0.2)
    assert record["similarity_histogram"] == pytest.approx([0, 0, 0, 0.25, 0, 0.25, 0.25, 0, 0, 0.25])
    monitor.watch(output_of(healthy()), torch.tensor(5.0))
    assert monitor.summary(3)["grad_norm"] == pytest.approx(5.0)
    assert not caplog.records


def test_collapse_is_named_once_until_it_is_gone(caplog: pytest.LogCaptureFixture) -> None:
    monitor = Monitor()
    with caplog.at_level(logging.WARNING):
        for step, features in enumerate([torch.ones(9, 4), torch.ones(9, 4), healthy(), torch.ones(9, 4)]):
            monitor.watch(output_of(features), torch.tensor(1.0))
            monitor.summary(step)
    flat = [record.getMessage() for record in caplog.records if "nearly the same feature" in record.getMessage()]
    assert [message.split(":")[0] for message in flat] == ["step 0", "step 3"]
    assert "feature_std 0, healthy above 0.05" in flat[0]
