"""Depthwise convolution of channels-last maps on a CPU, with the norm and activation before it, compiled by numba.

An image at a time: what belongs to one image stays in the processor's cache. Axes and words as in `cpu_kernels`; a (N,
H, W, C) is the map before its norm, w (k, k, C) the kernel.
"""

from typing import no_type_check

import numpy as np
from numba import njit

from voco2d.models.cpu_compile import JIT, compiled
from voco2d.models.cpu_kernels import _ONE, _ZERO, _sigmoid


@njit(**JIT)
@no_type_check
def _prepare(a, scale, shift, active, out):
    """Write y of an image (H, W, C), or the image itself unless `active`."""
    for i in range(a.shape[0]):
        for j in range(a.shape[1]):
            if active:
                for c in range(a.shape[2]):
                    z = a[i, j, c] * scale[c] + shift[c]
                    out[i, j, c] = z * _sigmoid(z)
            else:
                for c in range(a.shape[2]):
                    out[i, j, c] = a[i, j, c]


@njit(**JIT)
@no_type_check
def _convolve(y, w, stride, pad, out):
    """Write the convolution of y (H, W, C); taps outside of it count as zero."""
    height, width, channels = y.shape
    k = w.shape[0]
    for i in range(out.shape[0]):
        top = i * stride - pad
        for j in range(out.shape[1]):
            left = j * stride - pad
            inside = top >= 0 and left >= 0 and top + k <= height and left + k <= width
            if inside and k == 3:
                for c in range(channels):
                    out[i, j, c] = (
                        y[top, left, c] * w[0, 0, c]
                        + y[top, left + 1, c] * w[0, 1, c]
                        + y[top, left + 2, c] * w[0, 2, c]
                        + y[top + 1, left, c] * w[1, 0, c]
                        + y[top + 1, left + 1, c] * w[1, 1, c]
                        + y[top + 1, left + 2, c] * w[1, 2, c]
                        + y[top + 2, left, c] * w[2, 0, c]
                        + y[top + 2, left + 1, c] * w[2, 1, c]
                        + y[top + 2, left + 2, c] * w[2, 2, c]
                    )
                continue
            out[i, j, :] = _ZERO
            for u in range(max(0, -top), min(k, height - top)):
                if k == 5 and left >= 0 and left + 5 <= width:
                    for c in range(channels):
                        out[i, j, c] += (
                            y[top + u, left, c] * w[u, 0, c]
                            + y[top + u, left + 1, c] * w[u, 1, c]
                            + y[top + u, left + 2, c] * w[u, 2, c]
                            + y[top + u, left + 3, c] * w[u, 3, c]
                            + y[top + u, left + 4, c] * w[u, 4, c]
                        )
                else:
                    for v in range(max(0, -left), min(k, width - left)):
                        for c in range(channels):
                            out[i, j, c] += y[top + u, left + v, c] * w[u, v, c]


@njit(**JIT)
@no_type_check
def _scatter(g, w, stride, pad, out):
    """Write the input gradient (H, W, C) of the output gradient g, any stride."""
    height, width, channels = out.shape
    k = w.shape[0]
    out[:] = _ZERO
    for i in range(g.shape[0]):
        top = i * stride - pad
        for j in range(g.shape[1]):
            left = j * stride - pad
            for u in range(max(0, -top), min(k, height - top)):
                for v in range(max(0, -left), min(k, width - left)):
                    for c in range(channels):
                        out[top + u, left + v, c] += g[i, j, c] * w[u, v, c]


@njit(**JIT)
@no_type_check
def _correlate(y, g, stride, pad, out):
    """Add the weight gradient of an image to out (k, k, C), four places of a row at a time."""
    height, width, channels = y.shape
    columns = g.shape[1]
    k = out.shape[0]
    for u in range(k):
        for v in range(k):
            low = 0 if v >= pad else (pad - v + stride - 1) // stride
            high = min(columns, (width - 1 + pad - v) // stride + 1)
            for i in range(g.shape[0]):
                row = i * stride - pad + u
                if row < 0 or row >= height:
                    continue
                j = low
                while j + 4 <= high:
                    s = j * stride - pad + v
                    for c in range(channels):
                        out[u, v, c] += (
                            g[i, j, c] * y[row, s, c]
                            + g[i, j + 1, c] * y[row, s + stride, c]
                            + g[i, j + 2, c] * y[row, s + 2 * stride, c]
                            + g[i, j + 3, c] * y[row, s + 3 * stride, c]
                        )
                    j += 4
                while j < high:
                    s = j * stride - pad + v
                    for c in range(channels):
                        out[u, v, c] += g[i, j, c] * y[row, s, c]
                    j += 1


@compiled
@no_type_check
def depthwise(a, scale, shift, active, w, stride, pad, out, start, stop):
    """Write the convolution of y, or of `a` itself unless `active`."""
    y = np.empty(a.shape[1:], np.float32)
    for n in range(start, stop):
        _prepare(a[n], scale, shift, active, y)
        _convolve(y, w, stride, pad, out[n])


@compiled
@no_type_check
def depthwise_gradient(a, scale, shift, mean, active, w, g, b, factors, stride, pad, out, weight, sums, start, stop):
    """Go back through the norm after the convolution, the convolution, and the activation before it.

    Args:
        a: (N, H, W, C) the map before the norm whose activation was convolved.
        scale: Of that norm; also `shift` and `mean`.
        shift: See above.
        mean: See above.
        active: Whether there was a norm and an activation.
        w: (k, k, C).
        g: (N, H', W', C) gradient of the normalised output; g · f₀ + b · f₁ + f₂ is that of the output.
        b: (N, H', W', C) the convolution's output.
        factors: (3, C).
        stride: Of the convolution.
        pad: Of the convolution.
        out: (N, H, W, C) receives dz, or the gradient of `a` unless `active`.
        weight: (shares, k, k, C) float64, to which the weight gradient is added.
        sums: (shares, 2, C) float64, to which Σ dz and Σ dz · (a − mean) are added where `active`.
        start: First image.
        stop: One after the last.
    """
    channels, k = a.shape[3], w.shape[0]
    y, d = np.empty(a.shape[1:], np.float32), np.empty(b.shape[1:], np.float32)
    part, flipped = np.zeros(w.shape, np.float32), np.ascontiguousarray(w[::-1, ::-1])
    first, second = np.empty(channels, np.float32), np.empty(channels, np.float32)
    for n in range(start, stop):
        _prepare(a[n], scale, shift, active, y)
        for i in range(b.shape[1]):
            for j in range(b.shape[2]):
                for c in range(channels):
                    d[i, j, c] = g[n, i, j, c] * factors[0, c] + b[n, i, j, c] * factors[1, c] + factors[2, c]
        part[:] = _ZERO
        _correlate(y, d, stride, pad, part)
        share = n * sums.shape[0] // len(a)
        weight[share] += part
        if stride == 1:
            _convolve(d, flipped, 1, k - 1 - pad, out[n])
        else:
            _scatter(d, w, stride, pad, out[n])
        if not active:
            continue
        first[:] = _ZERO
        second[:] = _ZERO
        for i in range(a.shape[1]):
            for j in range(a.shape[2]):
                for c in range(channels):
                    value = a[n, i, j, c]
                    z = value * scale[c] + shift[c]
                    gain = _sigmoid(z)
                    e = out[n, i, j, c] * gain * (_ONE + z * (_ONE - gain))
                    out[n, i, j, c] = e
                    first[c] += e
                    second[c] += e * (value - mean[c])
        for c in range(channels):
            sums[share, 0, c] += first[c]
            sums[share, 1, c] += second[c]
