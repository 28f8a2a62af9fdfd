"""The least time that a machine can need for a network: its arithmetic, and its memory.

The work of a network is counted from the convolutions and matrix products that it runs: multiply-adds, and the values
that must move if each of these reads its input and its weights once and writes its output once, everything between them
(norms, activations, additions, resizing) being done on the way. Fusing whole chains of convolutions, or a cache that
holds a tensor until it is read again, can move less; a share above 100 % is then no mistake.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from sembox_ros.inference.openvino_core import openvino_core

MATRIX_SIZES = (1024, 2048, 4096)
COPY_BYTES = 2**28
REPEATS = 5
# Operator -> which argument is the input; those after it, and a bias before it, are weights.
_PRODUCTS = {'convolution': 0, 'mm': 0, 'bmm': 0, 'addmm': 1, 'baddbmm': 1}


@dataclass(frozen=True)
class Work:
    """What one forward pass must do.

    Attributes:
        multiply_adds: of convolutions and matrix products.
        weights: values of their weights and biases.
        activations: values of their inputs and outputs.
    """

    multiply_adds: int
    weights: int
    activations: int

    def __add__(self, other: Work) -> Work:
        """The work of both, one after the other."""
        return Work(
            self.multiply_adds + other.multiply_adds,
            self.weights + other.weights,
            self.activations + other.activations,
        )

    def bytes(self, width: int) -> int:
        """Bytes that must move with values of `width` bytes."""
        return (self.weights + self.activations) * width


@dataclass(frozen=True)
class Limits:
    """What a machine can do.

    Attributes:
        flops: dtype's name (fp32, bf16, ...) -> floating point operations per second of the best matrix product.
        bandwidth: bytes per second of a large copy, reading and writing added.
        how: dtype's name -> which library and size that was.
    """

    flops: dict[str, float]
    bandwidth: float
    how: dict[str, str]


class _Products(TorchDispatchMode):
    """Adds up the values that convolutions and matrix products read and write; of real tensors, not of meta ones."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = self.activations = 0
        self._seen: set[tuple[int, int]] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        place = _PRODUCTS.get(func._schema.name.split('::')[-1])
        if place is None:  # in inference mode, operators made of others arrive whole
            with self:
                result = func.decompose(*args, **(kwargs or {}))
            if result is not NotImplemented:
                return result
        result = func(*args, **(kwargs or {}))
        if place is not None:
            self.activations += args[place].numel() + result.numel()
            for index, tensor in enumerate(args):
                if isinstance(tensor, Tensor) and index != place:
                    self._add_weight(tensor)
        return result

    def _add_weight(self, tensor: Tensor) -> None:
        key = (tensor.data_ptr(), tensor.numel())
        if key not in self._seen:  # heads share weights between levels: they are read once
            self._seen.add(key)
            self.weights += tensor.numel()


def count_work(run: Callable[[], object]) -> Work:
    """The work of one eager run of a network, in any form that runs through torch's operators.

    Args:
        run: calls the network once on real tensors.
    """
    flops, products = FlopCounterMode(display=False), _Products()
    with torch.no_grad(), flops:
        run()
    with torch.no_grad(), products:
        run()
    return Work(flops.get_total_flops() // 2, products.weights, products.activations)


def best_seconds(run: Callable[[], object], wait: Callable[[], object] = lambda: None) -> float:
    """The shortest of `REPEATS` runs after one more; a limit is what a machine can do, not what it does usually.

    Args:
        run: what to time.
        wait: called before each look at the clock, for devices that work on their own.
    """
    run()
    best = math.inf
    for _ in range(REPEATS):
        wait()
        start = time.perf_counter()
        run()
        wait()
        best = min(best, time.perf_counter() - start)
    return best


def _openvino_product(size: int, dtype: str, threads: int) -> Callable[[], object]:
    """A square matrix product by OpenVINO, both factors being inputs."""
    import openvino

    left, right = (openvino.opset13.parameter([size, size], openvino.Type.f32) for _ in range(2))
    model = openvino.Model([openvino.opset13.matmul(left, right, False, False)], [left, right], 'product')
    hint = {'fp32': 'f32', 'bf16': 'bf16'}[dtype]
    options = {'INFERENCE_PRECISION_HINT': hint, 'INFERENCE_NUM_THREADS': threads}
    request = openvino_core().compile_model(model, 'CPU', options).create_infer_request()
    for place in range(2):  # filled in place: the tensors then live as long as the request
        request.get_input_tensor(place).data[:] = torch.rand(size, size).numpy()
    return request.infer


def measure_limits_of_cpu(dtypes: tuple[str, ...], threads: int) -> Limits:
    """Peak of matrix products by torch and by OpenVINO, and bandwidth of a copy, on the processor.

    Args:
        dtypes: of fp32 and bf16.
        threads: as the candidates use.
    """
    flops, how = {}, {}
    for dtype in dtypes:
        speeds = {}
        for size in MATRIX_SIZES:
            factor = torch.rand(size, size, dtype={'fp32': torch.float32, 'bf16': torch.bfloat16}[dtype])
            out = torch.empty_like(factor)
            products = {
                'torch': lambda a=factor, out=out: torch.mm(a, a, out=out),
                'openvino': _openvino_product(size, dtype, threads),
            }
            for library, product in products.items():
                speeds[f'{library}, {size}x{size}'] = 2 * size**3 / best_seconds(product)
        how[dtype] = max(speeds, key=lambda name: speeds[name])
        flops[dtype] = speeds[how[dtype]]
    source = torch.ones(COPY_BYTES // 4)
    target = torch.empty_like(source)
    return Limits(flops, 2 * COPY_BYTES / best_seconds(lambda: target.copy_(source)), how)


def measure_limits_of_gpu(dtypes: Mapping[str, torch.dtype]) -> Limits:
    """Peak of torch's matrix products, and bandwidth of a copy, on the CUDA device."""
    flops, how = {}, {}
    for name, dtype in dtypes.items():
        speeds = {}
        for size in (*MATRIX_SIZES, 8192):
            factor = torch.rand(size, size, device='cuda').to(dtype)
            seconds = best_seconds(lambda factor=factor: factor @ factor, torch.cuda.synchronize)
            speeds[f'torch, {size}x{size}'] = 2 * size**3 / seconds
        how[name] = max(speeds, key=lambda key: speeds[key])
        flops[name] = speeds[how[name]]
    source = torch.ones(4 * COPY_BYTES, dtype=torch.uint8, device='cuda')
    target = torch.empty_like(source)
    seconds = best_seconds(lambda: target.copy_(source), torch.cuda.synchronize)
    return Limits(flops, 2 * source.numel() / seconds, how)


def least_ms(work: Work, limits: Limits, dtype: str) -> tuple[float, float]:
    """Milliseconds that the arithmetic and that the memory need at least.

    Args:
        work: of one forward pass.
        limits: of the machine.
        dtype: of weights and activations: fp32, bf16 or fp16.
    """
    width = 4 if dtype == 'fp32' else 2
    return 2e3 * work.multiply_adds / limits.flops[dtype], 1e3 * work.bytes(width) / limits.bandwidth
