"""What goes wrong with some series of RSNA 2023: coverage that ends within an organ, and partly black end slices."""

from dataclasses import replace

import numpy as np
from jaxtyping import Int16

from voco2d.data.phantom.args import PhantomArgs
from voco2d.data.phantom.scan import Scan

_FEWEST_SLICES = 6
_CUT_TOP_S, _CUT_BOTTOM_S = (15.0, 50.0), (80.0, 150.0)
"""Within the liver, and within liver, spleen and kidneys; the aorta is measured between the two."""
_MOST_BLACK = 3


def draw_faults(rng: np.random.Generator, args: PhantomArgs, scan: Scan, along: float) -> Scan:
    """Draw whether a series is cut short and which of its slices are partly black.

    Args:
        rng: Source of randomness; it is drawn from alike whatever the shares are.
        args: The shares.
        scan: The whole acquisition.
        along: The patient's scale from head to foot.
    """
    cut_draw, black_draw, place, rows = rng.random(4)
    at_top, black_at_top = rng.random(2) < 0.5
    black = int(rng.integers(1, _MOST_BLACK + 1))
    if cut_draw < args.incomplete_share:
        low, high = _CUT_TOP_S if at_top else _CUT_BOTTOM_S
        scan = cut_short(scan, (low + place * (high - low)) * along, bool(at_top))
    if black_draw < args.black_share:
        scan = replace(scan, black_slices=-black if black_at_top else black, black_rows=0.2 + 0.6 * float(rows))
    return scan


def cut_short(scan: Scan, at_mm: float, at_top: bool) -> Scan:
    """Leave out the slices above or below a place; one that would keep too few slices stays as it is.

    Args:
        scan: The whole acquisition.
        at_mm: Below the liver's dome, millimetres of the real patient.
        at_top: Whether the slices above it go.
    """
    step, slices = scan.spacing_mm[0], scan.shape[0]
    above = int(np.ceil((at_mm - scan.top_mm) / step))
    kept = slices - above if at_top else above
    if not _FEWEST_SLICES <= kept < slices:
        return scan
    shape = (kept, *scan.shape[1:])
    if not at_top:
        return replace(scan, shape=shape, incomplete=True)
    x, y, z = scan.origin_mm
    origin_mm = (x, y, round(z - above * step, 4))
    return replace(scan, shape=shape, top_mm=scan.top_mm + above * step, origin_mm=origin_mm, incomplete=True)


def blacken(hu: Int16[np.ndarray, "Z H W"], scan: Scan) -> None:
    """Set the lower rows of the first or last slices to the lowest value of the file, where the scan says so."""
    if not scan.black_slices:
        return
    end = hu[: -scan.black_slices] if scan.black_slices < 0 else hu[-scan.black_slices :]
    end[:, round(hu.shape[1] * (1 - scan.black_rows)) :] = max(scan.pixels.range_hu[0], -1024)
