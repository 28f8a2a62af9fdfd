"""Exported networks: ONNX files with the checkpoint's description inside, which other engines read.

Everything in such a file but the arithmetic is the checkpoint's own metadata, so that the file alone is enough for
`Predictor`. A checkpoint that an engine needs in this form is exported once, into the user's cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sembox_ros import __version__
from sembox_ros.errors import CheckpointError, ConfigError, SemboxError
from sembox_ros.inference.cache import cache_folder
from sembox_ros.models.checkpoint import Checkpoint, describe, digest_tensors, parse_description
from sembox_ros.models.checkpoint_file import printable
from sembox_ros.models.folding import fold
from sembox_ros.models.sembox import NetworkOutput

OPSET = 18
INPUT_NAME = 'images'
OPENVINO_SECTION = 'sembox_ros'  # of the file's runtime information
EXAMPLE_HW = (256, 384)  # traced with: small, and with no number that could be taken for another
MAX_SIDE = 64  # of a dynamic canvas, in units of 128 pixels
MAX_BATCH = 64
# Not zero, so that no optimiser takes the border for a max-pooling's own, which is minus infinity: onnxruntime's
# Pad_Fusion (1.31.1) does and changes the result. The smallest number that half precision has.
PADDING = 6e-8


class PlainOutputs(nn.Module):
    """A network that leaves out what it does not give, since exporters know no None."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) to the tensors of `NetworkOutput` that there are."""
        return tuple(tensor for tensor in self.network(images) if tensor is not None)


def network_key(checkpoint: Checkpoint) -> str:
    """Hexadecimal digest of everything that makes the network's numbers."""
    if checkpoint.graph is not None:
        return hashlib.sha256(checkpoint.graph.read_bytes()).hexdigest()
    return hashlib.sha256(
        f'{__version__} {checkpoint.config} {digest_tensors(checkpoint.model.state_dict())}'.encode()
    ).hexdigest()


def find_graph(checkpoint: Checkpoint) -> Path:
    """The exported file of a checkpoint: its own, or one that is made now and kept in the cache.

    Raises:
        ConfigError: the exporter is not installed, or the cache cannot be written.
    """
    if checkpoint.graph is not None:
        return checkpoint.graph
    path = cache_folder() / f'{network_key(checkpoint)}.onnx'
    if not path.exists():
        export_onnx(checkpoint, path)
    return path


def export_onnx(checkpoint: Checkpoint, path: Path) -> None:
    """Write the folded network as ONNX, for any batch and any canvas that the network takes.

    Inputs: `images` (B, 3, H, W) float32, normalised. Outputs: the tensors of `NetworkOutput` by their names.

    Args:
        checkpoint: with weights.
        path: a name ending in .onnx; the file appears whole or not at all.

    Raises:
        ConfigError: onnx and onnxscript are not installed, or the file cannot be written.
    """
    try:
        import onnxscript  # noqa: F401  (torch's exporter imports it late and fails late)
    except ImportError as error:
        raise ConfigError(f'{error.name} is not installed: pip install onnx onnxscript') from error
    fixed = hasattr(checkpoint.model, 'canvas_hw')
    size_hw = checkpoint.input.size_hw if fixed else EXAMPLE_HW
    shapes: dict[int, object] = {0: torch.export.Dim('batch', min=1, max=MAX_BATCH)}
    if not fixed:
        for axis, name in ((2, 'height'), (3, 'width')):
            shapes[axis] = 128 * torch.export.Dim(f'{name}_128', min=1, max=MAX_SIDE)
    network = PlainOutputs(fold(checkpoint.model)).eval()
    example = torch.zeros(2, 3, *size_hw)
    names = [n for n in NetworkOutput._fields if n != 'semantic_logits' or checkpoint.config.semantic_classes]
    with _quiet():
        program = torch.onnx.export(
            network, (example,), dynamo=True, dynamic_shapes=(shapes,), input_names=[INPUT_NAME], output_names=names,
            opset_version=OPSET, verbose=False,
        )  # fmt: skip
    assert program is not None
    model = program.model_proto
    _keep_padding(model)
    for key, text in describe(checkpoint).items():
        model.metadata_props.add(key=key, value=text)
    write_whole(path, model.SerializeToString())


def join_outputs(results: Sequence[Sequence[np.ndarray]]) -> NetworkOutput:
    """One output from the arrays of each image, in the order of `NetworkOutput`; of one image, the very same memory."""
    columns = zip(*results, strict=True)
    parts = [torch.from_numpy(np.concatenate(c) if len(results) > 1 else c[0]) for c in columns]
    return NetworkOutput(parts[0], parts[1], parts[2] if len(parts) > 2 else None)


def load_exported(path: str | Path) -> Checkpoint:
    """The checkpoint that an exported file was made of, without its weights; `Checkpoint.graph` is the file.

    Raises:
        CheckpointError: missing, damaged, or not written by `python -m sembox_ros export`.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise CheckpointError(f'checkpoint: expected an exported file, but {path} does not exist or is not a file')
    try:
        described = EXPORTED[path.suffix](path)
        return parse_description(described, graph=path)
    except SemboxError as error:
        raise CheckpointError(f'{path}: {printable(error, limit=700)}') from error


def _read_onnx_metadata(path: Path) -> dict[str, str]:
    try:
        import onnx
    except ImportError as error:
        raise ConfigError('onnx is not installed: pip install onnx') from error
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # of protobuf's own kinds
        raise CheckpointError(f'not a readable .onnx file ({printable(error, limit=200)})') from error
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer):
        raise CheckpointError('its weights lie in another file; export it with python -m sembox_ros export')
    return {prop.key: prop.value for prop in model.metadata_props}


def _read_openvino_metadata(path: Path) -> dict[str, str]:
    try:
        import openvino
    except ImportError as error:
        raise ConfigError('openvino is not installed: pip install openvino') from error
    try:
        model = openvino.Core().read_model(path)
    except RuntimeError as error:
        raise CheckpointError(f'not a readable .xml file ({printable(error, limit=200)})') from error
    if not model.has_rt_info(OPENVINO_SECTION):
        return {}
    return {key: str(value.astype(str)) for key, value in model.get_rt_info(OPENVINO_SECTION).value.items()}


EXPORTED: Mapping[str, Callable[[Path], dict[str, str]]] = MappingProxyType(
    {'.onnx': _read_onnx_metadata, '.xml': _read_openvino_metadata}
)


def _keep_padding(model: Any) -> None:
    """Give the zero padding before each max-pooling of an ONNX model a value that is zero in all but name."""
    from onnx import helper

    graph = model.graph
    pooled = {node.input[0] for node in graph.node if node.op_type == 'MaxPool'}
    padding = [node for node in graph.node if node.op_type == 'Pad' and node.output[0] in pooled]
    if padding:
        graph.initializer.append(helper.make_tensor('almost_zero', 1, (), [PADDING]))
    for node in padding:
        node.input[:] = [*node.input[:2], 'almost_zero']  # the third is the value, zero if absent


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's talk and its warnings about itself to itself."""
    level = logging.getLogger('torch.onnx').level
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter('ignore')
        logging.getLogger('torch.onnx').setLevel(logging.ERROR)
        try:
            yield
        finally:
            logging.getLogger('torch.onnx').setLevel(level)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that appears whole or not at all.

    Raises:
        ConfigError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.name}.')
        try:
            with os.fdopen(handle, 'wb') as file:
                file.write(data)
            os.chmod(partial, 0o644)
            os.replace(partial, path)
        finally:
            Path(partial).unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f'{path}: cannot be written: {error}') from error
