"""Writes networks for other runtimes: ONNX, OpenVINO and TorchScript, with the checkpoint's description inside."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sembox_ros.atomic import write_whole
from sembox_ros.config import SIZE_DIVISOR, Checked, InputConfig, option
from sembox_ros.errors import CheckpointError, ConfigError
from sembox_ros.inference.openvino_core import openvino_core
from sembox_ros.models.checkpoint import Checkpoint, describe
from sembox_ros.models.folding import fold
from sembox_ros.models.segmentation import SegmentationNet
from sembox_ros.models.sembox import NetworkOutput, output_fields, semantic_sizes
from sembox_ros.ops.resize import resize_through

if TYPE_CHECKING:  # torchao is for those who quantise
    from sembox_ros.models.quantization import FakeQuantized

SUFFIXES = {'onnx': '.onnx', 'openvino': '.xml', 'torchscript': '.pt'}
OPSET = 18
INPUT_NAME = 'images'
OPENVINO_SECTION = 'sembox_ros'  # of the file's runtime information
TORCHSCRIPT_ENTRY = 'sembox_ros.json'  # extra file inside the archive
EXAMPLE_HW = (256, 384)  # traced with: small, and with no number that could be taken for another
MAX_SIDE = 64  # of a dynamic canvas, in units of 128 pixels
MAX_BATCH = 64
# Not zero, so that no optimiser takes the border for a max-pooling's own, which is minus infinity: onnxruntime's
# Pad_Fusion (1.31.1) does and changes the result. The smallest number that half precision has.
PADDING = 6e-8


@dataclass(frozen=True)
class ExportOptions(Checked):
    """How an exported file differs from the network of the checkpoint; travels with the file.

    Attributes:
        size_hw: the one canvas that it takes, or None for any that is divisible by 128.
    """

    format: str = option('onnx', 'kind of file', choices=tuple(SUFFIXES))
    size_hw: tuple[int, int] | None = None
    batch: int = option(0, 'images that it takes at a time; 0: any number', minimum=0, maximum=MAX_BATCH)
    precision: str = option('fp32', 'what its weights are stored in', choices=('fp32', 'fp16', 'int8'))
    preprocessing: bool = option(False, 'it takes uint8 (B, H, W, 3) rgb and normalises')
    argmax: bool = option(False, 'it gives class ids instead of semantic logits')

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size_hw is not None:
            InputConfig(size_hw=self.size_hw)  # checks it
        if self.precision == 'int8' and (self.preprocessing or self.argmax or self.format == 'torchscript'):
            raise ConfigError('int8: comes as onnx or openvino, without --preprocessing and --argmax')


class ExportedNetwork(nn.Module):
    """A network as a file holds it: folded, without None among its outputs, float32 or uint8 at its ends.

    Args:
        checkpoint: with weights; left as it is. For int8 it must have been trained for that.
        options: what to add.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, checkpoint: Checkpoint, options: ExportOptions) -> None:
        super().__init__()
        self.network = load_quantized(checkpoint).converted() if options.precision == 'int8' else fold(checkpoint.model)
        self._dtype = torch.float16 if options.precision == 'fp16' else torch.float32
        self.network.to(self._dtype)
        self._options, self._reversed = options, checkpoint.input.channel_order == 'bgr'
        for name in ('mean', 'std'):
            values = torch.tensor(getattr(checkpoint.input, name)) * 255
            self.register_buffer(name, values[:, None, None])

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Run it.

        Args:
            images: (B, C, H, W) float32 normalised inputs; with preprocessing (B, H, W, 3) uint8 rgb.

        Returns:
            The tensors of `NetworkOutput` that there are, float32; with argmax (B, H, W) uint8 class ids at the size
            that the semantic logits stand for are in the place of these.
        """
        if self._options.preprocessing:
            images = images.flip(3) if self._reversed else images
            images = (images.permute(0, 3, 1, 2).float() - self.mean) / self.std
        raw = self.network(images.to(self._dtype))
        output = NetworkOutput._make(None if tensor is None else tensor.float() for tensor in raw)
        logits = output.semantic_logits
        if self._options.argmax and logits is not None:
            resized = resize_through(logits, semantic_sizes(self.network, logits))
            output = output._replace(semantic_logits=resized.argmax(dim=1).to(torch.uint8))
        return tuple(tensor for tensor in output if tensor is not None)


def load_quantized(checkpoint: Checkpoint) -> FakeQuantized:
    """The network of a checkpoint that was trained for int8, rounded as it was in training.

    Raises:
        ConfigError: torchao is not installed.
        CheckpointError: the checkpoint was not trained that way, or by another version.
    """
    from sembox_ros.models.quantization import FakeQuantized

    if not isinstance(checkpoint.model, SegmentationNet):
        raise CheckpointError(f'quantization: expected a network with a decoder, got {checkpoint.config.name}')
    network = FakeQuantized(checkpoint.model, checkpoint.config)
    network.set_ranges(checkpoint.quantization)
    return network.eval().requires_grad_(False)


def output_names(checkpoint: Checkpoint, options: ExportOptions) -> list[str]:
    """Names of an exported file's outputs, in order."""
    names = output_fields(checkpoint.config)
    return ['semantic_ids' if options.argmax and name == 'semantic_logits' else name for name in names]


