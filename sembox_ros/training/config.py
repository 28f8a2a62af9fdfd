"""What a training run is made of, as dataclasses that a YAML file and `key=value` arguments fill."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from sembox_ros.config import Checked, InputConfig, from_mapping, option
from sembox_ros.data.transforms import AugmentConfig
from sembox_ros.errors import ConfigError

RANKED = ('miou', 'ap', 'pq', 'delta1', 'motion_miou')  # scores of a validation in 0..1, the higher the better


@dataclass(frozen=True)
class DataConfig(Checked):
    """Where the samples come from."""

    dataset: str = option('cityscapes', 'name of the dataset, see docs/datasets.md')
    root: str = option('', 'folder of the dataset')
    train: dict[str, Any] = field(default_factory=lambda: {'split': 'train'})
    val: dict[str, Any] = field(default_factory=lambda: {'split': 'val'})
    workers: int = option(2, 'processes that read and augment images; 0: none but the main one', minimum=0, maximum=256)

    def options(self, part: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments of the dataset for `train` or `val`."""
        return {'root': self.root, **part}


@dataclass(frozen=True)
class LossConfig(Checked):
    """Which terms are summed, and how; see docs/losses.md."""

    box_cls: float = option(1.0, 'weight of the focal loss of the box classes', minimum=0.0)
    box_reg: float = option(1.0, 'weight of the smooth-L1 loss of the box coordinates', minimum=0.0)
    semantic: float = option(1.0, 'weight of the cross-entropy of the pixels', minimum=0.0)
    region: float = option(0.5, 'weight of the region loss of the pixels', minimum=0.0)
    region_kind: str = option('dice', 'which region loss', choices=('dice', 'jaccard'))
    category: float = option(1.0, 'weight of the focal loss of the instance head', minimum=0.0)
    mask: float = option(3.0, 'weight of the Dice loss of its masks', minimum=0.0)
    focal_alpha: float = option(0.25, 'weight of positives in the focal loss', minimum=0.0, maximum=1.0)
    focal_gamma: float = option(2.0, 'how much the focal loss turns from what is easy', minimum=0.0, maximum=10.0)
    depth: float = option(1.0, 'weight of the L1 loss of log-depth', minimum=0.0)
    max_depth_m: float = option(80.0, 'farther pixels do not count for depth', minimum=1.0, maximum=10000.0)
    motion: float = option(1.0, 'weight of the cross-entropy and Dice loss of what moves', minimum=0.0)
    class_weights: str = option('none', 'weights of the pixel classes', choices=('none', 'enet'))
    hard_pixels: bool = option(False, 'cross-entropy of the hard pixels only (online hard example mining)')


