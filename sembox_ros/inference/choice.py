"""`engine: auto`: which engine runs a network fastest on this machine, measured once and remembered."""

from __future__ import annotations

import dataclasses
import gc
import hashlib
import json
import logging
import os
import platform
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sembox_ros.atomic import write_whole
from sembox_ros.errors import ConfigError, SemboxError
from sembox_ros.inference.cache import cache_folder
from sembox_ros.inference.engines import ENGINES, Engine, create_engine
from sembox_ros.inference.graphs import network_key
from sembox_ros.models.checkpoint import Checkpoint
from sembox_ros.models.sembox import NetworkOutput
from sembox_ros.ops.grids import Grids, create_grids, evaluate_kernels, grid_shapes

ROUNDS = 5
PATIENCE_S = 2.0  # rounds end early when they have taken this long
# How far an engine may be from PyTorch in fp32 on one picture: the mean share of a pixel's probability that went to
# other classes, the largest change of a score (of a box, or of a category in a cell), how far the masks of the most
# confident cells are from their likes, and the mean ratio of depths, as its natural logarithm.
MAX_PIXEL_SHIFT = 0.01
MAX_DEPTH_SHIFT = 0.01
MAX_SCORE_SHIFT = 0.05
MAX_MASK_SHIFT = 0.05
MASKS = 20  # cells whose masks are compared
_PACKAGES = ('torch', 'onnxruntime', 'onnxruntime-gpu', 'openvino')

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Candidate:
    """One engine in one precision, as measured.

    Attributes:
        engine: its name.
        precision: what it computed in.
        milliseconds: median of one image on the checkpoint's canvas.
        pixel_shift: mean share of a pixel's probability, of its class or of whether it moves, that differs from the
            reference, 0..1; the larger of the two.
        score_shift: largest difference of a score, 0..1.
        mask_shift: one minus the soft IoU with the reference's masks, mean of the most confident cells, 0..1.
        depth_shift: mean natural logarithm of the ratio of the larger to the smaller depth.
        problem: why it cannot be taken, or empty.
    """

    engine: str
    precision: str
    milliseconds: float = 0.0
    pixel_shift: float = 0.0
    score_shift: float = 0.0
    mask_shift: float = 0.0
    depth_shift: float = 0.0
    problem: str = ''

    def __str__(self) -> str:
        return f'{self.engine} {self.precision} ' + (self.problem or f'{self.milliseconds:.0f} ms')


def choose_engine(
    checkpoint: Checkpoint, *, device: torch.device, precision: str, threads: int
) -> tuple[Engine, tuple[Candidate, ...]]:
    """The fastest engine that is installed and accurate, and what was measured, fastest first.

    The first call for a network on a machine measures and takes up to a minute; its result is kept in the cache and
    holds until the weights, the machine, the number of threads or a version changes.

    Args:
        checkpoint: what is to run.
        device: cpu or cuda:N.
        precision: fp32, fp16 or bf16 admit only engines that know it; auto admits all that are accurate.
        threads: CPU threads; 0 takes all cores.

    Raises:
        ConfigError: no engine can run it.
    """
    path = cache_folder() / f'engines-{_machine_key(checkpoint, device, precision, threads)}.json'
    measured = _read(path)
    if measured is None:
        measured = measure(checkpoint, device=device, precision=precision, threads=threads)
        try:
            write_whole(path, json.dumps([asdict(c) for c in measured], indent=1).encode(), ConfigError)
        except ConfigError as error:
            _logger.warning('the choice of engine is not remembered: %s', error)
    for candidate in measured:
        if not candidate.problem:
            engine = create_engine(
                checkpoint, candidate.engine, device=device, precision=candidate.precision, threads=threads
            )
            return engine, measured
    raise ConfigError(f'engine: none can run this checkpoint: {"; ".join(map(str, measured)) or "none is installed"}')


def measure(checkpoint: Checkpoint, *, device: torch.device, precision: str, threads: int) -> tuple[Candidate, ...]:
    """Time every engine on the checkpoint's canvas, interleaved; usable ones first, fastest first."""
    pairs = [
        (name, known)
        for name, engine in ENGINES.items()
        for known in engine.precisions(device)
        if precision in ('auto', known)
    ]
    _logger.info('measuring engines for this network on this machine; this happens once and takes up to a minute')
    config = checkpoint.config
    batch = probe_batch(checkpoint.input.size_hw, config.input_channels)
    grids = None
    if config.instance_channels:
        shapes = grid_shapes(config.instance_grids, config.instance_grid_aspect)
        grids = create_grids(shapes, checkpoint.input.size_hw)
    reference: NetworkOutput | None = None
    if checkpoint.graph is None:
        exact = create_engine(checkpoint, 'torch', device=device, precision='fp32', threads=threads)
        reference = _run(exact, batch)
    engines: dict[tuple[str, str], Engine] = {}
    found: dict[tuple[str, str], Candidate] = {}
    for name, known in pairs:
        try:
            engine = create_engine(checkpoint, name, device=device, precision=known, threads=threads)
            output = _run(engine, batch)
        except SemboxError as error:
            found[name, known] = Candidate(name, known, problem=f'cannot run it ({error})')
            continue
        reference = output if reference is None else reference
        found[name, known] = _compare(Candidate(name, known), output, reference, grids)
        engines[name, known] = engine
    for pair, milliseconds in _time(engines, batch).items():
        found[pair] = dataclasses.replace(found[pair], milliseconds=milliseconds)
    engines.clear()
    gc.collect()
    return tuple(sorted(found.values(), key=lambda c: (bool(c.problem), c.milliseconds)))


