"""Self-describing checkpoints: one .safetensors file holds weights, architecture, label sets and input geometry."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from sembox_ros.config import SIZE_DIVISOR, InputConfig, ModelConfig, find_shared, from_mapping
from sembox_ros.errors import CheckpointError, SemboxError
from sembox_ros.labels import CITYSCAPES_19, COCO_90, SceneLabels
from sembox_ros.models.zoo import create_model, find_model

FORMAT = 'sembox_ros'
FORMAT_VERSION = 1
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
    """

    model: nn.Module
    config: ModelConfig
    labels: SceneLabels
    input: InputConfig
    trained: bool = True
    recipe: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, labels, classes in (
            ('semantic', self.labels.semantic, self.config.semantic_classes),
            ('detection', self.labels.detection, self.config.detection_classes),
        ):
            if len(labels) != classes:
                raise CheckpointError(
                    f"{name} label set '{labels.name}' has {len(labels)} names, but the model has {classes} classes"
                )


def create_untrained(name: str = 'sembox_b1', *, input_config: InputConfig | None = None, seed: int = 0) -> Checkpoint:
    """A zoo model with random weights: Cityscapes semantics beside COCO boxes.

    Raises:
        ConfigError: no such model.
    """
    labels = SceneLabels.linked_by_name(CITYSCAPES_19, COCO_90)
    config = dataclasses.replace(
        find_model(name).config, semantic_classes=len(labels.semantic), detection_classes=len(labels.detection)
    )
    model = create_model(config, seed=seed)
    calibrate_norms(model, seed=seed)
    return Checkpoint(model.eval(), config, labels, input_config or InputConfig(), trained=False)