@dataclass(frozen=True)
class OptimizerConfig(Checked):
    """How weights move."""

    name: str = option('adamw', 'kind of optimizer', choices=('adamw', 'adam', 'sgd'))
    lr: float = option(1e-3, 'learning rate after the warm-up, of the whole batch', minimum=0.0, maximum=100.0)
    weight_decay: float = option(0.02, 'of convolution weights; norms and biases have none', minimum=0.0, maximum=1.0)
    momentum: float = option(0.9, 'of sgd', minimum=0.0, maximum=1.0)
    schedule: str = option(
        'cosine', 'how the rate falls after the warm-up',
        choices=('cosine', 'poly', 'exponential', 'steps', 'constant'),
    )  # fmt: skip
    warmup_steps: int = option(200, 'steps over which the rate rises from zero', minimum=0)
    poly_power: float = option(0.9, 'exponent of the schedule poly', minimum=0.0, maximum=10.0)
    final_lr_ratio: float = option(
        0.01, 'last rate over lr, of the schedules cosine, poly and exponential', minimum=0.0, maximum=1.0
    )
    milestones: tuple[float, ...] = option((0.4, 0.8), 'shares of the run after which the schedule steps goes down')
    milestone_factor: float = option(0.5, 'by which it then multiplies the rate', minimum=0.0, maximum=1.0)
    clip_norm: float = option(10.0, 'largest norm of the gradient; 0: no limit', minimum=0.0)
    ema_decay: float = option(
        0.999, 'of the moving average of the weights, which is what is graded and kept; 0: none', minimum=0.0,
        maximum=0.999999,
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        if not all(isinstance(share, (int, float)) and 0 < share < 1 for share in self.milestones):
            raise ConfigError(f'milestones: expected shares of the run between 0 and 1, got {self.milestones}')
        if self.schedule == 'exponential' and not self.final_lr_ratio:
            raise ConfigError('final_lr_ratio: expected more than 0, which an exponential never reaches, got 0')


@dataclass(frozen=True)
class TrainConfig(Checked):
    """One training run. Relative paths count from where the command runs."""

    name: str = option('sembox_b1', 'name of the run')
    out: str = option('', 'folder of the run; empty: runs/<name>')
    model: str = option('sembox_b1', 'name in the model zoo')
    model_options: dict[str, Any] = field(default_factory=dict)
    start_from: str = option('', 'checkpoint whose weights the run starts with; empty: random ones')
    freeze: tuple[str, ...] = option((), 'parts that stay as they are, such as encoder, box_head or decoders.semantic')
    stochastic_depth: float = option(0.2, 'share of encoder blocks left out at the end', minimum=0.0, maximum=0.9)
    seed: int = option(0, 'of weights, order and augmentation', minimum=0, maximum=2**63 - 1)
    epochs: int = option(100, 'times that the data is seen', minimum=1)
    batch_size: int = option(8, 'images of one step of one process', minimum=1, maximum=65536)
    accumulate: int = option(1, 'batches whose gradients are summed to one step', minimum=1, maximum=65536)
    norm_images: int = option(
        256, 'training images on which batch norms are measured anew before a validation; 0: none', minimum=0
    )
    val_every: int = option(1, 'epochs between two validations', minimum=1)
    val_batch_size: int = option(4, 'images of one batch of the validation', minimum=1, maximum=65536)
    best_by: str = option('miou+ap', f'sum that chooses the best checkpoint, of {", ".join(RANKED)}; absent ones are 0')
    log_every: int = option(20, 'steps between two lines of the history', minimum=1)
    save_every_s: float = option(300.0, 'seconds after which the state is saved within an epoch', minimum=1.0)
    device: str = option('auto', 'kind of device', choices=('auto', 'cpu', 'cuda'))
    precision: str = option(
        'auto', 'number format; auto: bf16 or fp16 on a GPU, fp32 on a CPU',
        choices=('auto', 'fp32', 'bf16', 'fp16'),
    )  # fmt: skip
    quantization: str = option(
        'none', 'qat: go on with start_from, rounded as int8 files round it (needs a decoder and torchao)',
        choices=('none', 'qat'),
    )  # fmt: skip
    threads: int = option(0, 'CPU threads of the network; 0: as torch chooses', minimum=0, maximum=512)
    input: InputConfig = field(default_factory=lambda: InputConfig(resize='letterbox'))
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        for part in self.freeze:
            if not isinstance(part, str):
                raise ConfigError(f'freeze: expected names of parts, got {part!r}')
        if not set(self.best_by.split('+')) <= set(RANKED):
            raise ConfigError(
                f"best_by: expected one of {', '.join(RANKED)}, or a sum such as miou+ap; got '{self.best_by}'"
            )
        if self.quantization == 'qat' and (self.freeze or self.precision not in ('auto', 'fp32')):
            raise ConfigError(
                'freeze, precision: expected no parts and auto or fp32, as quantization qat moves all weights and '
                f'rounds in float32; got {", ".join(self.freeze) or "none"} and {self.precision}'
            )

    @property
    def folder(self) -> Path:
        """Where the run keeps its files."""
        return Path(self.out or Path('runs') / self.name)


def load_train_config(path: str | Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read a YAML file and set the `key=value` pairs in it; nested keys have dots, values are YAML.

    A file may name another one as its `base`, by a path relative to its own folder: it then says only what differs.

    Args:
        path: file with names of `TrainConfig`; sections are mappings.
        overrides: such as ``('epochs=3', 'input.size_hw=[128,256]')``.

    Raises:
        ConfigError: the file cannot be read, is no mapping, or a name or value is refused.
    """
    for pair in overrides:
        if '=' not in pair:
            raise ConfigError(f"override: expected key=value such as epochs=3, got '{pair}'")
    path = Path(path)
    own = _read(path)
    base = own.pop('base', None)
    layers = [own] if base is None else [_read_base(path, base), own]
    try:
        values: Any = OmegaConf.to_container(OmegaConf.merge(*layers, OmegaConf.from_dotlist(list(overrides))))
    except (OmegaConfBaseException, YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f'{path}: cannot be read as a training configuration: {error}') from error
    return from_mapping(TrainConfig, {str(name): value for name, value in values.items()})


def _read(path: Path) -> dict[Any, Any]:
    """Names and values of a file, as they stand in it."""
    try:
        loaded = OmegaConf.load(path)
        if not isinstance(loaded, DictConfig):
            raise ConfigError(f'{path}: expected names and values, got a list')
        values: Any = OmegaConf.to_container(loaded)
    except (OSError, OmegaConfBaseException, YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f'{path}: cannot be read as a training configuration: {error}') from error
    return dict(values)


def _read_base(path: Path, base: Any) -> dict[Any, Any]:
    """Names and values of the file that another one, at `path`, builds on."""
    if not isinstance(base, str) or not base or Path(base).is_absolute():
        raise ConfigError(f'{path}: base: expected the path of another file, relative to this one, got {base!r:.80}')
    values = _read(path.parent / base)
    if 'base' in values:
        raise ConfigError(f'{path}: base: expected a file without a base of its own, got {base}; name its base instead')
    return values


def write_train_config(config: TrainConfig, path: Path) -> None:
    """Write all values, defaults too, in the form that `load_train_config` reads."""
    OmegaConf.save(OmegaConf.create(to_plain(config)), path)


def to_plain(config: TrainConfig) -> dict[str, Any]:
    """Names and values of all sections, tuples as lists."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items()}
        return [plain(v) for v in value] if isinstance(value, (tuple, list)) else value

    result: dict[str, Any] = plain(dataclasses.asdict(config))
    return result
