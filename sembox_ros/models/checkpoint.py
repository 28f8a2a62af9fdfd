"""Self-describing checkpoints: one .safetensors file holds weights, architecture, label sets and input geometry."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from sembox_ros.atomic import whole_file
from sembox_ros.config import InputConfig, ModelConfig, find_shared, from_mapping
from sembox_ros.errors import CheckpointError, SemboxError
from sembox_ros.labels import SceneLabels
from sembox_ros.models.checkpoint_file import (
    FileHeader,
    TensorDigest,
    TensorEntry,
    digest_metadata,
    parse_json,
    printable,
    read_header,
    read_tensor,
)
from sembox_ros.models.zoo import CLASSIFY_HINT, create_model

FORMAT = 'sembox_ros'
FORMAT_VERSION = 1
MAX_NAME = 200  # characters of a class name
MAX_RANGE = 1e30  # of an activation
BUNDLED = 'weights/sembox_b1_streets.safetensors'


@dataclass(frozen=True)
class Checkpoint:
    """A network with everything that is needed to use it.

    Attributes:
        model: the network, in evaluation mode when it was loaded.
        config: its architecture.
        labels: what its class ids mean.
        input: how images are prepared for it.
        trained: False for randomly initialised weights.
        recipe: how it was trained, free form.
        metrics: what it scored, name -> number.
        categories: the names that it has for whole images; empty for a network that sees scenes.
        graph: exported file (.onnx, .xml) that holds the weights; `model` is then a shape without any.
        graph_precision: what that file's weights are stored in: fp32, fp16 or int8.
        quantization: smallest and largest value of each activation that int8 rounds, for which the weights were
            trained; empty for any other network. The model itself rounds nothing.
    """

    model: nn.Module
    config: ModelConfig
    labels: SceneLabels
    input: InputConfig
    trained: bool = True
    recipe: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    categories: tuple[str, ...] = ()
    graph: Path | None = None
    graph_precision: str = 'fp32'
    quantization: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, labels, classes in (
            ('semantic', self.labels.semantic, self.config.semantic_classes),
            ('detection', self.labels.detection, self.config.detection_classes),
        ):
            count = len(labels) if labels else 0  # a network that only detects has no semantic labels
            if count != classes:
                given = labels.name if labels else 'none'
                raise CheckpointError(
                    f"{name} label set '{given}' has {count} names, but the model has {classes} classes"
                )
        if len(self.categories) != self.config.image_classes:
            raise CheckpointError(
                f'categories: expected {self.config.image_classes} names, as many as the model has classes of images, '
                f'got {len(self.categories)}'
            )
        canvas_hw = getattr(self.model, 'canvas_hw', self.input.size_hw)  # of a network of one size
        if canvas_hw != self.input.size_hw or (hasattr(self.model, 'canvas_hw') and self.input.resize == 'letterbox'):
            raise CheckpointError(
                f'input: {self.config.name} needs size_hw {canvas_hw} and resize letterbox_fixed or stretch, '
                f'got {self.input.size_hw} and {self.input.resize}'
            )


def load_bundled() -> Checkpoint:
    """The checkpoint that ships with the package.

    Raises:
        CheckpointError: it was not installed with the code.
    """
    path = find_shared(BUNDLED)
    if path is None:
        raise CheckpointError(
            f'checkpoint: {BUNDLED}, which ships with the package, is not installed beside it; name another file'
        )
    return load_checkpoint(path)


def save_checkpoint(checkpoint: Checkpoint, path: str | Path, *, half: bool = False) -> None:
    """Write a checkpoint; the file appears whole or not at all.

    Args:
        checkpoint: what to write.
        path: a name ending in .safetensors.
        half: store floating tensors as float16 (half the size).

    Raises:
        CheckpointError: the file cannot be written.
    """
    path = Path(path)
    tensors = {}
    for name, tensor in checkpoint.model.state_dict().items():
        stored = tensor.half() if half and tensor.is_floating_point() else tensor
        if stored is not tensor and not torch.isfinite(stored).all():
            stored = tensor  # beyond float16's 65504, as a running variance can be
        tensors[name] = stored.detach().cpu().contiguous().clone()
    try:
        described = {**describe(checkpoint), 'sha256': digest_tensors(tensors)}
        described['sha256_metadata'] = digest_metadata(described)
        with whole_file(path, CheckpointError) as draft:
            save_file(tensors, draft, metadata=described)
            draft.chmod(0o644)  # safetensors makes it the owner's alone
    except (SafetensorError, TypeError) as error:  # TypeError: recipe or metrics hold what JSON lacks
        raise CheckpointError(f'{path}: cannot be written: {error}') from error


def describe(checkpoint: Checkpoint) -> dict[str, str]:
    """Everything but the weights as text, for the metadata of a file.

    Raises:
        TypeError: recipe or metrics hold what JSON lacks.
    """
    described = {
        'format': FORMAT,
        'format_version': str(FORMAT_VERSION),
        'model': json.dumps(dataclasses.asdict(checkpoint.config)),
        'labels': json.dumps(checkpoint.labels.to_dict()),
        'input': json.dumps(dataclasses.asdict(checkpoint.input)),
        'trained': json.dumps(checkpoint.trained),
        'recipe': json.dumps(dict(checkpoint.recipe)),
        'metrics': json.dumps(dict(checkpoint.metrics)),
    }
    if checkpoint.quantization:
        described['quantization'] = json.dumps(dict(checkpoint.quantization))
    if checkpoint.categories:
        described['categories'] = json.dumps(checkpoint.categories)
    return described


def parse_description(described: Mapping[str, str], graph: Path | None = None) -> Checkpoint:
    """The checkpoint that `describe` described, its model without weights.

    Args:
        described: what `describe` gave, perhaps damaged or made up.
        graph: the exported file that has the weights.

    Raises:
        SemboxError: it is not such a description.
    """
    _check_format(described)
    config = from_mapping(ModelConfig, _parse(described, 'model'))
    labels = SceneLabels.from_dict(_parse(described, 'labels'))
    input_config = from_mapping(InputConfig, _parse(described, 'input'))
    trained, recipe, metrics = (_parse(described, key) for key in ('trained', 'recipe', 'metrics'))
    categories = tuple(_parse(described, 'categories')) if 'categories' in described else ()
    ranges = _parse_ranges(_parse(described, 'quantization')) if 'quantization' in described else {}
    _check_names(labels, categories)
    with torch.device('meta'):
        model = create_model(config).eval()  # shapes only: nothing is allocated before they are known to fit
    return Checkpoint(
        model, config, labels, input_config, trained, recipe, metrics, categories, graph, quantization=ranges
    )


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint written by `save_checkpoint`, of a network that sees scenes; nothing in it is executed.

    Raises:
        CheckpointError: missing, not such a file, from a newer version, damaged, its tensors do not fit the
            architecture that it names, or that only names whole images.
    """
    checkpoint = load_with_header(path)[0]
    if checkpoint.config.image_classes:
        raise CheckpointError(
            f'{path}: {checkpoint.config.name} names whole images and sees no scenes; {CLASSIFY_HINT}'
        )
    return checkpoint