def exported_input(checkpoint: Checkpoint, options: ExportOptions) -> InputConfig:
    """How images are prepared for the file: on the whole of its canvas, where it has one size."""
    if options.size_hw is None:
        return checkpoint.input
    resize = 'letterbox_fixed' if checkpoint.input.resize == 'letterbox' else checkpoint.input.resize
    return dataclasses.replace(checkpoint.input, size_hw=options.size_hw, resize=resize)


def describe_export(checkpoint: Checkpoint, options: ExportOptions) -> dict[str, str]:
    """The metadata of an exported file: the checkpoint's, for the file's canvas, and the options."""
    prepared = dataclasses.replace(checkpoint, input=exported_input(checkpoint, options))
    return {**describe(prepared), 'export': json.dumps(dataclasses.asdict(options))}


def check_export(checkpoint: Checkpoint, options: ExportOptions) -> ExportOptions:
    """The options with the size of a network that has only one filled in.

    Raises:
        ConfigError: the checkpoint's network cannot be exported that way.
    """
    if checkpoint.graph is not None:
        raise ConfigError(f'checkpoint: {checkpoint.graph.name} is an export already; export the .safetensors file')
    config = checkpoint.config
    if options.argmax and not config.semantic_classes:
        raise ConfigError(f'--argmax: {config.name} has no semantic output')
    if options.preprocessing and config.inputs != ('image',):
        raise ConfigError(f'--preprocessing: takes images alone, but {config.name} takes {" and ".join(config.inputs)}')
    canvas_hw = getattr(checkpoint.model, 'canvas_hw', None)
    if canvas_hw is None:
        return options
    if options.size_hw not in (None, canvas_hw):
        raise ConfigError(f'--size: {config.name} has one size, {canvas_hw[0]}x{canvas_hw[1]}; leave it out')
    return dataclasses.replace(options, size_hw=canvas_hw)


def make_onnx(checkpoint: Checkpoint, options: ExportOptions) -> Any:
    """The network as an `onnx.ModelProto`, folded, its description inside.

    fp32 or fp16 as the options say; int8, in QDQ form, only of a checkpoint that was trained for it: of others,
    `quantize.quantize` makes it of the fp32 one.

    Raises:
        ConfigError: onnx and onnxscript are not installed, or the options do not suit the network.
    """
    try:
        import onnxscript  # noqa: F401  (torch's exporter imports it late and fails late)
    except ImportError as error:
        raise ConfigError(f'{error.name} is not installed: pip install onnx onnxscript') from error
    options = check_export(checkpoint, options)
    shapes: dict[int, object] = {}
    if not options.batch:
        shapes[0] = torch.export.Dim('batch', min=1, max=MAX_BATCH)
    if options.size_hw is None:
        first = 1 if options.preprocessing else 2
        for axis, name in ((first, 'height'), (first + 1, 'width')):
            shapes[axis] = SIZE_DIVISOR * torch.export.Dim(f'{name}_{SIZE_DIVISOR}', min=1, max=MAX_SIDE)
    with quiet():
        program = torch.onnx.export(
            ExportedNetwork(checkpoint, options).eval(), (example_images(checkpoint, options),), dynamo=True,
            dynamic_shapes=(shapes or None,), input_names=[INPUT_NAME], output_names=output_names(checkpoint, options),
            opset_version=OPSET, verbose=False,
        )  # fmt: skip
    assert program is not None
    model = program.model_proto
    keep_padding(model)
    set_metadata(model, describe_export(checkpoint, options))
    return model


