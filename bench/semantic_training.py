"""What a network for masks learns from the same data: this package's semantic part against a library's networks.

Trains the encoder, semantic pyramid and semantic head of sembox_b1, and DeepLabV3+ and FPN of the package
segmentation_models_pytorch on the same EfficientNet-b1, all from random weights. One script trains all of them
(`sembox_ros.training`), with the same images in the same order, the same augmentation, loss (cross-entropy and Dice),
optimizer and schedule. It then times training steps of all of them in turn.

segmentation_models_pytorch is no dependency of this package: install it into an environment of your own that has those
of this package too (the version is in PEER below). Nothing is downloaded here.

    python bench/semantic_training.py --root streets [--images N] [--epochs E] [--lrs 5e-4 1e-3 2e-3] [key=value ...]

A run that was stopped goes on when the same command runs again; finished ones are not repeated.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import itertools
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from sembox_ros.cli.common import parse_size
from sembox_ros.config import ModelConfig
from sembox_ros.errors import ConfigError, SemboxError
from sembox_ros.labels import SceneLabels
from sembox_ros.models.profile import profile_network
from sembox_ros.models.sembox import SEMANTIC_LEVELS, NetworkOutput, SemanticBoxNet, check_images, resize_maps
from sembox_ros.models.zoo import find_model
from sembox_ros.training.config import TrainConfig, load_train_config
from sembox_ros.training.loader import create_train_loader, load_datasets
from sembox_ros.training.pieces import choose_precision
from sembox_ros.training.trainer import METRICS, RESUME, Trainer

PEER = 'segmentation-models-pytorch==0.6.0'
RESULTS = Path(__file__).parent / 'results'
RECIPE = Path(__file__).parents[1] / 'config' / 'train' / 'sembox_b1_streets.yaml'
WARMUP_ROUNDS = 3
VALIDATIONS = 4  # in a whole run; only the last one counts, the others show how it goes
WARMUP_SHARE = 0.1  # of a short run's steps


class SemanticPart(nn.Module):
    """What of a SemanticBoxNet its masks need; (B, 3, H, W) to logits (B, K, H, W)."""

    def __init__(self, whole: SemanticBoxNet) -> None:
        super().__init__()
        self.encoder = whole.encoder
        self.neck = whole.box_neck if whole.semantic_neck is None else whole.semantic_neck
        self.head = whole.semantic_head

    def forward(self, images: Tensor) -> Tensor:
        check_images(images)
        c2, c3, c4, c5 = self.encoder(images)[-4:]
        return self.head((c2, *self.neck((c3, c4, c5))[:SEMANTIC_LEVELS]))


class MasksOnly(nn.Module):
    """Gives a network of logits the form that the trainer reads, without boxes."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> NetworkOutput:
        logits = self.network(images)
        return NetworkOutput(logits.new_zeros(len(logits), 0, 1), logits.new_zeros(len(logits), 0, 4), logits)


def import_peer() -> ModuleType:
    """The library that is compared with."""
    os.environ['HF_HUB_OFFLINE'] = '1'  # it can fetch weights, which nobody wants here
    try:
        import segmentation_models_pytorch
    except ImportError as error:
        raise SystemExit(
            f'segmentation_models_pytorch cannot be imported ({error}); install it into an environment of your own, '
            f'beside the dependencies of sembox_ros: pip install {PEER}'
        ) from error
    return segmentation_models_pytorch


def create_sembox_part(classes: int, stochastic_depth: float) -> nn.Module:
    entry = find_model('sembox_b1')
    part = SemanticPart(entry.create(dataclasses.replace(entry.config, semantic_classes=classes)))
    part.encoder.drop_connect_rate = stochastic_depth
    return part


def create_peer(name: str, classes: int, stochastic_depth: float) -> nn.Module:
    network = getattr(import_peer(), name)('efficientnet-b1', encoder_weights=None, classes=classes)
    if not hasattr(network.encoder, '_drop_connect_rate'):
        raise SystemExit(f'this version of segmentation_models_pytorch is not as expected; use {PEER}')
    network.encoder._drop_connect_rate = stochastic_depth
    return network


