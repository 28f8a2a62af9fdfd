"""From a configuration to the pieces of a run: processes, network, losses."""

from __future__ import annotations

import dataclasses
import os
import re
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from sembox_ros.config import ModelConfig, from_mapping
from sembox_ros.data.class_weights import load_class_weights
from sembox_ros.data.sample import Dataset
from sembox_ros.errors import ConfigError
from sembox_ros.labels import SceneLabels
from sembox_ros.losses import SceneLoss, create_loss
from sembox_ros.models.checkpoint import Checkpoint
from sembox_ros.models.encoders.efficientnet import EfficientNetEncoder
from sembox_ros.models.segmentation import StreamEncoder
from sembox_ros.models.zoo import MODELS, create_model, find_model
from sembox_ros.ops.memory import keep_freed_memory
from sembox_ros.targets.anchors import assign_anchors
from sembox_ros.targets.grids import assign_cells
from sembox_ros.training.config import TrainConfig

SEMANTIC_PARTS = ('semantic_head', 'decoders.semantic')  # what a network may call its way to masks
PRECISIONS: dict[str, Any] = {'fp32': '32-true', 'bf16': 'bf16-mixed', 'fp16': '16-mixed'}


def choose_precision(precision: str, device: str) -> str:
    """fp32, bf16 or fp16; 'auto' takes half the bits on GPUs, and fp32 on CPUs.

    CPUs with AVX512-BF16 train a sixth faster in bf16, but there torch 2.14.1 gave one gradient in about fifty that was
    not finite; the same step done again gave a finite one, and fp32 always did.
    """
    if precision != 'auto':
        return precision
    if device == 'cuda':
        return 'bf16' if torch.cuda.is_bf16_supported(including_emulation=False) else 'fp16'
    return 'fp32'


def create_fabric(config: TrainConfig) -> Fabric:
    """One process, or this one's part in what torchrun started: it tells how many there are, and where.

    Raises:
        ConfigError: the device or the number format does not exist here.
    """
    device = config.device
    if device == 'auto':
        device = 'cuda' if torch.cuda.is_available() else 'cpu'
    if device == 'cuda' and not torch.cuda.is_available():
        raise ConfigError('device: expected cpu, since torch finds no CUDA here; got cuda')
    precision = 'fp32' if config.quantization == 'qat' else choose_precision(config.precision, device)
    if precision == 'fp16' and device == 'cpu':
        raise ConfigError('precision: fp16 needs a GPU; expected fp32 or bf16 on the CPU')
    if device == 'cpu':
        keep_freed_memory()
    if config.threads:
        torch.set_num_threads(config.threads)
    here = int(os.environ.get('LOCAL_WORLD_SIZE', '1'))
    everywhere = int(os.environ.get('WORLD_SIZE', '1'))
    fabric = Fabric(
        accelerator=device,
        devices=here,
        num_nodes=everywhere // here,
        # Parameters may be unused: of a head that is not trained, or whose labels the dataset lacks.
        strategy='ddp_find_unused_parameters_true' if everywhere > 1 else 'auto',
        precision=PRECISIONS[precision],
    )
    fabric.launch()
    return fabric


def requested_model(config: TrainConfig) -> ModelConfig:
    """The architecture that is asked for, but for the numbers of classes, which follow from the dataset.

    Of a network that is not in the zoo what `model_options` says.

    Raises:
        ConfigError: `model_options` do not fit.
    """
    options = dataclasses.asdict(MODELS[config.model].config) if config.model in MODELS else {}
    tasks = config.model_options.get('tasks')
    if isinstance(tasks, (list, tuple)) and 'semantic' not in tasks:
        options['semantic_classes'] = 0
    return from_mapping(ModelConfig, options | config.model_options)


def is_frozen(config: TrainConfig, part: str) -> bool:
    """Whether a part such as decoders.semantic stays as it is, by its own name or that of one around it."""
    return any(part == name or part.startswith(f'{name}.') for name in config.freeze)


def learnt_tasks(config: TrainConfig) -> frozenset[str]:
    """Which of depth and motion the network has and is to learn; the dataset must know them then."""
    weights = {'depth': config.loss.depth, 'motion': config.loss.motion}
    tasks = requested_model(config).tasks
    return frozenset(
        task for task, weight in weights.items()
        if task in tasks and weight > 0 and not is_frozen(config, f'decoders.{task}')
    )  # fmt: skip


