"""Exported networks: ONNX files with the checkpoint's description inside, which other engines read.

Everything in such a file but the arithmetic is the checkpoint's own metadata, so that the file alone is enough for
`Predictor`. A checkpoint that an engine needs in this form is exported once, into the user's cache.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch

from sembox_ros import models
from sembox_ros.config import from_mapping
from sembox_ros.errors import CheckpointError, ConfigError, SemboxError
from sembox_ros.inference import export
from sembox_ros.inference.cache import cache_folder
from sembox_ros.inference.export import OPENVINO_SECTION, ExportOptions, export_onnx
from sembox_ros.inference.openvino_core import openvino_core
from sembox_ros.models.checkpoint import Checkpoint, digest_tensors, parse_description
from sembox_ros.models.checkpoint_file import parse_json, printable
from sembox_ros.models.sembox import NetworkOutput, output_fields


def network_key(checkpoint: Checkpoint) -> str:
    """Hexadecimal digest of everything that makes the network's numbers: weights, architecture, and our own code."""
    if checkpoint.graph is not None:
        return hashlib.sha256(checkpoint.graph.read_bytes()).hexdigest()
    digest = hashlib.sha256(f'{checkpoint.config} {digest_tensors(checkpoint.model.state_dict())}'.encode())
    for file in (*sorted(Path(models.__file__).parent.rglob('*.py')), Path(export.__file__)):
        digest.update(file.read_bytes())
    return digest.hexdigest()


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


def join_outputs(names: Sequence[str], results: Sequence[Sequence[np.ndarray]]) -> NetworkOutput:
    """One output from the arrays of each image; of one image, the very same memory.

    Args:
        names: of the arrays, as in `NetworkOutput`.
        results: of each image.
    """
    columns = zip(*results, strict=True)
    parts = (torch.from_numpy(np.concatenate(c) if len(results) > 1 else c[0]) for c in columns)
    named = dict(zip(names, parts, strict=True))
    return NetworkOutput._make(named.get(field) for field in NetworkOutput._fields)


def load_exported(path: str | Path) -> Checkpoint:
    """The checkpoint that an exported file was made of, without its weights; `Checkpoint.graph` is the file.

    Raises:
        CheckpointError: missing, damaged, or not written by `python -m sembox_ros export`.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise CheckpointError(f'checkpoint: expected an exported file, but {path} does not exist or is not a file')
    try:
        described, names = EXPORTED[path.suffix](path)
        options = parse_options(described)
        checkpoint = parse_description(described, graph=path)
        wanted = output_fields(checkpoint.config)
        if not set(wanted) <= names:
            raise CheckpointError(f'expected outputs {", ".join(wanted)}, got {", ".join(sorted(names)) or "none"}')
        return dataclasses.replace(checkpoint, graph_precision=options.precision)
    except SemboxError as error:
        raise CheckpointError(f'{path}: {printable(error, limit=700)}') from error


def parse_options(described: Mapping[str, str]) -> ExportOptions:
    """How a file was exported, from its metadata, perhaps damaged or made up.

    Raises:
        SemboxError: that is not said, or the file is made for other people's runtimes.
    """
    if 'export' not in described:
        raise CheckpointError('not an exported network of sembox_ros; write one with python -m sembox_ros export')
    try:
        values = parse_json(described['export'])
    except ValueError as error:
        raise CheckpointError(f"metadata 'export' is not JSON ({error})") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"metadata 'export' should be a JSON dict, got {type(values).__name__}")
    size_hw = values.get('size_hw')
    if size_hw is not None and not isinstance(size_hw, list):
        raise CheckpointError(f"metadata 'export': expected size_hw null or a list, got {type(size_hw).__name__}")
    options = from_mapping(ExportOptions, values)
    for name in ('preprocessing', 'argmax'):
        if getattr(options, name):
            raise CheckpointError(
                f'exported with --{name}, which is for other runtimes; sembox_ros runs files exported without it'
            )
    if options.batch > 1:
        raise CheckpointError(
            f'exported for {options.batch} images at a time, for other runtimes; export it with --batch 1 or without'
        )
    return options


def _read_onnx(path: Path) -> tuple[dict[str, str], set[str]]:
    """Metadata and the names of the outputs."""
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
    return {prop.key: prop.value for prop in model.metadata_props}, {output.name for output in model.graph.output}


def _read_openvino(path: Path) -> tuple[dict[str, str], set[str]]:
    """Metadata and the names of the outputs."""
    try:
        model = openvino_core().read_model(path)
    except RuntimeError as error:
        raise CheckpointError(f'not a readable .xml file ({printable(error, limit=200)})') from error
    names = {name for output in model.outputs for name in output.get_names()}
    section = model.get_rt_info(OPENVINO_SECTION).value if model.has_rt_info(OPENVINO_SECTION) else None
    if not isinstance(section, dict):
        return {}, names
    return {key: v if isinstance(v, str) else str(v.astype(str)) for key, v in section.items()}, names


EXPORTED: Mapping[str, Callable[[Path], tuple[dict[str, str], set[str]]]] = MappingProxyType(
    {'.onnx': _read_onnx, '.xml': _read_openvino}
)
