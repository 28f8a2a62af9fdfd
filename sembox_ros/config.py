"""Configuration as frozen dataclasses whose fields carry their own documentation and limits.

One field, declared once with `option`, is the default and the check of the YAML file, the command line
and the ROS parameter of the same name.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
import sys
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sembox_ros.errors import ConfigError

# IMAGENET statistics, on RGB scaled to 0..1 (what torchvision's and EfficientNet's weights were trained with).
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_CAMERA_NAME = re.compile(r'[A-Za-z_]\w*(/[A-Za-z_]\w*)*', re.ASCII)

LEVELS = 5  # of the pyramid, p3 to p7
MAX_GRID_ROWS = 100
SIZE_DIVISOR = 128  # p7's stride: every pyramid level then halves exactly
INPUT_CHANNELS = {'image': 3, 'flow': 2}
TASKS = ('semantic', 'depth', 'motion')


def option(
    default: Any,
    description: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] = (),
    dynamic: bool = False,
) -> Any:
    """A dataclass field with a description, limits (inclusive) and whether it may change while running."""
    metadata = {
        'description': description,
        'minimum': minimum,
        'maximum': maximum,
        'choices': choices,
        'dynamic': dynamic,
    }
    return dataclasses.field(default=default, metadata=metadata)


def field_types(config_class: type) -> dict[str, Any]:
    """Field name -> annotated type, with string annotations resolved."""
    return typing.get_type_hints(config_class)


def check_value(field: dataclasses.Field[Any], kind: Any, value: Any) -> Any:
    """The value in the field's type, or an error that says what is wrong with it.

    An int is taken where a float is wanted; nothing else is converted.

    Raises:
        ConfigError: wrong type, outside minimum..maximum, or not among the choices.
    """
    name, limits = field.name, field.metadata
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            value = float(value)
        except OverflowError:
            raise ConfigError(f'{name}: expected a finite number, got a whole number too large for one') from None
    plain = typing.get_origin(kind) or kind
    if plain is types.UnionType or not isinstance(plain, type):
        return value
    if not isinstance(value, plain) or (plain is not bool and isinstance(value, bool)):
        wanted = 'list or tuple' if plain is tuple else plain.__name__
        raise ConfigError(f'{name}: expected {wanted}, got {type(value).__name__} {value!r}')
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f'{name}: expected a finite number, got {value}')
    low, high = limits.get('minimum'), limits.get('maximum')
    if (low is not None and value < low) or (high is not None and value > high):
        bounds = f'{"-inf" if low is None else low}..{"inf" if high is None else high}'
        raise ConfigError(f'{name}: expected a value in {bounds}, got {value}')
    choices = limits.get('choices') or ()
    if choices and value not in choices:
        raise ConfigError(f"{name}: expected one of {', '.join(choices)}; got '{value}'{suggest(str(value), choices)}")
    return value


def suggest(word: str, known: Iterable[str]) -> str:
    """' (did you mean X?)' for the known word closest to `word`, or an empty string."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f' (did you mean {close[0]}?)' if close else ''


class Checked:
    """Mixin: a dataclass that checks every field declared with `option` when it is built."""

    def __post_init__(self) -> None:
        kinds = field_types(type(self))
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value = check_value(field, kinds[field.name], getattr(self, field.name))
            object.__setattr__(self, field.name, value)


ConfigT = TypeVar('ConfigT')


def from_mapping(config_class: type[ConfigT], values: Mapping[str, Any]) -> ConfigT:
    """Build a config dataclass from names and values, lists becoming tuples and mappings the dataclasses inside it.

    Raises:
        ConfigError: an unknown name, or a value that its field refuses; inside another one its name is section.name.
    """
    kinds = field_types(config_class)
    known = [f.name for f in dataclasses.fields(config_class)]  # type: ignore[arg-type]
    given = {}
    for name, value in values.items():
        if name not in known:
            hint = suggest(str(name), known)
            raise ConfigError(f"{config_class.__name__}: unknown option '{name}'{hint}; known: {', '.join(known)}")
        if dataclasses.is_dataclass(kinds[name]) and isinstance(value, Mapping):
            try:
                value = from_mapping(kinds[name], value)
            except ConfigError as error:
                raise ConfigError(f'{name}.{error}') from error
        given[name] = tuple(value) if isinstance(value, list) else value
    return config_class(**given)