def calibrate_norms(model: nn.Module, *, seed: int) -> None:
    """Set the running statistics of all batch norms from one pass over noise of several grain sizes.

    With the initial statistics (mean 0, variance 1) a hundred layers of random weights fade to a constant, and
    the outputs no longer depend on the image; neither a picture nor a comparison of outputs would show anything.
    """
    generator = torch.Generator().manual_seed(seed)
    count, size = 4, 3 * SIZE_DIVISOR  # 36 cells at p7: few values would give a variance that means nothing
    images = torch.zeros(count, 3, size, size)
    for grain in (1, 8, 32, 128):
        noise = torch.randn(count, 3, size // grain, size // grain, generator=generator)
        images += noise.repeat_interleave(grain, dim=2).repeat_interleave(grain, dim=3) / 2
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = None  # a plain average, which one pass fills completely
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)  # stochastic depth draws in training mode
        model.train()(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def load_bundled() -> Checkpoint:
    """The checkpoint that ships with the package, or untrained weights as long as there is none."""
    path = find_shared(BUNDLED)
    return create_untrained() if path is None else load_checkpoint(path)


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
        described = {
            'format': FORMAT,
            'format_version': str(FORMAT_VERSION),
            'model': json.dumps(dataclasses.asdict(checkpoint.config)),
            'labels': json.dumps(checkpoint.labels.to_dict()),
            'input': json.dumps(dataclasses.asdict(checkpoint.input)),
            'trained': json.dumps(checkpoint.trained),
            'recipe': json.dumps(dict(checkpoint.recipe)),
            'metrics': json.dumps(dict(checkpoint.metrics)),
            'sha256': digest_tensors(tensors),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.name}.')
        os.close(handle)
        try:
            save_file(tensors, partial, metadata=described)
            os.chmod(partial, 0o644)
            os.replace(partial, path)
        finally:
            Path(partial).unlink(missing_ok=True)
    except (OSError, SafetensorError, TypeError) as error:  # TypeError: recipe or metrics hold what JSON lacks
        raise CheckpointError(f'{path}: cannot be written: {error}') from error


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint written by `save_checkpoint`; nothing in it is executed.

    Raises:
        CheckpointError: missing, not such a file, from a newer version, damaged, or its tensors do not fit
            the architecture that it names.
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
        with safe_open(str(path), framework='pt') as file:
            described = file.metadata() or {}
            _check_format(path, described)
            config = from_mapping(ModelConfig, _parse(path, described, 'model'))
            labels = SceneLabels.from_dict(_parse(path, described, 'labels'))
            input_config = from_mapping(InputConfig, _parse(path, described, 'input'))
            with torch.device('meta'):
                model = create_model(config)  # shapes only: nothing is allocated before they are known to fit
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            _check_shapes(path, model, shapes)
            tensors = {name: file.get_tensor(name) for name in shapes}
            trained, recipe, metrics = (_parse(path, described, key) for key in ('trained', 'recipe', 'metrics'))
    except CheckpointError:
        raise
    except SemboxError as error:
        raise CheckpointError(f'{path}: {_one_line(error)}') from error
    except (SafetensorError, OSError, ValueError, TypeError, OverflowError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f'{path}: not a readable .safetensors file ({reason}); copy it again') from error
    if digest_tensors(tensors) != described.get('sha256'):
        raise CheckpointError(f'{path}: sha256 of the tensors does not match; the file is damaged, copy it again')
    _fill(path, model, tensors)
    try:
        return Checkpoint(model.eval(), config, labels, input_config, trained, recipe, metrics)
    except CheckpointError as error:
        raise CheckpointError(f'{path}: {_one_line(error)}') from error


def _one_line(error: Exception) -> str:
    """Its text; names inside may come from a file and hold line breaks."""
    return ' '.join(str(error).split())


def digest_tensors(tensors: Mapping[str, Tensor]) -> str:
    """sha256 over names, dtypes, shapes and bytes of all tensors, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f'{name}:{tensor.dtype}:{tuple(tensor.shape)};'.encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _check_format(path: Path, described: Mapping[str, str]) -> None:
    if described.get('format') != FORMAT:
        raise CheckpointError(f'{path}: not a sembox_ros checkpoint, its metadata lacks format={FORMAT}')
    version = described.get('format_version', '')
    if not version.isdecimal() or int(version) > FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: format version '{version}', but this sembox_ros reads up to {FORMAT_VERSION}; upgrade the package"
        )


def _parse(path: Path, described: Mapping[str, str], key: str) -> Any:
    """One JSON value of the metadata, of the type that its key has."""
    if key not in described:
        raise CheckpointError(f"{path}: metadata '{key}' is missing; save it again with save_checkpoint")
    try:
        value = json.loads(described[key])
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: metadata '{key}' is not JSON ({error})") from error
    wanted = bool if key == 'trained' else dict
    if not isinstance(value, wanted):
        got = type(value).__name__
        raise CheckpointError(f"{path}: metadata '{key}' should be a JSON {wanted.__name__}, got {got}")
    return value


def _check_shapes(path: Path, model: nn.Module, shapes: Mapping[str, tuple[int, ...]]) -> None:
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    missing = sorted(wanted.keys() - shapes.keys())
    extra = sorted(shapes.keys() - wanted.keys())
    if missing or extra:
        raise CheckpointError(
            f'{path}: tensors do not fit the model: {len(missing)} missing (first: {missing[:1] or "-"}), '
            f'{len(extra)} unknown (first: {extra[:1] or "-"})'
        )
    for name, shape in wanted.items():
        if shapes[name] != shape:
            raise CheckpointError(f"{path}: tensor '{name}': expected shape {shape}, got {shapes[name]}")


def _fill(path: Path, model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Move checked tensors into a model built on the meta device, in the model's dtypes."""
    wanted = model.state_dict()
    state = {}
    for name, tensor in tensors.items():
        if tensor.is_floating_point() != wanted[name].is_floating_point():
            raise CheckpointError(f"{path}: tensor '{name}': expected {wanted[name].dtype}, got {tensor.dtype}")
        tensor = tensor.to(wanted[name].dtype)  # first: isfinite does not take all of torch's small floats
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise CheckpointError(f"{path}: tensor '{name}' holds NaN or infinity; the training run diverged")
        state[name] = tensor
    model.load_state_dict(state, assign=True)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
