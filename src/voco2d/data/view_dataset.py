"""Batches of views of single slices: two of each slice to compare, or one with hidden squares."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor

from voco2d.data.pretrain_dataset import DataArgs, Plan, PretrainDataset, grouped, on_device
from voco2d.data.view_changes import ViewChanges, draw_changes, make_views
from voco2d.data.views import spread_slices
from voco2d.errors import ConfigError
from voco2d.methods.method import Batch
from voco2d.methods.view_args import SimMIMArgs, ViewArgs
from voco2d.store.volume_store import VolumeStore


@dataclass(frozen=True)
class ViewPlan(Plan):
    """What chance decided for one batch of views; the slices of a volume are one group.

    Args:
        changes: What makes views differ.
    """

    changes: ViewChanges


@dataclass(frozen=True)
class MaskPlan(ViewPlan):
    """What chance decided for one batch of views with hidden squares.

    Args:
        hidden: (B, N, g, g) whether a square of a view is hidden.
    """

    hidden: Bool[np.ndarray, "B N g g"]


class ViewDataset(PretrainDataset[ViewPlan, Batch]):
    """Draws batches of views from a store: a volume's units are its views, those of a slice one after another.

    Args:
        store: Prepared volumes.
        args: How views are made.
        data: How volumes are drawn.
        exclude_patients: Patients that are never shown.

    Raises:
        StoreError: No volume is left.
        ConfigError: There are fewer volumes than a batch takes, or a batch has a single slice.
    """

    def __init__(
        self, store: VolumeStore, args: ViewArgs, data: DataArgs, exclude_patients: Collection[str] = ()
    ) -> None:
        if data.batch_size * args.slices < 2:
            raise ConfigError("method.slices=1 with batch_size=1: a slice needs another to compare with; at least 2")
        super().__init__(store, data, exclude_patients)
        self._args = args

    def plan(self, step: int) -> ViewPlan:
        """Decide by chance what all processes see in a step."""
        generator = self.generator(step)
        volumes = self.volumes(step)
        slices = draw_slices(generator, self._store, self._args.slices, len(volumes))
        return ViewPlan(volumes, slices, draw_changes(generator, self._args, len(volumes)))

    def cut(self, plan: ViewPlan, slices: Float[Tensor, "B G S H W"]) -> Batch:
        """Make the views."""
        views = make_views(grouped(slices), plan.changes.rows(self.own(len(plan.volumes))), self._args)
        return Batch(units=rearrange(views, "b n r c -> (b n) 1 r c"), views=views.shape[1])


class MaskDataset(PretrainDataset[MaskPlan, Batch]):
    """Draws batches of views with hidden squares: a unit's two planes are the view, and 1 where it is hidden.

    Args:
        store: Prepared volumes.
        args: How views are made and hidden.
        data: How volumes are drawn.
        exclude_patients: Patients that are never shown.

    Raises:
        StoreError: No volume is left.
        ConfigError: There are fewer volumes than a batch takes.
    """

    def __init__(
        self, store: VolumeStore, args: SimMIMArgs, data: DataArgs, exclude_patients: Collection[str] = ()
    ) -> None:
        super().__init__(store, data, exclude_patients)
        self._args = args

    def plan(self, step: int) -> MaskPlan:
        """Decide by chance what all processes see in a step."""
        generator = self.generator(step)
        volumes = self.volumes(step)
        slices = draw_slices(generator, self._store, self._args.slices, len(volumes))
        changes = draw_changes(generator, self._args, len(volumes))
        return MaskPlan(volumes, slices, changes, self._hidden(generator, len(volumes)))

    def cut(self, plan: MaskPlan, slices: Float[Tensor, "B G S H W"]) -> Batch:
        """Make the views, and lay what is hidden beside them."""
        own, patch = self.own(len(plan.volumes)), self._args.patch
        views = make_views(grouped(slices), plan.changes.rows(own), self._args)
        squares = on_device(plan.hidden[own], views.device, views.dtype)
        hidden = repeat(squares, "b n r c -> b n (r p) (c q)", p=patch, q=patch)
        units = rearrange([views, hidden], "planes b n r c -> (b n) planes r c")
        return Batch(units=units, views=views.shape[1])

    def _hidden(self, generator: np.random.Generator, volumes: int) -> Bool[np.ndarray, "B N g g"]:
        """Choose as many squares of each view."""
        grid = self._args.grid
        order = generator.random((volumes, self._args.images_per_volume, grid**2)).argsort(axis=-1).argsort(axis=-1)
        return (order < self._args.hidden_squares).reshape(*order.shape[:2], grid, grid)


def draw_slices(
    generator: np.random.Generator, store: VolumeStore, count: int, volumes: int
) -> Int[np.ndarray, "B 1 S"]:
    """Choose a slice in each of `count` equal parts of each volume's depth."""
    depth = store.preprocess_args.size[0]
    return np.stack([spread_slices(generator, depth, count, 1.0)[None] for _ in range(volumes)])
