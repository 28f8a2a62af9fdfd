"""Proof that an importer is exact: the original's outputs for deterministic weights, against ours after the import."""

from __future__ import annotations

import contextlib
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor, nn

from sembox_ros.errors import CheckpointError
from sembox_ros.labels import LabelSet, SceneLabels
from sembox_ros.models.checkpoint import Checkpoint
from sembox_ros.models.importers import IMPORTERS, import_state
from sembox_ros.models.importers.deterministic import checksum, fill_state, make_input
from sembox_ros.models.sembox import NetworkOutput, resize_maps
from sembox_ros.ops.anchors import create_anchors

FORMAT = '1'
MAX_NUMBERS = 10**9  # of weights or input in a golden; D7 has 5e7
SWAP = [1, 0, 3, 2]  # x y w h <-> y x h w, and x0 y0 x1 y1 <-> y0 x0 y1 x1

# How the file thins out each output: every so many anchors, pixels, argmax pixels, and the last anchors in full.
ANCHOR_STEP, SEMANTIC_STEP, ARGMAX_STEP, TAIL = 997, 16, 8, 45

# First word of the network's description -> source of that coefficient.
_SOURCES: Mapping[str, str] = {
    'EfficientDetBackbone': 'efficientdet-d{}',
    'EfficientDet_semanticBackbone': 'semanticboxnet',  # its only published coefficient is 1
}


class Difference(NamedTuple):
    """How far one tensor is from the original's.

    Attributes:
        name: as the golden file has it.
        shape: of the whole tensor.
        absolute: largest difference; for an argmax, the share of pixels that differ.
        relative: the largest difference over the largest magnitude of the original.
    """

    name: str
    shape: tuple[int, ...]
    absolute: float
    relative: float


class Golden(NamedTuple):
    """One reference file.

    Attributes:
        path: where it lies.
        source: the importer of its network.
        labels: numbered classes, as many as it has.
        state: the deterministic weights, under the original's keys.
        images: (N, 3, H, W) float32.
        outputs: name -> thinned out tensor.
        shapes: name -> shape of the whole tensor.
    """

    path: Path
    source: str
    labels: SceneLabels
    state: dict[str, Tensor]
    images: Tensor
    outputs: dict[str, np.ndarray]
    shapes: dict[str, tuple[int, ...]]


class Report(NamedTuple):
    """Result of `verify_golden`.

    Attributes:
        differences: one for every tensor that both sides have.
        skipped: tensors of the golden that the importer knows no counterpart of.
    """

    differences: list[Difference]
    skipped: list[str]

    @property
    def largest(self) -> float:
        """The largest absolute difference of all; NaN counts as infinite."""
        return max((d.absolute if d.absolute == d.absolute else float('inf') for d in self.differences), default=0.0)