# Name -> from number of classes and stochastic depth to a network that gives logits at the size of its input.
NETWORKS = {
    'sembox_b1_semantic': create_sembox_part,
    'smp_deeplabv3plus_b1': lambda classes, depth: create_peer('DeepLabV3Plus', classes, depth),
    'smp_fpn_b1': lambda classes, depth: create_peer('FPN', classes, depth),
}


def create(config: TrainConfig, labels: SceneLabels) -> tuple[nn.Module, ModelConfig]:
    """The network named in the configuration, for `Trainer`."""
    classes = len(labels.semantic_names)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = NETWORKS[config.model](classes, config.stochastic_depth)
    model_config = ModelConfig(name=config.model, semantic_classes=classes, detection_classes=len(labels.detection))
    return MasksOnly(network), model_config


# ---------------------------------------------------------------------------------------------------------- training


def plan_run(name: str, lr: float, options: argparse.Namespace) -> TrainConfig:
    """The configuration of one run; all runs differ in nothing but network, rate and folder."""
    config = load_train_config(options.config, options.override)
    steps = options.images // (config.batch_size if options.batch_size is None else options.batch_size) * options.epochs
    changes: dict[str, Any] = {
        'name': f'{name}, lr {lr:g}',
        'out': str(options.out / name / f'lr_{lr:g}'),
        'model': name,
        'model_options': {},
        'start_from': '',
        'seed': options.seed,
        'epochs': options.epochs,
        'val_every': max(1, options.epochs // VALIDATIONS),
        'best_by': 'miou',
        'threads': options.threads,
        'input': dataclasses.replace(config.input, size_hw=options.size),
        'data': dataclasses.replace(
            config.data, dataset='cityscapes', root=str(options.root),
            train={'split': 'train', 'limit': options.images}, val={'split': 'val', 'limit': options.val_images},
        ),
        'loss': dataclasses.replace(config.loss, box_cls=0.0, box_reg=0.0),
        'optimizer': dataclasses.replace(
            config.optimizer, lr=lr, warmup_steps=min(config.optimizer.warmup_steps, int(WARMUP_SHARE * steps))
        ),
    }  # fmt: skip
    if options.batch_size is not None:
        changes['batch_size'] = options.batch_size
    return dataclasses.replace(config, **changes)


def train(config: TrainConfig) -> dict[str, Any]:
    """Train, or go on, or only read what a finished run left; returns what its metrics.json says.

    Raises:
        ConfigError: the folder holds a run with other settings.
    """
    folder = config.folder
    resume = (folder / RESUME).exists()
    if resume:
        before = load_train_config(folder / 'config.yaml')
        if dataclasses.replace(before, threads=config.threads, out=config.out) != config:
            raise ConfigError(f'{folder}: holds a run with other settings; choose another --out')
    metrics = folder / METRICS
    if not resume or not metrics.exists() or json.loads(metrics.read_text())['interrupted']:
        print(f'{config.name}: {"going on" if resume else "training"} in {folder}', file=sys.stderr, flush=True)
        if not Trainer(config, resume=resume, create=create).run():
            raise SystemExit('stopped; the same command goes on from here')
    result: dict[str, Any] = json.loads(metrics.read_text())
    return result


# ------------------------------------------------------------------------------------------------------------- costs


def time_steps(configs: dict[str, TrainConfig], rounds: int) -> dict[str, list[float]]:
    """Seconds of single training steps on one batch in memory, the networks taking turns.

    Args:
        configs: name -> configuration.
        rounds: timed steps of each, after `WARMUP_ROUNDS` more.
    """
    seconds: dict[str, list[float]] = {name: [] for name in configs}
    with tempfile.TemporaryDirectory(prefix='semantic_training_') as folder:
        trainers = {
            name: Trainer(dataclasses.replace(config, out=str(Path(folder) / name)), create=create)
            for name, config in configs.items()
        }
        config, trainer = next(zip(configs.values(), trainers.values(), strict=True))
        alone = dataclasses.replace(config, data=dataclasses.replace(config.data, workers=0))
        batch = next(iter(create_train_loader(load_datasets(alone)[0], alone, trainer.schedule)))
        for number in range(WARMUP_ROUNDS + rounds):
            print(f'timing: round {number + 1} of {WARMUP_ROUNDS + rounds}', file=sys.stderr, flush=True)
            for name, trainer in trainers.items():
                start = time.perf_counter()
                trainer.step(itertools.repeat(batch), configs[name].optimizer.lr)
                if trainer.fabric.device.type == 'cuda':
                    torch.cuda.synchronize()
                if number >= WARMUP_ROUNDS:
                    seconds[name].append(time.perf_counter() - start)
    return seconds


def count_costs(config: TrainConfig, labels: SceneLabels) -> tuple[int, int]:
    """Parameters that a gradient reaches, and multiply-adds of one image's forward pass.

    The library's encoder carries a layer of the classifier that its networks never use; it does not count.
    """
    model = create(config, labels)[0].eval()
    logits = resize_maps(model, model(torch.zeros(1, 3, *config.input.size_hw))).semantic_logits
    if logits.shape[2:] != config.input.size_hw:
        raise SystemExit(f'{config.model}: expected logits of {config.input.size_hw}, got {tuple(logits.shape[2:])}')
    logits.sum().backward()
    parameters = sum(p.numel() for p in model.parameters() if p.grad is not None)
    return parameters, sum(part.multiply_adds for part in profile_network(model, config.input.size_hw))


# ----------------------------------------------------------------------------------------------------------- results


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Train all, choose each one's rate, time, count."""
    for name in options.models:  # a library that is missing should not be noticed after hours
        NETWORKS[name](2, 0.0)
    rows, chosen = [], {}
    for name in options.models:
        runs = {lr: (config := plan_run(name, lr, options), train(config)) for lr in options.lrs}
        mious = {lr: metrics['last']['semantic']['miou'] for lr, (_, metrics) in runs.items()}
        lr = max(mious, key=lambda lr: mious[lr])
        chosen[name], metrics = runs[lr]
        rows.append({
            'model': name,
            'miou': mious[lr],
            'lr': lr,
            'miou_of_lr': {f'{lr:g}': miou for lr, miou in mious.items()},
            'iou_per_class': metrics['last']['semantic']['iou_per_class'],
            'images_per_s_of_run': metrics['images_per_s'],
        })  # fmt: skip
    labels = load_datasets(next(iter(chosen.values())))[0].labels
    seconds = time_steps(chosen, options.rounds)
    for row in rows:
        config, own = chosen[row['model']], seconds[row['model']]
        row['parameters'], row['multiply_adds'] = count_costs(config, labels)
        row['images_per_s'] = config.batch_size * config.accumulate / statistics.median(own)
        first = seconds[options.models[0]]
        row['speed_ratio'] = statistics.median(a / b for a, b in zip(first, own, strict=True))
    config = chosen[options.models[0]]
    device = config.device if config.device != 'auto' else ('cuda' if torch.cuda.is_available() else 'cpu')
    return {
        'date': datetime.date.today().isoformat(),
        'machine': options.name,
        'python': platform.python_version(),
        'torch': torch.__version__,
        'peer': getattr(sys.modules.get('segmentation_models_pytorch'), '__version__', None),
        'images_train': metrics['images_train'],
        'images_val': metrics['images_val'],
        'epochs': options.epochs,
        'steps': metrics['steps'],
        'size_hw': list(options.size),
        'batch_size': config.batch_size * config.accumulate,
        'seed': options.seed,
        'device': device,
        'precision': choose_precision(config.precision, device),
        'threads': torch.get_num_threads(),
        'rounds': options.rounds,
        'rows': rows,
    }


def describe(result: dict[str, Any]) -> str:
    """Markdown of one measurement."""
    height, width = result['size_hw']
    rows = result['rows']
    lines = [
        f'# Networks for masks, trained alike, {result["date"]}, {result["machine"]}',
        '',
        f'{result["images_train"]} images to learn from, {result["epochs"]} epochs of batches of '
        f'{result["batch_size"]} ({result["steps"]} steps), {height}x{width} pixels, from random weights, seed',
        f'{result["seed"]}; mIoU of the weights after the last step on {result["images_val"]} other images, at their',
        f'own size. {result["device"]}, {result["precision"]}, {result["threads"]} threads, torch {result["torch"]}, '
        f'segmentation_models_pytorch {result["peer"] or "not used"}.',
        '',
        f'| network | mIoU | parameters | multiply-adds | images/s in training | speed / {rows[0]["model"]} | lr |',
        '|---|---|---|---|---|---|---|',
        *(f'| {row["model"]} | {row["miou"]:.3f} | {row["parameters"] / 1e6:.2f} M '
          f'| {row["multiply_adds"] / 1e9:.2f} G | {row["images_per_s"]:.2f} | {row["speed_ratio"]:.2f} '
          f'| {row["lr"]:g} |' for row in rows),
        '',
        'Parameters are those that a gradient reaches, multiply-adds those of convolutions and matrix products in the',
        'forward pass of one image. Images/s are of whole training steps without reading images, medians over',
        f'{result["rounds"]} rounds in which the networks took turns, after warm-up; the ratio of speeds is the median',
        'of the ratios of each round. This is one seed: how far another one would be from it was not measured.',
        '',
    ]  # fmt: skip
    if any(len(row['miou_of_lr']) > 1 for row in rows):
        rates = list(rows[0]['miou_of_lr'])
        scores = {row['model']: [f'{miou:.3f}' for miou in row['miou_of_lr'].values()] for row in rows}
        lines += [
            'mIoU for each learning rate, of which the best is above:', '',
            f'| network | {" | ".join(rates)} |', '|---' * (len(rates) + 1) + '|',
            *(f'| {name} | {" | ".join(cells)} |' for name, cells in scores.items()),
            '',
        ]  # fmt: skip
    return '\n'.join(lines)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--root', type=Path, required=True, help='folder in the layout of Cityscapes')
    parser.add_argument('--images', type=int, default=600, help='training images (default: %(default)s)')
    parser.add_argument('--val-images', type=int, default=0, help='images of the val split; 0: all')
    parser.add_argument('--epochs', type=int, default=8, help='times that they are seen (default: %(default)s)')
    parser.add_argument('--size', type=parse_size, default=(256, 512), help='input size, HxW (default: 256x512)')
    parser.add_argument('--batch-size', type=int, help="images of one step (default: the recipe's)")
    parser.add_argument('--threads', type=int, default=0, help='CPU threads; 0: as torch chooses')
    parser.add_argument('--models', nargs='+', choices=NETWORKS, default=list(NETWORKS), help='default: all')
    parser.add_argument('--lrs', nargs='+', type=float, default=[1e-3], help='learning rates; the best counts')
    parser.add_argument('--seed', type=int, default=0, help='of weights, order and augmentation')
    parser.add_argument('--rounds', type=int, default=10, help='timed steps of each (default: %(default)s)')
    parser.add_argument('--config', type=Path, default=RECIPE, help='recipe for everything else (default: %(default)s)')
    parser.add_argument('--out', type=Path, default=Path('runs/semantic_training'), help='folder of the runs')
    parser.add_argument('--name', default=f'{os.cpu_count()}core-cpu', help='name of the machine in the result file')
    parser.add_argument('--result', type=Path, help='result file, .md; a .json goes beside it (default: bench/results)')
    parser.add_argument('override', nargs='*', help='key=value for any setting of the recipe, the same for all')
    options = parser.parse_args()
    if options.images < 1 or options.rounds < 1:
        parser.error(f'--images, --rounds: expected at least 1, got {options.images} and {options.rounds}')
    return options


def main() -> None:
    """Measure and write the result files."""
    options = parse_options()
    try:
        result = measure(options)
    except SemboxError as error:
        raise SystemExit(f'semantic_training: {error}') from error
    path = options.result or RESULTS / f'{result["date"]}-{result["machine"]}-semantic_training.md'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix('.json').write_text(json.dumps(result, indent=1) + '\n')
    text = describe(result)
    path.with_suffix('.md').write_text(text)
    print(text)


if __name__ == '__main__':
    main()