def choose_labels(config: TrainConfig, dataset: SceneLabels, started: Checkpoint | None) -> SceneLabels:
    """What the network's class ids mean: as in the dataset, but a frozen head keeps the classes that it learnt."""
    model = requested_model(config)
    detection, semantic = dataset.detection, dataset.semantic
    if started and is_frozen(config, 'box_head'):
        detection = started.labels.detection
    if started and any(is_frozen(config, part) for part in SEMANTIC_PARTS):
        semantic = started.labels.semantic
    if not model.semantic_classes or 'semantic' not in model.tasks:
        semantic = None
    return SceneLabels.linked_by_name(semantic, detection)


def create_network(config: TrainConfig, labels: SceneLabels) -> tuple[nn.Module, ModelConfig]:
    """A network with these classes and random weights.

    Raises:
        ConfigError: the model is unknown, or `model_options` do not fit it.
    """
    find_model(config.model)  # says what there is
    counts = {'detection_classes': len(labels.detection), 'semantic_classes': len(labels.semantic_names)}
    chosen: dict[str, Any] = {name: n for name, n in counts.items() if name not in config.model_options}
    model_config = dataclasses.replace(requested_model(config), **chosen)
    model = create_model(model_config, seed=config.seed)
    for module in model.modules():
        if isinstance(module, EfficientNetEncoder):
            module.drop_connect_rate = config.stochastic_depth
    return model, model_config


def take_weights(model: nn.Module, started: Checkpoint, frozen: tuple[str, ...]) -> str:
    """Take over every tensor that has the same name and shape; returns what was done, in words.

    The encoder of a network of one input becomes that of the first input of a network of several.

    Raises:
        ConfigError: not one tensor fits, or a frozen part would stay random.
    """
    given, wanted = started.model.state_dict(), model.state_dict()
    if isinstance(getattr(model, 'encoder', None), StreamEncoder) and len(started.config.inputs) == 1:
        given = {re.sub('^encoder[.]', 'encoder.main.', name): tensor for name, tensor in given.items()}
    fitting = {name: t for name, t in given.items() if name in wanted and wanted[name].shape == t.shape}
    if not fitting:
        raise ConfigError('start_from: none of its tensors fits the model; expected the same architecture')
    model.load_state_dict(fitting, strict=False)
    fresh = [name for name in wanted if name not in fitting]
    lost = [name for name in fresh if any(name.startswith(f'{part}.') for part in frozen)]
    if lost:
        raise ConfigError(f'start_from: has no {lost[0]} of that shape, which is frozen and would stay random')
    parts = sorted({'.'.join(name.split('.')[:2]) for name in fresh})
    rest = f'; at random: {", ".join(parts[:6])}{" ..." if len(parts) > 6 else ""}' if fresh else ''
    return f'start: {len(fitting)} of {len(wanted)} tensors of the checkpoint{rest}'


def create_scene_loss(config: TrainConfig, model_config: ModelConfig, dataset: Dataset) -> SceneLoss:
    """The terms that network, dataset and frozen parts leave to learn.

    Raises:
        ConfigError: nothing is left.
    """
    sample = dataset[0]
    options, learnt = config.loss, learnt_tasks(config)
    has_boxes = sample.boxes_xyxy is not None and options.box_cls + options.box_reg > 0
    has_instances = sample.instances is not None and options.category + options.mask > 0
    has_semantic = sample.semantic is not None and bool(model_config.semantic_classes)
    box = semantic = instance = None
    focal = {'alpha': options.focal_alpha, 'gamma': options.focal_gamma}
    if has_boxes and model_config.box_head and not is_frozen(config, 'box_head'):
        box = create_loss('box', {'assign': assign_anchors, **focal})
    if has_instances and model_config.instance_channels and not is_frozen(config, 'instance_head'):
        instance = create_loss('instance', {'assign': assign_cells, **focal})
    frozen = any(is_frozen(config, part) for part in SEMANTIC_PARTS)
    if has_semantic and options.semantic + options.region > 0 and not frozen:
        weights = None
        if options.class_weights == 'enet':
            data = config.data
            named = data.options(data.train)
            weights = load_class_weights(dataset, name=data.dataset, options=named, workers=data.workers)
        terms = {'class_weights': weights, 'hard_pixels': options.hard_pixels, 'region': options.region_kind}
        semantic = create_loss('semantic', terms)
    depth = create_loss('depth', {'max_depth_m': options.max_depth_m}) if 'depth' in learnt else None
    motion = create_loss('motion', {}) if 'motion' in learnt else None
    factors = {
        'loss_box_cls': options.box_cls,
        'loss_box_reg': options.box_reg,
        'loss_semantic': options.semantic,
        'loss_region': options.region,
        'loss_category': options.category,
        'loss_mask': options.mask,
        'loss_depth': options.depth,
        'loss_motion': options.motion,
    }
    return SceneLoss(box=box, semantic=semantic, instance=instance, depth=depth, motion=motion, weights=factors)