def load_with_header(path: str | Path) -> tuple[Checkpoint, FileHeader]:
    """As `load_checkpoint`, but of any network, and what the file says of itself.

    Raises:
        CheckpointError: see `load_checkpoint`.
    """
    path = Path(path)
    try:
        path = path.expanduser()
        found = path.is_file()
    except (OSError, RuntimeError):  # a name too long for the system, ~ of an unknown user
        found = False
    if not found:
        raise CheckpointError(f'checkpoint: expected a .safetensors file, but {path} does not exist or is not a file')
    try:
        with path.open('rb') as file:
            header = read_header(file)
            return _load(file, header), header
    except SemboxError as error:  # names inside come from the file and may hold anything
        raise CheckpointError(f'{path}: {printable(error, limit=700)}') from error
    except (OSError, ValueError, TypeError, OverflowError, MemoryError) as error:
        reason = printable(error, limit=200) or type(error).__name__
        raise CheckpointError(f'{path}: not a readable .safetensors file ({reason}); copy it again') from error


def _load(file: BinaryIO, header: FileHeader) -> Checkpoint:
    """Everything in the file, the cheap checks first."""
    described = header.metadata
    _check_format(described)
    _check_plausible(from_mapping(ModelConfig, _parse(described, 'model')), header)
    checkpoint = parse_description(described)
    _check_shapes(checkpoint.model, header.tensors)
    if digest_metadata(described) != described.get('sha256_metadata'):
        raise CheckpointError('sha256_metadata does not match the metadata; the file is damaged, copy it again')
    _fill(checkpoint.model, _read_state(file, header, checkpoint.model))
    return checkpoint


def digest_tensors(tensors: Mapping[str, Tensor]) -> str:
    """sha256 over names, dtypes, shapes and bytes of all tensors, in the order of their names."""
    digest = TensorDigest()
    for name in sorted(tensors):
        digest.add(name, tensors[name])
    return digest.hexdigest()


def _check_format(described: Mapping[str, str]) -> None:
    if described.get('format') != FORMAT:
        raise CheckpointError(f'not a sembox_ros checkpoint, its metadata lacks format={FORMAT}')
    version = described.get('format_version', '')
    if not re.fullmatch('[1-9][0-9]{0,8}', version) or int(version) > FORMAT_VERSION:
        raise CheckpointError(
            f"format version '{printable(version, limit=40)}', but this sembox_ros reads 1 to {FORMAT_VERSION}; "
            'upgrade the package'
        )


