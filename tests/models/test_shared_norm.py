import copy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import distributed, nn

from voco2d.models.backbones import build_backbone
from voco2d.models.shared_norm import SharedBatchNorm, share_norms


@pytest.fixture
def one_process(tmp_path: Path) -> Iterator[None]:
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def images(count: int = 8) -> torch.Tensor:
    return torch.randn(count, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 3 + 2


@pytest.mark.usefixtures("one_process")
def test_alone_it_is_batch_norm() -> None:
    torch.manual_seed(0)
    plain = build_backbone("test_efficientnet")
    shared = copy.deepcopy(plain)
    share_norms(shared)
    assert any(isinstance(module, SharedBatchNorm) for module in shared.modules())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in shared.modules())
    for training in (True, False):
        outputs = [network.train(training)(images()) for network in (plain, shared)]
        torch.testing.assert_close(outputs[0], outputs[1], atol=2e-5, rtol=1e-4)
    assert plain.state_dict().keys() == shared.state_dict().keys()
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(shared.state_dict()[name], tensor, atol=1e-5, rtol=1e-5)


def test_two_processes_normalise_and_learn_as_one(tmp_path: Path) -> None:
    half = Path(__file__).with_name("half_of_a_batch.py")
    processes = [subprocess.Popen([sys.executable, str(half), str(rank), str(tmp_path)]) for rank in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    halves = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    network = nn.Sequential(nn.BatchNorm2d(1, momentum=0.3))
    whole = images().requires_grad_()
    (network(whole).sin() * torch.arange(8.0).view(-1, 1, 1, 1)).sum().backward()
    assert whole.grad is not None
    torch.testing.assert_close(torch.cat([half["input"] for half in halves]), whole.grad, atol=1e-5, rtol=1e-4)
    weight = network[0].weight.grad
    torch.testing.assert_close(halves[0]["weight"] + halves[1]["weight"], weight, atol=1e-3, rtol=1e-4)
    for half in halves:
        for name, tensor in network.state_dict().items():
            torch.testing.assert_close(half["state"][name], tensor, atol=1e-5, rtol=1e-5)