def read_golden(path: str | Path) -> Golden:
    """Read a golden file and make its weights and its input.

    Raises:
        CheckpointError: unreadable, of another format or network, or the weights or the input came out wrong.
    """
    path = Path(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            content: dict[str, np.ndarray] = {name: file[name] for name in file.files}
        return _parse(path, content)
    except KeyError as error:
        raise CheckpointError(f'{path}: not a golden file, it lacks {error}') from error
    except (OSError, ValueError, TypeError, IndexError, EOFError, BadZipFile, zlib.error) as error:
        reason = ' '.join(str(error).split())[:200]
        raise CheckpointError(f'{path}: not a readable golden file ({reason})') from error


def _parse(path: Path, content: Mapping[str, np.ndarray]) -> Golden:
    if str(content['format']) != FORMAT:
        raise CheckpointError(f"{path}: expected golden format {FORMAT}, got '{str(content['format'])[:20]}'")
    source, detection_classes = _parse_network(path, str(content['network']))
    shapes = {str(k): _parse_shape(s) for k, s in zip(content['state_keys'], content['state_shapes'], strict=True)}
    count, channels, height, width = (int(n) for n in content['input_shape'])
    numbers = sum(int(np.prod(s, dtype=np.float64)) for s in (*shapes.values(), (count, channels, height, width)))
    if numbers > MAX_NUMBERS:
        raise CheckpointError(f'{path}: weights and input of {numbers} numbers; expected at most {MAX_NUMBERS}')
    scales = dict(zip(content['norm_names'].tolist(), content['norm_scales'].tolist(), strict=True))
    state = fill_state(shapes, int(content['salt']), scales)
    images = make_input(int(content['input_seed']), (count, channels, height, width))
    for name, made in (('weights', checksum(state.values())), ('input', checksum([images]))):
        wanted = int(content[f'{name}_crc32'])
        if made != wanted:
            raise CheckpointError(f'{path}: {name} have CRC-32 {made}, expected {wanted}; shapes or seed do not fit')
    whole = {n.removeprefix('shape:'): tuple(int(s) for s in a) for n, a in content.items() if n.startswith('shape:')}
    semantic_classes = whole['sem_out'][1] if 'sem_out' in whole else 0
    compared = {*whole, 'sem_argmax', *(f'{n}_tail' for n in whole)}
    return Golden(
        path=path,
        source=source,
        labels=SceneLabels(
            _numbered('semantic', semantic_classes) if semantic_classes else None,
            _numbered('detection', detection_classes),
        ),
        state={name: torch.from_numpy(array) for name, array in state.items()},
        images=torch.from_numpy(images),
        outputs={n: a for n, a in content.items() if n in compared},
        shapes=whole,
    )


def _parse_network(path: Path, text: str) -> tuple[str, int]:
    """Source and number of box classes in a description such as "Net {'compound_coef': 1} num_classes=90 eval"."""
    match = re.match(r"(\w+) \{'compound_coef': (\d+)\} num_classes=(\d+)\b", text)
    source = _SOURCES.get(match[1], '').format(match[2]) if match else ''
    if match is None or source not in IMPORTERS:
        known = ', '.join(_SOURCES)
        raise CheckpointError(f"{path}: network '{text[:80]}' is none of: {known} with a known coefficient")
    return source, int(match[3])


def _parse_shape(text: str) -> tuple[int, ...]:
    """'64x1x3x3' to numbers; empty is a scalar."""
    return tuple(int(n) for n in str(text).split('x') if n)


def _numbered(name: str, count: int) -> LabelSet:
    """Class names do not matter here."""
    return LabelSet(
        name=f'{name}_{count}',
        names=tuple(f'{name} {i}' for i in range(count)),
        palette=((0, 0, 0),) * count,
        is_thing=(True,) * count,
    )


def verify_golden(golden: Golden, transform: Callable[[Checkpoint], nn.Module] | None = None) -> Report:
    """Import the golden's weights as a user's file would be, run its input, and compare.

    Args:
        golden: as read by `read_golden`.
        transform: the network to run instead of the imported one, such as a folded one or what came back from a
            file. Intermediates are compared where it still has them in that shape.

    Raises:
        CheckpointError: the weights do not fit, or there is nothing to compare.
    """
    checkpoint = import_state(golden.state, golden.source, golden.labels)
    model = checkpoint.model if transform is None else transform(checkpoint)
    paths = {n: p for n, p in IMPORTERS[golden.source]().intermediates.items() if n in golden.outputs}
    found: dict[str, np.ndarray] = {}
    with torch.inference_mode(), _recorded(model, paths, found):
        raw = resize_maps(checkpoint.model, model(golden.images))
    if transform is not None:
        found = {name: array for name, array in found.items() if array.shape == golden.outputs[name].shape}
    found.update(_outputs(raw, golden, checkpoint.config.anchor_scale))
    report = Report(
        [_compare(name, found[name], wanted, golden) for name, wanted in golden.outputs.items() if name in found],
        [name for name in golden.outputs if name not in found],
    )
    if not report.differences:
        raise CheckpointError(f'{golden.path}: holds no output that can be compared')
    return report


@contextlib.contextmanager
def _recorded(model: nn.Module, paths: Mapping[str, str], found: dict[str, np.ndarray]) -> Iterator[None]:
    """While the block runs, every module of `paths` leaves its thinned out output in `found`."""
    modules = dict(model.named_modules())
    handles = []
    for name, path in paths.items():
        module_path, _, index = path.partition(':')

        def keep(_module: nn.Module, _inputs: Any, output: Any, name: str = name, index: str = index) -> None:
            found[name] = _thin_map(output[int(index)] if index else output)

        if module_path in modules:
            handles.append(modules[module_path].register_forward_hook(keep))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _thin_map(features: Tensor) -> np.ndarray:
    """(N, C, H, W) to some channels and pixels of the first image; a copy, before anything changes it in place."""
    step = max(1, features.shape[3] // 12)
    return features[0, :: max(1, features.shape[1] // 8), ::step, ::step].float().cpu().numpy().copy()


def _outputs(raw: NetworkOutput, golden: Golden, anchor_scale: float) -> dict[str, np.ndarray]:
    """The outputs as the original has them: y before x, scores after the sigmoid."""
    assert raw.class_logits is not None
    assert raw.box_regression is not None
    height, width = golden.images.shape[2:]
    anchors = create_anchors((height, width), anchor_scale=anchor_scale)[None]
    found = {}
    for name, rows in (
        ('regression', raw.box_regression[..., SWAP]),
        ('classification', raw.class_logits.sigmoid()),
        ('anchors', anchors[..., SWAP]),
    ):
        found[name] = rows[0, ::ANCHOR_STEP].numpy()
        found[f'{name}_tail'] = rows[0, -TAIL:].numpy()
    if raw.semantic_logits is not None:
        found['sem_out'] = raw.semantic_logits[0, :, ::SEMANTIC_STEP, ::SEMANTIC_STEP].numpy()
        found['sem_argmax'] = raw.semantic_logits[0].argmax(dim=0)[::ARGMAX_STEP, ::ARGMAX_STEP].numpy()
    return found


def _compare(name: str, ours: np.ndarray, wanted: np.ndarray, golden: Golden) -> Difference:
    shape = golden.shapes.get(name.removesuffix('_tail'), wanted.shape)
    if ours.shape != wanted.shape:
        raise CheckpointError(f"{golden.path}: '{name}': expected samples {wanted.shape}, got {ours.shape}")
    if name == 'sem_argmax':
        share = float((ours != wanted).mean())
        return Difference(name, shape, share, share)
    exact = wanted.astype(np.float64)
    absolute = float(np.abs(ours - exact).max(initial=0.0))
    return Difference(name, shape, absolute, absolute / max(float(np.abs(exact).max(initial=0.0)), 1e-30))