def probe_batch(size_hw: tuple[int, int], channels: int = 3) -> Tensor:
    """One image with large shapes, edges and texture, (1, channels, H, W) normalised float32; always the same."""
    generator = torch.Generator().manual_seed(0)
    height, width = size_hw
    batch = torch.zeros(1, channels, height, width)
    for side, strength in ((4, 1.2), (16, 0.6), (64, 0.3)):
        size = (max(1, height * side // 512), max(1, width * side // 512))
        noise = torch.randn(1, channels, *size, generator=generator)
        mode = 'nearest' if side == 16 else 'bicubic'
        batch += strength * F.interpolate(noise, size=size_hw, mode=mode)
    return batch


def _run(engine: Engine, batch: Tensor) -> NetworkOutput:
    with torch.inference_mode():
        output = engine(batch.to(engine.device, engine.dtype))
        return NetworkOutput._make(None if part is None else part.float().cpu().clone() for part in output)


def _compare(candidate: Candidate, output: NetworkOutput, reference: NetworkOutput, grids: Grids | None) -> Candidate:
    """The candidate with its differences from the reference; `grids` are an instance head's, on the probe's canvas."""
    pairs = ((output.class_logits, reference.class_logits), (output.category_logits, reference.category_logits))
    both = [(ours, wanted) for ours, wanted in pairs if ours is not None and wanted is not None]
    moved = [(ours.sigmoid() - wanted.sigmoid()).abs().max() for ours, wanted in both]
    scores = float(torch.stack(moved).max()) if moved else 0.0
    pixels = depth = 0.0
    if output.semantic_logits is not None and reference.semantic_logits is not None:
        difference = output.semantic_logits.softmax(dim=1) - reference.semantic_logits.softmax(dim=1)
        pixels = float(difference.abs().sum(dim=1).mean() / 2)
    if output.motion_logits is not None and reference.motion_logits is not None:
        moves = float((output.motion_logits.sigmoid() - reference.motion_logits.sigmoid()).abs().mean())
        pixels = moves if not moves <= pixels else pixels
    if output.log_depth is not None and reference.log_depth is not None:
        depth = float((output.log_depth - reference.log_depth).abs().mean())
    masks = 0.0 if grids is None else _mask_shift(output, reference, grids)
    limits = (MAX_PIXEL_SHIFT, MAX_SCORE_SHIFT, MAX_MASK_SHIFT, MAX_DEPTH_SHIFT)
    # Not so where one is no number.
    near = all(shift <= limit for shift, limit in zip((pixels, scores, masks, depth), limits, strict=True))
    shifts = f'pixels {pixels:.3f}, scores {scores:.3f}, masks {masks:.3f}, depth {depth:.3f}'
    return dataclasses.replace(
        candidate, pixel_shift=pixels, score_shift=scores, mask_shift=masks, depth_shift=depth,
        problem='' if near else f'is inaccurate here ({shifts})',
    )  # fmt: skip


def _mask_shift(output: NetworkOutput, reference: NetworkOutput, grids: Grids) -> float:
    """See `Candidate.mask_shift`."""
    assert reference.category_logits is not None
    cells = reference.category_logits[0].amax(dim=1).topk(min(MASKS, len(grids.reach))).indices
    ours, wanted = (_mask_probs(part, cells, grids) for part in (output, reference))
    overlap = torch.minimum(ours, wanted).sum(dim=1) / torch.maximum(ours, wanted).sum(dim=1)
    return float(1 - overlap.mean())


def _mask_probs(output: NetworkOutput, cells: Tensor, grids: Grids) -> Tensor:
    """(N, h x w) of the cells of the probe."""
    assert output.mask_kernels is not None
    assert output.mask_features is not None
    kernels, features = output.mask_kernels[0, cells], output.mask_features[0]
    return evaluate_kernels(kernels, cells, features, grids).sigmoid().flatten(1)


def _time(engines: dict[tuple[str, str], Engine], batch: Tensor) -> dict[tuple[str, str], float]:
    """Median milliseconds of each, round after round so that the machine's moods hit all alike."""
    inputs = {pair: batch.to(engine.device, engine.dtype) for pair, engine in engines.items()}
    times: dict[tuple[str, str], list[float]] = {pair: [] for pair in engines}
    began = time.perf_counter()
    for _ in range(ROUNDS):
        for pair, engine in engines.items():
            start = time.perf_counter()
            with torch.inference_mode():
                engine(inputs[pair])
            if engine.device.type == 'cuda':
                torch.cuda.synchronize(engine.device)
            times[pair].append((time.perf_counter() - start) * 1e3)
        if time.perf_counter() - began > PATIENCE_S * len(engines):
            break
    return {pair: statistics.median(values) for pair, values in times.items()}


def _machine_key(checkpoint: Checkpoint, device: torch.device, precision: str, threads: int) -> str:
    """Digest of everything that the choice depends on."""
    name = torch.cuda.get_device_name(device) if device.type == 'cuda' else _cpu_name()
    versions = [f'{package} {_version(package)}' for package in _PACKAGES]
    facts = (network_key(checkpoint), checkpoint.input, name, os.cpu_count(), precision, threads, versions)
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def _cpu_name() -> str:
    """The CPU's model and what it can do."""
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:
        lines = []
    return f'{platform.machine()} {[line for line in lines if line.startswith(("model name", "flags"))][:2]}'


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ''


def _read(path: Path) -> tuple[Candidate, ...] | None:
    """What an earlier call found, or None."""
    try:
        rows: Sequence[dict[str, Any]] = json.loads(path.read_text())
        return tuple(Candidate(**row) for row in rows)
    except (OSError, ValueError, TypeError):
        return None
