"""Fused loops over channels-last maps for training on a CPU, compiled by numba when first called.

Axes: N images, P places (rows × columns), C channels. `scale` and `shift` are a batch norm's: z = a · scale + shift;
the activation is SiLU, y = z · σ(z). Each loop works on the images from `start` to `stop` and lets other Python threads
run. What is summed over images has a leading axis of shares: image n belongs to share n · shares // N.
"""

from typing import no_type_check

import numpy as np
from numba import njit

from voco2d.models.cpu_compile import JIT, compiled

_ROWS = 128
"""Values that are summed in float32 before they are added up in float64."""

_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)
_LOG2E, _LOW, _HIGH = np.float32(1.4426950408889634), np.float32(-120), np.float32(120)
_P1, _P2, _P3, _P4, _P5, _P6 = (np.float32(np.log(2) ** n / np.prod(np.arange(1.0, n + 1))) for n in range(1, 7))
"""Taylor coefficients of 2^r; the remainder is below 1e-7 for |r| ≤ 1/2."""
_BIAS, _MANTISSA = np.int32(127), np.int32(23)


@njit(inline="always", **JIT)
@no_type_check
def _sigmoid(z):
    power = min(max(-z * _LOG2E, _LOW), _HIGH)
    whole = np.floor(power + _HALF)
    r = power - whole
    part = _ONE + r * (_P1 + r * (_P2 + r * (_P3 + r * (_P4 + r * (_P5 + r * _P6)))))
    factor = np.int32((np.int32(whole) + _BIAS) << _MANTISSA).view(np.float32)  # 2^whole by its bits
    return _ONE / (_ONE + part * factor)


@compiled
@no_type_check
def moments(a, centre, sums, start, stop):
    """Add Σ (a − centre) and Σ (a − centre)² of a (N, P, C) to sums (shares, 2, C)."""
    places, channels = a.shape[1], a.shape[2]
    first, second = np.empty(channels, np.float32), np.empty(channels, np.float32)
    for n in range(start, stop):
        share = n * sums.shape[0] // a.shape[0]
        for begin in range(0, places, _ROWS):
            first[:] = _ZERO
            second[:] = _ZERO
            for p in range(begin, min(begin + _ROWS, places)):
                for c in range(channels):
                    d = a[n, p, c] - centre[c]
                    first[c] += d
                    second[c] += d * d
            for c in range(channels):
                sums[share, 0, c] += first[c]
                sums[share, 1, c] += second[c]


@compiled
@no_type_check
def gradient_sums(g, a, mean, sums, start, stop):
    """Add Σ g and Σ g · (a − mean) to sums (shares, 2, C)."""
    places, channels = a.shape[1], a.shape[2]
    first, second = np.empty(channels, np.float32), np.empty(channels, np.float32)
    for n in range(start, stop):
        share = n * sums.shape[0] // a.shape[0]
        for begin in range(0, places, _ROWS):
            first[:] = _ZERO
            second[:] = _ZERO
            for p in range(begin, min(begin + _ROWS, places)):
                for c in range(channels):
                    first[c] += g[n, p, c]
                    second[c] += g[n, p, c] * (a[n, p, c] - mean[c])
            for c in range(channels):
                sums[share, 0, c] += first[c]
                sums[share, 1, c] += second[c]


@compiled
@no_type_check
def normalise(a, scale, shift, residual, adds, out, start, stop):
    """Write z, with `residual` added where `adds`."""
    for n in range(start, stop):
        for p in range(a.shape[1]):
            if adds:
                for c in range(a.shape[2]):
                    out[n, p, c] = a[n, p, c] * scale[c] + shift[c] + residual[n, p, c]
            else:
                for c in range(a.shape[2]):
                    out[n, p, c] = a[n, p, c] * scale[c] + shift[c]


@compiled
@no_type_check
def activate(a, scale, shift, gate, gated, out, start, stop):
    """Write y, times gate (N, C) where `gated`."""
    for n in range(start, stop):
        for p in range(a.shape[1]):
            if gated:
                for c in range(a.shape[2]):
                    z = a[n, p, c] * scale[c] + shift[c]
                    out[n, p, c] = z * _sigmoid(z) * gate[n, c]
            else:
                for c in range(a.shape[2]):
                    z = a[n, p, c] * scale[c] + shift[c]
                    out[n, p, c] = z * _sigmoid(z)


@compiled
@no_type_check
def pool(a, scale, shift, out, start, stop):
    """Write the mean of y over the places to out (N, C)."""
    share = np.float32(_ONE / np.float32(a.shape[1]))
    for n in range(start, stop):
        out[n, :] = _ZERO
        for p in range(a.shape[1]):
            for c in range(a.shape[2]):
                z = a[n, p, c] * scale[c] + shift[c]
                out[n, c] += z * _sigmoid(z)
        for c in range(a.shape[2]):
            out[n, c] *= share


@compiled
@no_type_check
def gate_gradient(g, a, scale, shift, out, start, stop):
    """Write Σ g · y over the places to out (N, C)."""
    for n in range(start, stop):
        out[n, :] = _ZERO
        for p in range(a.shape[1]):
            for c in range(a.shape[2]):
                z = a[n, p, c] * scale[c] + shift[c]
                out[n, c] += g[n, p, c] * (z * _sigmoid(z))


@compiled
@no_type_check
def activation_gradient(g, a, scale, shift, mean, gate, pooled, gated, out, sums, start, stop):
    """Write dz = (g · gate + pooled) · y'(z), or g · y'(z) unless `gated`; add to sums as `gradient_sums`."""
    places, channels = a.shape[1], a.shape[2]
    first, second = np.empty(channels, np.float32), np.empty(channels, np.float32)
    for n in range(start, stop):
        share = n * sums.shape[0] // a.shape[0]
        for begin in range(0, places, _ROWS):
            first[:] = _ZERO
            second[:] = _ZERO
            for p in range(begin, min(begin + _ROWS, places)):
                for c in range(channels):
                    value = a[n, p, c]
                    z = value * scale[c] + shift[c]
                    gain = _sigmoid(z)
                    d = g[n, p, c]
                    if gated:
                        d = d * gate[n, c] + pooled[n, c]
                    d *= gain * (_ONE + z * (_ONE - gain))
                    out[n, p, c] = d
                    first[c] += d
                    second[c] += d * (value - mean[c])
            for c in range(channels):
                sums[share, 0, c] += first[c]
                sums[share, 1, c] += second[c]


@compiled
@no_type_check
def norm_gradient(g, a, factors, out, start, stop):
    """Write a batch norm's input gradient, factors (3, C): g · f₀ + a · f₁ + f₂."""
    for n in range(start, stop):
        for p in range(a.shape[1]):
            for c in range(a.shape[2]):
                out[n, p, c] = g[n, p, c] * factors[0, c] + a[n, p, c] * factors[1, c] + factors[2, c]
