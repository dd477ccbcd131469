import torch
from torch import nn

from voco2d.training.weight_average import WeightAverage


def test_average_follows_weights_and_statistics_and_is_its_own_copy() -> None:
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))
    average = WeightAverage(model, decay=0.75)
    model[0].weight.data.fill_(1.0)
    average.network[0].weight.data.fill_(0.0)  # type: ignore[union-attr,operator]
    expected, mean = 0.0, 0.0
    for step in range(1, 60):
        model[1].running_mean.fill_(2.0)  # type: ignore[union-attr]
        average.update(model)
        weight = 1 - min(0.75, (1 + step) / (10 + step))
        expected += weight * (1.0 - expected)
        mean += weight * (2.0 - mean)
    own = average.network.state_dict()
    torch.testing.assert_close(own["0.weight"], torch.tensor([[expected]]))
    torch.testing.assert_close(own["1.running_mean"], torch.tensor([mean]))
    assert not any(parameter.requires_grad for parameter in average.network.parameters())


def test_it_goes_on_from_its_state() -> None:
    model = nn.Linear(2, 2)
    average = WeightAverage(model, 0.9)
    average.update(model)
    other = WeightAverage(nn.Linear(2, 2), 0.9)
    other.load_state_dict(average.state_dict())
    model.weight.data.add_(1.0)
    average.update(model)
    other.update(model)
    assert torch.equal(average.network.state_dict()["weight"], other.network.state_dict()["weight"])