def _parse(described: Mapping[str, str], key: str) -> Any:
    """One JSON value of the metadata, of the type that its key has."""
    if key not in described:
        raise CheckpointError(f"metadata '{key}' is missing; save it again with save_checkpoint")
    try:
        value = parse_json(described[key])
    except ValueError as error:
        raise CheckpointError(f"metadata '{key}' is not JSON ({error})") from error
    wanted = {'trained': bool, 'categories': list}.get(key, dict)
    if not isinstance(value, wanted):
        got = type(value).__name__
        raise CheckpointError(f"metadata '{key}' should be a JSON {wanted.__name__}, got {got}")
    return value


def _parse_ranges(values: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """The ranges of activations as `Checkpoint.quantization` has them."""
    for name, pair in values.items():
        numbers = isinstance(pair, list) and len(pair) == 2 and all(type(v) in (int, float) for v in pair)
        if not numbers or not -MAX_RANGE <= pair[0] <= pair[1] <= MAX_RANGE:
            raise CheckpointError(
                "metadata 'quantization': expected two numbers, the smaller one first, for "
                f'{printable(name, limit=80)}; got {printable(pair, limit=80)}'
            )
    return {name: (float(low), float(high)) for name, (low, high) in values.items()}


def _check_names(labels: SceneLabels, categories: tuple[Any, ...]) -> None:
    """Names end up in messages, file names and terminals: no control characters, no half characters, no novels."""
    sets = (
        (labelled.name, (labelled.name, *labelled.names))
        for labelled in (labels.semantic, labels.detection)
        if labelled
    )
    for title, names in (*sets, ('categories', categories)):
        for name in names:
            if not isinstance(name, str) or not name.isprintable() or len(name) > MAX_NAME:
                raise CheckpointError(
                    f'label set {printable(title, limit=40)!r}: expected printable names of up to {MAX_NAME} '
                    f'characters, got {printable(name, limit=40)!r}'
                )


def _check_plausible(config: ModelConfig, header: FileHeader) -> None:
    """Refuse an architecture that is far too large for the file before any of it is built.

    One weight of each 1x1 convolution in the pyramid and in the class prediction is a fraction of what the
    network has, so no file that fits is refused.
    """
    least = max(config.neck_cells * config.neck_channels**2, config.detection_classes * config.neck_channels)
    if least > header.numbers:
        raise CheckpointError(
            f'its model needs more than {least} numbers ({config.neck_cells} cells of {config.neck_channels} channels, '
            f'{config.detection_classes} box classes), but the file holds {header.numbers}'
        )


def _check_shapes(model: nn.Module, entries: Mapping[str, TensorEntry]) -> None:
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    missing = sorted(wanted.keys() - entries.keys())
    extra = sorted(entries.keys() - wanted.keys())
    if missing or extra:
        raise CheckpointError(
            f'tensors do not fit the model: {len(missing)} missing (first: {missing[:1] or "-"}), '
            f'{len(extra)} unknown (first: {extra[:1] or "-"})'
        )
    for name, shape in wanted.items():
        if entries[name].shape != shape:
            raise CheckpointError(f"tensor '{name}': expected shape {shape}, got {entries[name].shape}")


def _read_state(file: BinaryIO, header: FileHeader, model: nn.Module) -> dict[str, Tensor]:
    """Tensors in the model's dtypes; of the raw ones no more than one is held at a time."""
    wanted = model.state_dict()
    digest, state = TensorDigest(), {}
    for name in sorted(header.tensors):
        tensor = read_tensor(file, header.tensors[name])
        if tensor.is_floating_point() != wanted[name].is_floating_point():
            raise CheckpointError(f"tensor '{name}': expected {wanted[name].dtype}, got {tensor.dtype}")
        digest.add(name, tensor)
        state[name] = tensor.to(wanted[name].dtype)
    if digest.hexdigest() != header.metadata.get('sha256'):
        raise CheckpointError('sha256 of the tensors does not match; the file is damaged, copy it again')
    return state


def _fill(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Move checked tensors into a model built on the meta device."""
    for name, tensor in state.items():
        if tensor.is_floating_point() and tensor.numel():
            extremes = torch.stack(tensor.aminmax())  # NaN shows in both; needs no memory, unlike isfinite
            if not torch.isfinite(extremes).all():
                raise CheckpointError(f"tensor '{name}' holds NaN or infinity; the training run diverged")
    model.load_state_dict(state, assign=True)
