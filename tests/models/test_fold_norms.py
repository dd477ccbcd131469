"""Networks whose normalisations are folded answer as before."""

import timm
import torch
from torch import Tensor, nn

from voco2d.models.fold_norms import fold_norms


def trained(name: str) -> nn.Module:
    """A network whose normalisations have met some pictures, so that folding them changes numbers."""
    torch.manual_seed(0)
    network = timm.create_model(name, pretrained=False, in_chans=3, num_classes=0)
    for _ in range(3):
        network(torch.rand(4, 3, 64, 64))
    return network.eval()


def norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@torch.no_grad()
def check(name: str, left: int) -> None:
    network = trained(name)
    before = norms(network)
    pictures = torch.rand(2, 3, 96, 80)
    expected = network(pictures)
    fold_norms(network, (3, 96, 80))
    torch.testing.assert_close(network(pictures), expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    assert norms(network) == left < before


def test_all_of_an_efficientnet_are_folded() -> None:
    check("test_efficientnet", 0)


def test_all_of_a_network_with_asymmetric_padding_are_folded() -> None:
    check("tf_efficientnetv2_b0", 0)


def test_those_of_a_resnet_are_folded_but_the_one_behind_its_stem() -> None:
    check("resnet10t", 1)


def test_a_network_without_any_stays_as_it_is() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    modules = list(network)
    fold_norms(network, (3, 8, 8))
    assert list(network) == modules


class Crossed(nn.Module):
    """Holds a normalisation behind a convolution, and computes them the other way round."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3)
        self.norm = nn.BatchNorm2d(3)

    def forward(self, pictures: Tensor) -> Tensor:
        return torch.as_tensor(self.conv(self.norm(pictures)))


@torch.no_grad()
def test_what_only_looks_like_a_pair_is_left_alone() -> None:
    torch.manual_seed(0)
    network = Crossed()
    network.norm.running_var.fill_(9.0)
    network.eval()
    pictures = torch.rand(2, 3, 70, 70)
    expected = network(pictures)
    fold_norms(network, (3, 70, 70))
    assert norms(network) == 1
    assert torch.equal(network(pictures), expected)


@torch.no_grad()
def test_weights_that_are_standardised_on_each_call_are_left_alone() -> None:
    network = nn.Sequential(StdConv(3, 4, 3), nn.BatchNorm2d(4)).eval()
    fold_norms(network, (3, 70, 70))
    assert norms(network) == 1


class StdConv(nn.Conv2d):
    """Stands for convolutions with weight standardisation."""