@dataclass(frozen=True)
class ModelConfig(Checked):
    """Architecture of a SemanticBoxNet; everything that fixes its parameter shapes."""

    name: str = option('sembox_b1', 'name of the architecture in the model zoo')
    encoder: str = option('efficientnet-b1', 'backbone, by its name in models/encoders')
    decoder: str = option('', "name in models/decoders; empty: SemanticBoxNet's or EfficientDet's own heads")
    decoder_channels: int = option(256, 'channels inside the decoder', minimum=8, maximum=1024)
    inputs: tuple[str, ...] = option(('image',), 'what the network sees: image, or image and flow, with a decoder')
    tasks: tuple[str, ...] = option(('semantic',), 'of semantic, depth and motion: a decoder for each')
    neck_channels: int = option(88, 'channels of both pyramids', minimum=8, maximum=512)
    neck_cells: int = option(4, 'BiFPN cells of each pyramid', minimum=1, maximum=8)
    separate_semantic_neck: bool = option(True, 'give the semantic branch a BiFPN of its own')
    box_head_depth: int = option(3, 'convolutions before the last one in the box head', minimum=1, maximum=5)
    semantic_channels: int = option(128, 'channels inside the semantic head', minimum=8, maximum=512)
    dpc_channels: int = option(128, 'channels of each dense prediction cell branch', minimum=8, maximum=512)
    semantic_classes: int = option(
        19, 'classes of the semantic label set; 0: the network only detects', minimum=0, maximum=255
    )
    detection_classes: int = option(90, 'classes of the detection label set', minimum=1, maximum=10000)
    box_head: bool = option(True, 'find boxes; without it, instances must come from their masks')
    instance_channels: int = option(
        0, 'channels of the mask features and the length of a kernel; 0: no instance masks', minimum=0, maximum=512
    )
    instance_head_channels: int = option(128, 'channels inside the instance head', minimum=8, maximum=512)
    instance_head_depth: int = option(2, 'convolutions of each branch of the instance head', minimum=1, maximum=4)
    instance_grids: tuple[int, ...] = option((40, 36, 24, 16, 12), 'rows of the grids of p3 to p7')
    instance_grid_aspect: float = option(
        1.0, 'columns per row of the grids: 1 as published, 2 for canvases twice as wide as high', minimum=0.25,
        maximum=4.0,
    )  # fmt: skip
    image_classes: int = option(
        0, 'names for whole images, of a network that finds nothing in them; 0: it sees scenes', minimum=0,
        maximum=100_000,
    )  # fmt: skip
    anchor_scale: float = option(4.0, 'side of the smallest square anchor, in strides', minimum=1.0, maximum=16.0)

    @property
    def input_channels(self) -> int:
        """Channels of all inputs, one behind the other."""
        return sum(INPUT_CHANNELS[name] for name in self.inputs)

    def __post_init__(self) -> None:
        super().__post_init__()
        rows = self.instance_grids
        if len(rows) != LEVELS or not all(type(count) is int and 1 <= count <= MAX_GRID_ROWS for count in rows):
            raise ConfigError(f'instance_grids: expected {LEVELS} numbers in 1..{MAX_GRID_ROWS}, got {rows!s:.80}')
        for name, values, known in (('inputs', self.inputs, tuple(INPUT_CHANNELS)), ('tasks', self.tasks, TASKS)):
            if not values or list(values) != [value for value in known if value in values]:
                raise ConfigError(f'{name}: expected some of {", ".join(known)}, in this order, got {values!s:.80}')
        if self.inputs[0] != 'image':
            raise ConfigError(f'inputs: expected image, or image and flow, got {", ".join(self.inputs)}')
        if self.decoder and bool(self.semantic_classes) != ('semantic' in self.tasks):
            raise ConfigError(
                f'semantic_classes: expected {"some" if "semantic" in self.tasks else "0"} with the tasks '
                f'{", ".join(self.tasks)}, got {self.semantic_classes}'
            )
        if not self.decoder and (self.inputs != ('image',) or self.tasks != ('semantic',)):
            raise ConfigError('inputs, tasks: flow, depth and motion need a decoder, got none')
        finds = self.box_head or self.semantic_classes or self.instance_channels or self.decoder
        if finds and self.image_classes:
            raise ConfigError(f'image_classes: expected 0 for a network that sees scenes, got {self.image_classes}')
        if not finds and not self.image_classes:
            raise ConfigError('box_head: expected true, or semantic_classes or instance_channels, or nothing is found')

    @property
    def finds_objects(self) -> bool:
        """Whether the network tells objects apart, by boxes or by masks."""
        return self.box_head or self.instance_channels > 0


