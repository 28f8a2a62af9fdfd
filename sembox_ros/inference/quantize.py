"""INT8 for CPUs: onnxruntime's static quantisation, with what hurts the network's numbers left in float32."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from sembox_ros.errors import ConfigError
from sembox_ros.inference.export import INPUT_NAME

# All but Reshape, Transpose and the means: int8 pays only where one operation hands it to the next. With convolutions
# alone the file was slower than float32 (docs/engines.md).
OPERATORS = ('Conv', 'Relu', 'Clip', 'Mul', 'Add', 'MaxPool', 'Concat', 'Sigmoid', 'Resize', 'Pad')
GATE_CONVOLUTIONS = 2  # of a squeeze-and-excitation block, after its mean


def quantize(model: Any, batches: Iterable[np.ndarray]) -> Any:
    """A float32 `onnx.ModelProto` as one in QDQ form: int8 weights per channel, uint8 activations per tensor.

    Args:
        model: from `export.make_onnx`.
        batches: (B, C, H, W) float32 normalised inputs of the kind that the network will see; their extremes become
            the ranges of the activations.

    Raises:
        ConfigError: onnxruntime is not installed, or there are no pictures.
    """
    try:
        from onnxruntime import quantization
    except ImportError as error:
        raise ConfigError(f'{error.name} is not installed: pip install onnx onnxruntime') from error
    import onnx

    reader = _Reader(batches)
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it warns at length about what was decided here
    try:
        with tempfile.TemporaryDirectory(prefix='sembox_ros-int8-') as folder:
            path = Path(folder) / 'int8.onnx'
            quantization.quantize_static(
                model, path, reader, quant_format=quantization.QuantFormat.QDQ, op_types_to_quantize=list(OPERATORS),
                nodes_to_exclude=sensitive_nodes(model.graph), per_channel=True,
                activation_type=quantization.QuantType.QUInt8, weight_type=quantization.QuantType.QInt8,
                calibrate_method=quantization.CalibrationMethod.MinMax,
            )  # fmt: skip
            return onnx.load(path)
    except ValueError as error:
        if reader.count == 0:
            raise ConfigError('int8: there are no calibration images; name a dataset with some') from error
        raise
    finally:
        root.setLevel(level)


def sensitive_nodes(graph: Any) -> list[str]:
    """Names of the nodes that stay in float32: the first convolution and every squeeze-and-excitation gate.

    The first one reads the image, whose few bright pixels need the range; gates multiply whole channels, and cost
    next to nothing.
    """
    readers: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    found = {next(node.name for node in graph.node if node.op_type == 'Conv')}
    waiting = [(node, 0) for node in graph.node if node.op_type == 'ReduceMean']
    while waiting:
        node, convolutions = waiting.pop()
        found.add(node.name)
        convolutions += node.op_type == 'Conv'
        if convolutions < GATE_CONVOLUTIONS:
            waiting += [(reader, convolutions) for output in node.output for reader in readers.get(output, [])]
    return sorted(found)


class _Reader:
    """Pictures as onnxruntime's calibration wants them."""

    def __init__(self, batches: Iterable[np.ndarray]) -> None:
        self._batches: Iterator[np.ndarray] = iter(batches)
        self.count = 0

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next batch under the name of the input, or None at the end."""
        batch = next(self._batches, None)
        if batch is None:
            return None
        self.count += 1
        return {INPUT_NAME: batch}
