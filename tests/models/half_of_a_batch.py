"""One of two processes that normalise halves of a batch; called with its number and the folder for its results."""

import sys

import torch
from torch import distributed, nn

from voco2d.models.shared_norm import share_norms

rank, folder = int(sys.argv[1]), sys.argv[2]
distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
layer = nn.BatchNorm2d(1, momentum=0.3)
network = nn.Sequential(layer)
share_norms(network)
images = torch.randn(8, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 3 + 2
part = images.chunk(2)[rank].requires_grad_()
weight = torch.arange(8.0).chunk(2)[rank].view(-1, 1, 1, 1)
(network(part).sin() * weight).sum().backward()
torch.save({"input": part.grad, "weight": layer.weight.grad, "state": network.state_dict()}, f"{folder}/{rank}.pt")
distributed.destroy_process_group()
