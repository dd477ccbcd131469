import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from voco2d.errors import CheckpointError
from voco2d.models.backbones import build_backbone


class Refusing:
    """A server that hangs up on everyone and counts them."""

    def __init__(self) -> None:
        self.calls = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                caller, _ = self._socket.accept()
            except OSError:
                return
            self.calls += 1
            caller.close()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Refusing]:
    refusing = Refusing()
    monkeypatch.setattr(constants, "ENDPOINT", refusing.url)
    yield refusing
    refusing.close()


def test_out_of_reach_is_told_after_one_try(server: Refusing, monkeypatch: pytest.MonkeyPatch) -> None:
    """Took a bug: timm and the hub's client tried twelve times, for close to a minute."""
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: None)
    with pytest.raises(CheckpointError, match=r"resnet18: ImageNet weights can't be had, .*HF_HOME.* \(init FILE"):
        build_backbone("resnet18", imagenet=True)
    assert server.calls == 1


def test_weights_in_the_cache_need_no_network(
    server: Refusing, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    own = timm.create_model("resnet18").state_dict()
    save_file(own, str(tmp_path / "model.safetensors"))
    found = {"model.safetensors": str(tmp_path / "model.safetensors")}
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda _, name, **__: found.get(name))
    state = build_backbone("resnet18", in_chans=3, imagenet=True).state_dict()
    assert all(torch.equal(tensor, own[key]) for key, tensor in state.items())
    assert server.calls == 0


def test_a_model_without_weights_says_so() -> None:
    with pytest.raises(CheckpointError, match="efficientnet_b0_g8_gn: timm has no pretrained weights for it"):
        build_backbone("efficientnet_b0_g8_gn", imagenet=True)
