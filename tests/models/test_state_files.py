import io
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save
from torch import nn

from voco2d.errors import CheckpointError
from voco2d.models.state_files import read_state


def test_the_papers_checkpoints_pickle_their_optimizer(tmp_path: Path) -> None:
    """Took a bug: its `model_step*.pt` hold the whole AdamW object, which a safe load refuses."""
    layer = nn.Linear(2, 3)
    optimizer = torch.optim.AdamW(layer.parameters(), amsgrad=True)
    layer(torch.rand(1, 2)).sum().backward()
    optimizer.step()
    torch.save({"global_step": 1, "state_dict": layer.state_dict(), "optimizer": optimizer}, tmp_path / "c.pt")
    tensors, _ = read_state(tmp_path / "c.pt")
    assert torch.equal(tensors["weight"], layer.weight)


def test_safetensors_under_another_name(tmp_path: Path) -> None:
    (tmp_path / "c.bin").write_bytes(save({"a": torch.ones(2)}))
    assert torch.equal(read_state(tmp_path / "c.bin")[0]["a"], torch.ones(2))


class Payload:
    """Makes an unsafe load create a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.target,))


def test_a_file_that_may_not_be_read_is_not_called_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "c.safetensors").write_bytes(save({"a": torch.ones(2)}))
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may read everything
    with pytest.raises(CheckpointError, match="this user may not read it"):
        read_state(tmp_path / "c.safetensors")


def test_nothing_in_a_file_is_run(tmp_path: Path) -> None:
    target = tmp_path / "ran"
    torch.save({"state_dict": {"a": torch.ones(1)}, "extra": Payload(target)}, tmp_path / "c.pt")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Payload(target)))
    for name in ("c.pt", "plain.pth"):
        with pytest.raises(CheckpointError, match=name):
            read_state(tmp_path / name)
    assert not target.exists()


def test_archives_that_grow_are_refused_unread(tmp_path: Path) -> None:
    file = io.BytesIO()
    torch.save({"a": torch.zeros(1_000_000)}, file)
    with zipfile.ZipFile(file) as plain, zipfile.ZipFile(tmp_path / "c.pth", "w", zipfile.ZIP_DEFLATED) as packed:
        for entry in plain.infolist():
            packed.writestr(entry.filename, plain.read(entry))
    with pytest.raises(CheckpointError, match=r"c\.pth: a packed archive"):
        read_state(tmp_path / "c.pth")


@pytest.mark.parametrize(
    "tensor",
    [torch.zeros(1).expand(10**6, 10**6), torch.empty(10**6, 10**6, device="meta")],
    ids=["expanded", "meta"],
)
def test_tensors_without_memory_behind_them_are_refused(tmp_path: Path, tensor: torch.Tensor) -> None:
    torch.save({"conv.weight": tensor}, tmp_path / "c.pth")
    with pytest.raises(CheckpointError, match=r"c\.pth: conv.weight is no plain tensor, or larger than the file"):
        read_state(tmp_path / "c.pth")


def test_damaged_files_give_one_error_that_names_them(tmp_path: Path) -> None:
    """Cut and flipped at places all over the file: an error, or tensors of the shapes that were saved."""
    path = tmp_path / "c.pth"
    torch.save({"a": torch.arange(4.0), "b": {"c": torch.ones(2)}}, path)
    whole = path.read_bytes()
    told = []
    for place in range(0, len(whole), 23):
        for damaged in (whole[:place], whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :]):
            path.write_bytes(damaged)
            try:
                read_state(path)
            except CheckpointError as error:
                told.append(str(error))
    assert len(told) > 50
    assert all(str(path) in text for text in told)
