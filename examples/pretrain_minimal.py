"""2D-VoCo on one page: python examples/pretrain_minimal.py STORE OUT.safetensors [STEPS [BACKBONE]].

What `voco2d pretrain` does, without its resume, watching, devices, slices that differ between crops and changes of
intensity. OUT loads in timm: `timm.create_model(BACKBONE, checkpoint_path=OUT, in_chans=1, num_classes=0)`.
"""

import sys

import numpy as np
import torch
from einops import rearrange, reduce
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from voco2d import VolumeStore
from voco2d.data.crops import base_centers, cut_crops, first_pixels, overlap_labels, random_centers
from voco2d.losses.voco import base_regularization, inter_loss, intra_loss
from voco2d.models.backbones import build_backbone, feature_map_size
from voco2d.models.heads import Projector
from voco2d.models.momentum import MomentumTeacher
from voco2d.preprocessing.intensity import window_hu
from voco2d.preprocessing.spatial import evenly_spaced

GRID, CROP, SLICES, RANDOM_CROPS, BATCH = 3, 32, 8, 2, 4

given = sys.argv[1:]
path, out, steps, backbone_name = given + ["", "", "300", "test_efficientnet"][len(given) :]
store = VolumeStore(path)
depth = store.preprocess_args.size[0]
chance = np.random.default_rng(0)
torch.manual_seed(0)


class Encoder(nn.Module):
    """A backbone on each slice, the mean over slices, and a projector."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = build_backbone(backbone_name)
        features, height, width = feature_map_size(self.backbone, 1, CROP)
        self.projector = Projector(features * height * width, 512, "feature", "norm")

    def forward(self, crops: Tensor) -> Tensor:
        """Return (B, N, D) features of (B, N, S, c, c) crops."""
        maps = self.backbone(rearrange(crops, "b n s r c -> (b n s) 1 r c"))
        clips = reduce(maps, "(b n s) f h w -> b n (f h w)", "mean", b=crops.shape[0], n=crops.shape[1])
        return self.projector(clips)


student = Encoder()
teacher = MomentumTeacher(student, momentum=0.9, schedule="cosine", buffers=True)
optimizer = torch.optim.AdamW(student.parameters(), lr=1e-3)
base = first_pixels(base_centers(GRID, CROP), CROP)  # (K, 2) first row and column of each base crop

for step in range(int(steps)):
    # volumes in HU -> slices in 0…1 -> squares that the grid tiles
    volumes = chance.choice(len(store), BATCH, replace=False)
    hu = np.stack([store[int(volume)][evenly_spaced(depth, SLICES)] for volume in volumes])
    slices = window_hu(torch.from_numpy(hu), -175.0, 250.0)  # (B, S, H, W)
    slices = F.interpolate(slices, size=(GRID * CROP, GRID * CROP), mode="area")

    # random crops and base crops, and how they overlap
    centers = random_centers(chance, BATCH * RANDOM_CROPS, GRID, CROP).reshape(BATCH, RANDOM_CROPS, 2)
    corners = np.concatenate([first_pixels(centers, CROP), np.tile(base, (BATCH, 1, 1))], axis=1)
    crops = cut_crops(slices, torch.from_numpy(corners), CROP)  # (B, R + K, S, c, c)
    overlap = torch.from_numpy(overlap_labels(centers, GRID, CROP)).float()  # (B, R, K)

    # the student says where crops lie by their similarity to the teacher's base crops
    own_random, own_base = student(crops).split([RANDOM_CROPS, GRID**2], dim=1)
    with torch.no_grad():
        taught_random, taught_base = teacher.network(crops).split([RANDOM_CROPS, GRID**2], dim=1)
    partner = (np.arange(BATCH) + chance.integers(1, BATCH)) % BATCH
    intra = intra_loss(own_random, taught_base, overlap)
    inter = inter_loss(own_random, taught_random, own_base[partner], taught_base[partner])
    loss = intra + inter + base_regularization(own_base)

    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    teacher.update(student, step / int(steps))
    if step % 20 == 0 or step + 1 == int(steps):
        print(f"step {step + 1}: loss {float(loss.detach()):.3f}, intra {float(intra.detach()):.3f}", flush=True)

save_file(student.backbone.state_dict(), out)
