"""Opens masks and measures their connected parts, many slices at a time: a call a slice would cost more than the work.

Masks stand in rows that end with `margin` False pixels, so that shifting whole slices sideways mixes no rows and a run
of pixels ends with its row.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Int
from scipy import sparse

Masks: TypeAlias = Bool[np.ndarray, "slices H W_margin"]


@dataclass(frozen=True)
class Parts:
    """Connected parts of masks, as arrays of one entry a part.

    Args:
        z: Slice.
        area: Pixels.
        top: First row.
        bottom: Row after the last.
        left: First column.
        right: Column after the last.
    """

    z: Int[np.ndarray, " parts"]
    area: Int[np.ndarray, " parts"]
    top: Int[np.ndarray, " parts"]
    bottom: Int[np.ndarray, " parts"]
    left: Int[np.ndarray, " parts"]
    right: Int[np.ndarray, " parts"]


def opened(masks: Masks, radius: int, margin: int) -> Masks:
    """Open by a square of 2 × radius + 1 pixels; what the image border cuts is not eroded from there.

    Args:
        masks: One or several slices, changed in place.
        radius: At most `margin`.
        margin: False pixels at the end of each row.
    """
    if radius == 0:
        return masks
    background = _grow(_turned(masks, margin), radius, margin)
    return _grow(_turned(background, margin), radius, margin)


def find_parts(masks: Masks) -> Parts:
    """Find the parts of each slice whose pixels touch by an edge.

    A row's runs are linked with those that they overlap in the row below; parts are what is linked.

    Args:
        masks: One or several slices; a row's last pixel is False.
    """
    height, width = masks.shape[1:]
    flat = masks.reshape(-1)
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    if flat.size and flat[0]:
        edges = np.concatenate([[0], edges])
    starts, stops = edges[::2], edges[1::2]
    rows = starts // width
    first = np.searchsorted(stops, starts + width, side="right")
    last = np.searchsorted(starts, stops + width, side="left")
    links = np.where(rows % height == height - 1, 0, np.maximum(last - first, 0))
    upper = np.repeat(np.arange(starts.size), links)
    lower = np.arange(upper.size) - np.repeat(np.cumsum(links) - links, links) + np.repeat(first, links)
    graph = sparse.coo_array((np.ones(upper.size, np.int8), (upper, lower)), shape=(starts.size, starts.size))
    count, labels = sparse.csgraph.connected_components(graph, directed=False)
    area = np.zeros(count, np.int64)
    np.add.at(area, labels, stops - starts)
    return Parts(
        z=_least(rows // height, labels, count),
        area=area,
        top=_least(rows % height, labels, count),
        bottom=_greatest(rows % height, labels, count) + 1,
        left=_least(starts % width, labels, count),
        right=_greatest(stops - rows * width, labels, count),
    )


def _turned(masks: Masks, margin: int) -> Masks:
    np.logical_not(masks, out=masks)
    masks[..., masks.shape[-1] - margin :] = False
    return masks


def _grow(masks: Masks, radius: int, margin: int) -> Masks:
    grown = masks.copy()
    for shift in range(1, radius + 1):
        grown[:, shift:] |= masks[:, :-shift]
        grown[:, :-shift] |= masks[:, shift:]
    rows = grown.copy().reshape(-1)
    flat = grown.reshape(-1)
    for shift in range(1, radius + 1):
        flat[shift:] |= rows[:-shift]
        flat[:-shift] |= rows[shift:]
    grown[..., grown.shape[-1] - margin :] = False
    return grown


def _least(values: Int[np.ndarray, " runs"], labels: Int[np.ndarray, " runs"], count: int) -> Int[np.ndarray, " parts"]:
    found = np.full(count, np.iinfo(np.int64).max)
    np.minimum.at(found, labels, values)
    return found


def _greatest(
    values: Int[np.ndarray, " runs"], labels: Int[np.ndarray, " runs"], count: int
) -> Int[np.ndarray, " parts"]:
    found = np.full(count, -1, np.int64)
    np.maximum.at(found, labels, values)
    return found