def check_size_hw(name: str, size_hw: tuple[int, ...]) -> None:
    """Check that a canvas is one that every network takes.

    Raises:
        ConfigError: it is not; `name` is what the configuration calls it.
    """
    if len(size_hw) != 2 or not all(isinstance(s, int) for s in size_hw):
        raise ConfigError(f'{name}: expected two whole numbers (height, width), got {size_hw}')
    if any(s < SIZE_DIVISOR or s % SIZE_DIVISOR or s > 8192 for s in size_hw):
        raise ConfigError(f'{name}: expected multiples of {SIZE_DIVISOR} up to 8192, got {size_hw}')


@dataclass(frozen=True)
class InputConfig(Checked):
    """How an image becomes the network's input; travels with the checkpoint."""

    size_hw: tuple[int, int] = option((512, 1024), 'canvas that the image is scaled to fit, height and width')
    resize: str = option(
        'letterbox',
        'letterbox keeps the aspect ratio and trims the canvas to the image, letterbox_fixed keeps all of the canvas; '
        'stretch fills it',
        choices=('letterbox', 'letterbox_fixed', 'stretch'),
    )
    semantic_extent: str = option(
        'canvas', 'what the semantic output covers: the canvas, or the image alone', choices=('canvas', 'image')
    )
    channel_order: str = option('rgb', 'channel order that the weights expect', choices=('rgb', 'bgr'))
    mean: tuple[float, float, float] = option(IMAGENET_MEAN, 'subtracted per channel, after scaling to 0..1')
    std: tuple[float, float, float] = option(IMAGENET_STD, 'divided by per channel')

    def __post_init__(self) -> None:
        super().__post_init__()
        check_size_hw('size_hw', self.size_hw)
        for name in ('mean', 'std'):
            values = getattr(self, name)
            if len(values) != 3 or not all(isinstance(v, (int, float)) and math.isfinite(v) for v in values):
                raise ConfigError(f'{name}: expected three finite numbers, got {values}')
        if any(v <= 0 for v in self.std):
            raise ConfigError(f'std: expected positive numbers, got {self.std}')


@dataclass(frozen=True)
class DetectionConfig(Checked):
    """Which boxes come out."""

    score_threshold: float = option(
        0.4, 'boxes below this score are not published', minimum=0.0, maximum=1.0, dynamic=True
    )
    nms_iou_threshold: float = option(
        0.5, 'of two boxes of one class that overlap more than this, the better one stays', minimum=0.0, maximum=1.0,
        dynamic=True,
    )  # fmt: skip
    max_detections: int = option(100, 'most boxes per image, best first', minimum=1, maximum=1000, dynamic=True)
    fusion: str = option(
        'auto',
        'how instances get their pixels; boxes: each box takes those of its class inside it; heuristic, efficientps: '
        'from instance masks, whose boxes are then the detections; auto: efficientps where the network has such masks, '
        'else boxes',
        choices=('auto', 'boxes', 'heuristic', 'efficientps'),
        dynamic=True,
    )


