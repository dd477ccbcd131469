import pytest
import torch

from voco2d.errors import ConfigError
from voco2d.training.trainer import launch


def test_the_cpu_is_launched_and_torch_seeded() -> None:
    fabric = launch("cpu", "fp32", 3)
    drawn = torch.rand(2)
    assert fabric.device == torch.device("cpu")
    launch("cpu", "bf16", 3)
    assert torch.equal(torch.rand(2), drawn)


@pytest.mark.parametrize(
    ("device", "precision", "words"),
    [
        ("tpu", "fp32", r"device=tpu is not known; choose auto, cpu, cuda or cuda:N"),
        ("cuda:x", "fp32", "device=cuda:x is not known"),
        ("cpu", "fp64", "precision=fp64 is not known; choose fp32, bf16, fp16"),
        ("cpu", "fp16", "precision=fp16 needs a GPU"),
    ],
)
def test_unknown_settings_list_the_known(device: str, precision: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        launch(device, precision, 0)


def test_auto_takes_the_cpu_and_cuda_is_refused_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert launch("auto", "fp32", 0).device == torch.device("cpu")
    with pytest.raises(ConfigError, match="device=cuda: torch sees 0 GPUs here; choose device=cpu or auto"):
        launch("cuda", "fp32", 0)
