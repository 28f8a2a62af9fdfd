"""Stand-in weights and inputs that follow from parameter names alone, bit for bit, on every machine.

They let networks be compared without exchanging weights: a reference implementation that was run once with them
left its outputs in a golden file, and an importer proves itself by reproducing these. Only NumPy's PCG64 stream
(fixed across versions) and integer sums are used, so neither order nor library version matters.

A deviate z is the centred sum of four 16-bit integers over its standard deviation: mean 0, variance 1, |z| < 3.47.
Filters are made to sum to zero (depthwise ones to one) and the statistics of norms are scaled by what arrives
there; otherwise a hundred layers would forget their input and only biases would be compared.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping

import numpy as np

UNIT = np.sqrt(3.0) / 65536.0  # one over the standard deviation of the integer sums
INPUT_GRAINS = (1, 8, 32, 128)  # pixels; white noise alone averages out in coarse maps


def draw_integers(name: str, shape: tuple[int, ...], salt: int) -> np.ndarray:
    """Centred sums of four 16-bit integers, int64 of that shape; depends on nothing but the arguments."""
    count = int(np.prod(shape, dtype=np.int64))
    words = np.random.PCG64([zlib.crc32(name.encode()), salt]).random_raw(count)
    total = np.asarray(words, '<u8').view('<u2').reshape(count, 4).astype(np.int64).sum(axis=1)
    return (total - 2 * 65535).reshape(shape)


def fill(name: str, shape: tuple[int, ...], salt: int, scale: float = 1.0) -> np.ndarray:
    """Value of one state dict entry.

    Args:
        name: its key; the last part says what it is.
        shape: its shape; a weight with shape[1] == 1 is depthwise.
        salt: another number gives another set of weights.
        scale: of running statistics, the RMS of what arrives at that norm.

    Returns:
        float32 of that shape, int64 for num_batches_tracked. With z of the name: running_var scale^2 (1 + 0.2 |z|),
        running_mean 0.1 scale z, bias 0.1 z, norm weight 1 + 0.1 z, other weight (z - mean) / sqrt(fan_in) with
        1 / fan_in added if depthwise, anything else (fusion weights) 1 + 0.8 z with a positive first element.
    """
    leaf = name.rpartition('.')[2]
    if leaf == 'num_batches_tracked':
        return np.zeros(shape, np.int64)
    integers = draw_integers(name, shape, salt)
    z = integers * UNIT
    if leaf == 'running_var':
        value = scale * scale * (1.0 + 0.2 * np.abs(z))
    elif leaf == 'running_mean':
        value = scale * 0.1 * z
    elif leaf == 'bias':
        value = 0.1 * z
    elif leaf != 'weight':
        value = 1.0 + 0.8 * z
        value.flat[0] = abs(value.flat[0])
    elif len(shape) <= 1:
        value = 1.0 + 0.1 * z
    else:
        value = _filters(integers)
    return value.astype(np.float32)


def _filters(integers: np.ndarray) -> np.ndarray:
    """Filters (out, in, ...) without mean; integers until the last step, so that the mean is exact."""
    fan_in = int(np.prod(integers.shape[1:]))
    total = integers.sum(axis=tuple(range(1, integers.ndim)), keepdims=True)
    value = (integers * fan_in - total) * (UNIT / (fan_in * np.sqrt(fan_in)))
    return value + 1.0 / fan_in if integers.shape[1] == 1 else value


def fill_state(
    shapes: Mapping[str, tuple[int, ...]], salt: int, norm_scales: Mapping[str, float]
) -> dict[str, np.ndarray]:
    """Every entry of a state dict.

    Args:
        shapes: key -> shape.
        salt: as in `fill`.
        norm_scales: name of a norm layer -> RMS of what arrives there; 1 where there is none.
    """
    return {
        name: fill(name, shape, salt, float(norm_scales.get(name.rpartition('.')[0], 1.0)))
        for name, shape in shapes.items()
    }


def make_input(seed: int, shape: tuple[int, int, int, int]) -> np.ndarray:
    """Float32 images (N, C, H, W) of standard deviation about 1 with detail at several scales."""
    count, channels, height, width = shape
    images = np.zeros(shape)
    for grain in INPUT_GRAINS:
        coarse = (count, channels, -(-height // grain), -(-width // grain))
        z = draw_integers(f'input/{grain}', coarse, seed) * UNIT
        images += 0.5 * z.repeat(grain, axis=2).repeat(grain, axis=3)[:, :, :height, :width]
    return images.astype(np.float32)


def checksum(arrays: Iterable[np.ndarray]) -> int:
    """CRC-32 over the little-endian bytes of float32 and int64 arrays, in order."""
    crc = 0
    for array in arrays:
        kind = '<i8' if array.dtype.kind == 'i' else '<f4'
        crc = zlib.crc32(np.ascontiguousarray(array).astype(kind).tobytes(), crc)
    return crc