@dataclass(frozen=True)
class NodeConfig(DetectionConfig):
    """Parameters of the node `sembox`; the one source of config/sembox_node.yaml and of the ROS descriptors."""

    tracking: bool = option(
        False, 'an object keeps its id from frame to frame; without, ids count from 1 in every frame', dynamic=True
    )
    checkpoint: str = option('', 'checkpoint file (.safetensors); empty: the one that ships with the package')
    device: str = option('auto', 'auto, cpu, cuda or cuda:N; auto takes CUDA where there is one')
    engine: str = option(
        'auto',
        'what runs the network; auto: the fastest that is installed and accurate, measured once',
        choices=('auto', 'torch', 'onnxruntime', 'openvino'),
    )
    precision: str = option(
        'auto',
        'number format of the network; auto: the fastest that is accurate, or the usual one of an engine that is named',
        choices=('auto', 'fp32', 'fp16', 'bf16'),
    )
    threads: int = option(0, 'CPU threads of the network; 0: as many as cores', minimum=0, maximum=512)
    cameras: tuple[str, ...] = option(
        (), 'names of cameras, each with its own <camera>/image and outputs; empty: one camera, without a name'
    )
    max_batch: int = option(8, 'most frames that the network takes at once', minimum=1, maximum=64)
    batch_window_ms: float = option(
        5.0, 'longest time that the first frame of a batch waits for those of the other cameras', minimum=0.0,
        maximum=1000.0, dynamic=True,
    )  # fmt: skip
    input_transport: str = option(
        'auto',
        'raw: Image; compressed: CompressedImage; auto: whichever is published',
        choices=('auto', 'raw', 'compressed'),
    )
    autostart: bool = option(True, 'configure and activate without a lifecycle manager')
    max_image_pixels: int = option(
        64_000_000, 'larger images are refused before they are decoded', minimum=1, maximum=1_000_000_000
    )
    max_age_s: float = option(
        0.0, 'frames whose stamp is older than this are counted as stale and dropped; 0: never', minimum=0.0,
        maximum=3600.0, dynamic=True,
    )  # fmt: skip
    class_id_format: str = option(
        'id', 'class_id of a detection: decimal id of detections/label_info, or the class name', choices=('id', 'name'),
        dynamic=True,
    )  # fmt: skip
    overlay_alpha: float = option(
        0.5, 'weight of the class colours in the overlay', minimum=0.0, maximum=1.0, dynamic=True
    )
    diagnostics_period_s: float = option(1.0, 'time between two messages on /diagnostics', minimum=0.1, maximum=60.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.cameras:
            if not isinstance(name, str) or not _CAMERA_NAME.fullmatch(name):
                raise ConfigError(
                    'cameras: expected relative topic names (letters, digits and underscores, parts joined by /, no '
                    f'part beginning with a digit), got {name!r}'
                )
        twice = [name for name in dict.fromkeys(self.cameras) if self.cameras.count(name) > 1]
        if twice:
            raise ConfigError(f'cameras: expected every name once, got {", ".join(twice)} more than once')


def find_shared(relative: str) -> Path | None:
    """A file or folder that ships beside the code: in the source tree, or in <prefix>/share/sembox_ros."""
    package = Path(__file__).resolve().parent
    prefixes = (package.parents[3], Path(sys.prefix)) if len(package.parents) > 3 else (Path(sys.prefix),)
    for root in (package.parent, *(prefix / 'share' / 'sembox_ros' for prefix in prefixes)):
        if (root / relative).exists():
            return root / relative
    return None