def example_images(checkpoint: Checkpoint, options: ExportOptions) -> Tensor:
    """Zeros of a shape and type that the file takes."""
    height, width = options.size_hw or EXAMPLE_HW
    count = options.batch or 2
    if options.preprocessing:
        return torch.zeros(count, height, width, 3, dtype=torch.uint8)
    return torch.zeros(count, checkpoint.config.input_channels, height, width)


def export_onnx(checkpoint: Checkpoint, path: Path, options: ExportOptions | None = None) -> None:
    """Write the network as ONNX, by default in fp32 for any batch and any canvas that it takes.

    Raises:
        ConfigError: see `make_onnx`, or the file cannot be written.
    """
    write_whole(path, make_onnx(checkpoint, options or ExportOptions()).SerializeToString(), ConfigError)


def save_openvino(model: Any, path: Path) -> None:
    """Write an `onnx.ModelProto` as OpenVINO's pair of files, `path` (.xml) and the weights beside it (.bin).

    Raises:
        ConfigError: openvino is not installed or cannot read the network.
    """
    core = openvino_core()
    import openvino

    try:
        converted = core.read_model(model.SerializeToString())
        for prop in model.metadata_props:
            converted.set_rt_info(prop.value, [OPENVINO_SECTION, prop.key])
        openvino.save_model(converted, path, compress_to_fp16=False)  # the network has the type that was asked for
    except RuntimeError as error:
        raise ConfigError(f'{path}: openvino cannot write it: {str(error).splitlines()[0]}') from error


def save_torchscript(checkpoint: Checkpoint, path: Path, options: ExportOptions) -> None:
    """Write the traced network, its description as the archive's extra file `sembox_ros.json`.

    Such files hold code, so sembox_ros never reads one that it is given.
    """
    options = check_export(checkpoint, options)
    with quiet(), torch.no_grad():
        traced = torch.jit.trace(
            ExportedNetwork(checkpoint, options).eval(), (example_images(checkpoint, options),), check_trace=False
        )
        description = json.dumps(describe_export(checkpoint, options))
        torch.jit.save(traced, str(path), _extra_files={TORCHSCRIPT_ENTRY: description})


def set_metadata(model: Any, described: dict[str, str]) -> None:
    """Replace what an `onnx.ModelProto` says of itself."""
    del model.metadata_props[:]
    for key, text in described.items():
        model.metadata_props.add(key=key, value=text)


def keep_padding(model: Any) -> None:
    """Give the zero padding before each max-pooling of an ONNX model a value that is zero in all but name."""
    from onnx import TensorProto, helper

    graph = model.graph
    pooled = {node.input[0] for node in graph.node if node.op_type == 'MaxPool'}
    padding = [node for node in graph.node if node.op_type == 'Pad' and node.output[0] in pooled]
    if padding:
        half = any(tensor.data_type == TensorProto.FLOAT16 and len(tensor.dims) == 4 for tensor in graph.initializer)
        kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
        graph.initializer.append(helper.make_tensor('almost_zero', kind, (), [PADDING]))
    for node in padding:
        node.input[:] = [*node.input[:2], 'almost_zero']  # the third is the value, zero if absent


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the exporters' talk and their warnings about themselves to themselves."""
    level = logging.getLogger('torch.onnx').level
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter('ignore')
        logging.getLogger('torch.onnx').setLevel(logging.ERROR)
        try:
            yield
        finally:
            logging.getLogger('torch.onnx').setLevel(level)
