"""Does an exported file compute what the network computes? Compared through the runtimes that will read it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from sembox_ros.config import INPUT_CHANNELS
from sembox_ros.errors import CheckpointError, ConfigError
from sembox_ros.inference.choice import probe_batch
from sembox_ros.inference.export import INPUT_NAME, ExportOptions, exported_input, load_quantized, output_names
from sembox_ros.inference.openvino_core import openvino_core
from sembox_ros.inference.preprocess import Preprocessor
from sembox_ros.models.checkpoint import Checkpoint
from sembox_ros.models.folding import fold
from sembox_ros.models.sembox import NetworkOutput, resize_maps
from sembox_ros.ops.placement import place_image

# How far an output may be from PyTorch's in fp32: its largest difference, of int8 files the mean one. Class ids
# differ by how far the logit of the id that was given is below the highest.
TOLERANCES = {'fp32': 1e-3, 'fp16': 0.1, 'int8': 1.0}
# Of a network trained for int8, which PyTorch rounds too: runtimes may differ in the last bit, which layers amplify.
LEARNT_TOLERANCE = 0.5
# Large logits, or a network that was hardly trained and amplifies every rounding, are not that exact in PyTorch itself:
# an output may be farther off by so many times what PyTorch gives in float32 is from what it gives in float64.
ROUNDINGS = 10
SIZES_HW = ((256, 512), (384, 256))  # of a file that takes any

Runtime = Callable[[np.ndarray], list[np.ndarray]]


@dataclass(frozen=True)
class Difference:
    """One output of one run against PyTorch.

    Attributes:
        runtime: what ran the file.
        shape: of the images that it was given.
        output: its name in the file.
        value: the difference, in logits, box offsets or logarithms of depths.
        tolerance: what it may be.
    """

    runtime: str
    shape: tuple[int, ...]
    output: str
    value: float
    tolerance: float

    @property
    def ok(self) -> bool:
        """Whether it is within the tolerance; NaN is not."""
        return self.value <= self.tolerance

    def __str__(self) -> str:
        shape = 'x'.join(map(str, self.shape))
        return f'{self.runtime} {shape} {self.output}: {self.value:.2g} (allowed {self.tolerance:.2g})'


def verify_export(
    path: Path, checkpoint: Checkpoint, options: ExportOptions, picture: np.ndarray | None = None
) -> list[Difference]:
    """Run an exported file on pictures of several shapes and compare every output with the folded network's,
    or with that of the rounding one where the checkpoint was trained for int8.

    ONNX runs in onnxruntime with its default optimisers and, if installed, in OpenVINO; the others in their own.

    Args:
        path: the file, just written here: TorchScript would run its code.
        checkpoint: what it was made of.
        options: with which it was made, as `export.check_export` gave them.
        picture: (H, W, 3) uint8 rgb to compare on; int8 files are near only on pictures like those that they were
            calibrated on. None: shapes, edges and texture made by chance.

    Raises:
        CheckpointError: an output is missing, of another shape, or too far off.
        ConfigError: the runtime that it is for is not installed.
    """
    found = []
    names = output_names(checkpoint, options)
    learnt = options.precision == 'int8' and bool(checkpoint.quantization)
    network = load_quantized(checkpoint) if learnt else fold(checkpoint.model)
    tolerance = LEARNT_TOLERANCE if learnt else TOLERANCES[options.precision]
    exact = None if learnt else copy.deepcopy(network).double()
    examples = [
        _example(checkpoint, network, exact, options, _pictures(picture, checkpoint, count, size_hw))
        for count, size_hw in _shapes(options)
    ]
    for runtime, run in _runtimes(path, options):
        for images, expected, roundings in examples:
            try:
                results = run(images)
            except Exception as error:  # of the libraries' own kinds, which share no base class
                raise CheckpointError(f'{runtime} cannot run it: {str(error).splitlines()[0]}') from error
            if len(results) != len(names):
                raise CheckpointError(f'{runtime}: expected outputs {", ".join(names)}, got {len(results)}')
            for name, result, wanted, rounding in zip(names, results, expected, roundings, strict=True):
                value = _difference(name, torch.from_numpy(result), wanted, mean=options.precision == 'int8')
                found.append(Difference(runtime, images.shape, name, value, tolerance + ROUNDINGS * rounding))
    wrong = [str(difference) for difference in found if not difference.ok]
    if wrong:
        raise CheckpointError(f'the exported file computes something else: {"; ".join(wrong)}')
    return found


def _shapes(options: ExportOptions) -> list[tuple[int, tuple[int, int]]]:
    """(images, size) of each run: batches of one and two, and two sizes, as far as the file takes them."""
    counts = [options.batch] if options.batch else [1, 2]
    sizes = [options.size_hw] if options.size_hw else list(SIZES_HW)
    return [(count, size_hw) for count in counts for size_hw in sizes]


def _pictures(
    picture: np.ndarray | None, checkpoint: Checkpoint, count: int, size_hw: tuple[int, int]
) -> list[np.ndarray]:
    """So many different pictures of a size, (H, W, 3) uint8 rgb."""
    if picture is None:
        mean, std = (torch.tensor(v)[:, None, None] for v in (checkpoint.input.mean, checkpoint.input.std))
        picture = ((probe_batch(size_hw)[0] * std + mean) * 255).clamp(0, 255).byte().permute(1, 2, 0).numpy()
    picture = cv2.resize(picture, (size_hw[1], size_hw[0]), interpolation=cv2.INTER_AREA)
    return [np.ascontiguousarray(picture[:, :: -1 if index % 2 else 1]) for index in range(count)]


def _example(
    checkpoint: Checkpoint,
    network: nn.Module,
    exact: nn.Module | None,
    options: ExportOptions,
    pictures: list[np.ndarray],
) -> tuple[np.ndarray, list[Tensor], list[float]]:
    """Pictures as the file takes them, what the network gives for them, and how far that is from the exact one."""
    config, size_hw = exported_input(checkpoint, options), pictures[0].shape[:2]
    placement = place_image(size_hw, size_hw, 'stretch')
    preprocess = Preprocessor(config, device=torch.device('cpu'), dtype=torch.float32)
    batch = preprocess(pictures, [placement] * len(pictures))
    if 'flow' in checkpoint.config.inputs:
        flow = probe_batch(size_hw, INPUT_CHANNELS['flow']).expand(len(pictures), -1, -1, -1)
        batch = torch.cat((batch, flow), dim=1)
    expected = _outputs(network, batch, options)
    roundings = [0.0] * len(expected)
    if exact is not None:
        pairs = zip(expected, _outputs(exact, batch.double(), options), strict=True)
        roundings = [float((single - double).abs().max()) for single, double in pairs]
    images = np.stack(pictures) if options.preprocessing else batch.contiguous().numpy().copy()
    return images, expected, roundings


@torch.inference_mode()
def _outputs(network: nn.Module, batch: Tensor, options: ExportOptions) -> list[Tensor]:
    output: NetworkOutput = network(batch)
    return [part for part in (resize_maps(network, output) if options.argmax else output) if part is not None]


def _difference(name: str, result: Tensor, expected: Tensor, *, mean: bool) -> float:
    if name == 'semantic_ids':
        if result.dtype != torch.uint8 or result.shape != expected[:, 0].shape or result.max() >= expected.shape[1]:
            raise CheckpointError(f'{name}: expected class ids of shape {tuple(expected[:, 0].shape)}')
        result = expected.gather(1, result.long()[:, None])[:, 0]
        expected = expected.amax(dim=1)
    if result.shape != expected.shape:
        raise CheckpointError(f'{name}: expected shape {tuple(expected.shape)}, got {tuple(result.shape)}')
    difference = (result - expected).abs()
    return float(difference.mean() if mean else difference.max())


def _runtimes(path: Path, options: ExportOptions) -> Iterator[tuple[str, Runtime]]:
    """What runs such files, as anybody would start it: without an option that changes what is computed."""
    if options.format == 'torchscript':
        yield 'torchscript', _torchscript(path)
    elif options.format == 'openvino':
        yield 'openvino', _openvino(path)
    else:
        yield 'onnxruntime', _onnxruntime(path)
        try:
            yield 'openvino', _openvino(path)
        except ConfigError:
            return  # the file is not for it


def _onnxruntime(path: Path) -> Runtime:
    try:
        import onnxruntime
    except ImportError as error:
        raise ConfigError('--verify: onnxruntime is not installed: pip install onnxruntime') from error
    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    return lambda images: session.run(None, {INPUT_NAME: images})


def _openvino(path: Path) -> Runtime:
    compiled = openvino_core().compile_model(path, 'CPU', {'INFERENCE_PRECISION_HINT': 'f32'})
    return lambda images: [result.copy() for result in compiled(images).values()]


def _torchscript(path: Path) -> Runtime:
    network = torch.jit.load(str(path))

    def run(images: np.ndarray) -> list[np.ndarray]:
        with torch.inference_mode():
            results: Sequence[Tensor] = network(torch.from_numpy(images))
        return [result.numpy() for result in results]

    return run
