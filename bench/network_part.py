"""The networks alone: ours, the original and others', eager and through engines, against the limits of the machine."""

from __future__ import annotations

import argparse
import dataclasses
import re
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from peers import (
    CONVERTERS,
    Run,
    consume,
    create_efficient_peers,
    create_torchvision_pair,
    largest_difference,
    outputs_of,
    settle,
)
from report import Section
from roofline import Limits, Work, count_work, least_ms, measure_limits_of_cpu
from timing import measure_rounds, timed
from torch import Tensor, nn
from tqdm import tqdm

from sembox_ros.config import IMAGENET_MEAN, IMAGENET_STD
from sembox_ros.data.streets import render_street
from sembox_ros.errors import SemboxError
from sembox_ros.inference.choice import choose_engine
from sembox_ros.inference.engines import Engine, create_engine
from sembox_ros.labels import SceneLabels, load_scene_labels
from sembox_ros.models.checkpoint import Checkpoint, load_bundled, load_checkpoint
from sembox_ros.models.folding import fold
from sembox_ros.models.semanticboxnet_v1 import CANVAS_HW
from sembox_ros.models.sembox import NetworkOutput, resize_maps
from sembox_ros.models.zoo import create_model, find_model

Way = tuple[str, str]  # engine and precision
EAGER: Way = ('eager', 'fp32')
OURS: tuple[Way, ...] = (
    EAGER, ('torch', 'fp32'), ('torch', 'bf16'), ('onnxruntime', 'fp32'), ('openvino', 'fp32'), ('openvino', 'bf16'),
)  # fmt: skip
PEERS: tuple[Way, ...] = (EAGER, ('onnxruntime', 'fp32'), ('openvino', 'fp32'), ('openvino', 'bf16'))
TOLERANCE = 1e-3  # of the original's float32 outputs through the engines
PAUSE_S = 0.05


@dataclass(frozen=True)
class Subject:
    """A network, or two that run one after the other on the same image.

    Attributes:
        name: in the tables.
        modules: as built, in evaluation mode.
        ways: how they are run.
        checkpoint: of a network of this package, which its own engines run; others are converted by `peers`.
    """

    name: str
    modules: tuple[nn.Module, ...]
    ways: tuple[Way, ...]
    checkpoint: Checkpoint | None = None


@dataclass
class Bench:
    """What is measured at one size.

    Attributes:
        images: (1, 3, H, W) normalised float32.
        threads: of every engine.
        section: table of times.
        runs: candidate -> one forward pass.
        work: candidate -> what it must do, and in which precision.
    """

    images: Tensor
    threads: int
    section: Section
    runs: dict[str, Callable[[], object]] = field(default_factory=dict)
    work: dict[str, tuple[Work, str]] = field(default_factory=dict)


def normalised_street(size_hw: tuple[int, int]) -> Tensor:
    """A rendered street as networks take it, (1, 3, H, W) float32."""
    image = torch.from_numpy(render_street(size_hw=size_hw, seed=1).image).permute(2, 0, 1)[None].float() / 255
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return ((image - mean) / std).contiguous()


def random_checkpoint(name: str, labels: SceneLabels, images: Tensor) -> Checkpoint:
    """A network of the zoo with random weights and its own input geometry."""
    entry = find_model(name)
    assert labels.semantic is not None
    config = dataclasses.replace(
        entry.config, semantic_classes=len(labels.semantic), detection_classes=len(labels.detection)
    )
    return Checkpoint(settle(create_model(config), images), config, labels, entry.input, trained=False)


def our_subjects(images: Tensor, options: argparse.Namespace) -> Iterator[Subject]:
    """The original, where its canvas is asked for, and the networks of this package."""
    if tuple(images.shape[2:]) == CANVAS_HW:
        original = random_checkpoint('semanticboxnet_v1', load_scene_labels('cityscapes_20+coco_90'), images)
        yield Subject('original', (original.model,), OURS, original)
    bundled = load_checkpoint(options.checkpoint) if options.checkpoint else load_bundled()
    classes = f'{bundled.config.semantic_classes}/{bundled.config.detection_classes}'
    yield Subject(f'{bundled.config.name} {classes}', (bundled.model,), (*OURS, ('auto', 'auto')), bundled)
    alike = random_checkpoint('sembox_b1', load_scene_labels('cityscapes_19+coco_90'), images)
    yield Subject('sembox_b1 19/90', (alike.model,), OURS, alike)


def peer_subjects(images: Tensor, section: Section) -> Iterator[Subject]:
    """The pairs of other projects; one whose library is missing becomes a note."""
    yield Subject('DeepLabV3 + Faster R-CNN', create_torchvision_pair(images), PEERS)
    try:
        boxes, fpn, fpn_4 = create_efficient_peers(images)
    except ImportError as error:
        section.notes.append(f'FPN-B1 + EfficientDet-D1 left out: {error}; see bench/README.md.')
        return
    yield Subject('FPN-B1 + EfficientDet-D1', (fpn, boxes), PEERS)
    yield Subject('FPN-B1 at stride 4 + EfficientDet-D1', (fpn_4, boxes), PEERS)


def create_run(subject: Subject, way: Way, images: Tensor, threads: int) -> tuple[Callable[[], list[Any]], str]:
    """One forward pass of a subject, and the precision that it computes in."""
    name, precision = way
    runs: list[Run]
    if way == EAGER:
        runs = list(subject.modules)
    elif subject.checkpoint is not None:
        engine = create_our_engine(subject.checkpoint, way, threads)
        batch = images.to(engine.dtype)  # as the predictor's preprocessing gives it
        return lambda: [engine(batch)], engine.precision
    else:
        runs = [CONVERTERS[name](module, images, precision, threads) for module in subject.modules]
    return lambda: [run(images) for run in runs], precision


def create_our_engine(checkpoint: Checkpoint, way: Way, threads: int) -> Engine:
    """An engine of this package, or the one that it chooses by itself."""
    cpu, (name, precision) = torch.device('cpu'), way
    if name == 'auto':
        return choose_engine(checkpoint, device=cpu, precision=precision, threads=threads)[0]
    return create_engine(checkpoint, name, device=cpu, precision=precision, threads=threads)


def comparable(subject: Subject, results: list[Any]) -> list[Any]:
    """Outputs whose masks have one size however the network was folded; copied, since engines reuse their memory."""
    if subject.checkpoint is not None:
        results = [resize_maps(subject.checkpoint.model, NetworkOutput(*results[0]))]
    return [tensor.clone() for tensor in outputs_of(results)]


@torch.inference_mode()
def add_subject(bench: Bench, subject: Subject) -> None:
    """Build every way of running a subject, compare its outputs with the eager ones, and count its work."""
    images = bench.images
    eager = [module(images) for module in subject.modules]
    expected = comparable(subject, eager)
    lean = tuple(fold(m) for m in subject.modules) if subject.checkpoint is not None else subject.modules
    as_built = count_work(lambda: [module(images) for module in subject.modules])
    as_run = count_work(lambda: [module(images) for module in lean])
    for way in tqdm(subject.ways, desc=f'building {subject.name}', leave=False):
        name = f'{subject.name}, {" ".join(way) if way != EAGER else "eager"}'
        try:
            run, precision = create_run(subject, way, images, bench.threads)
            difference = largest_difference(comparable(subject, run()), expected)
        except (SemboxError, RuntimeError, ValueError, ImportError, AttributeError) as error:
            bench.section.notes.append(f'{name}: could not be built: {type(error).__name__}: {first_line(error)}')
            continue
        work = as_built if way == EAGER else as_run
        if way[0] == 'auto':
            bench.section.notes.append(f'{name}: chose {precision} by itself.')
        bench.runs[name] = lambda run=run: consume(run())
        bench.work[name] = (work, precision)
        bench.section.facts[name] = {
            'multiply-adds, G': work.multiply_adds / 1e9,
            'mask logits': '{}x{}'.format(*outputs_of(run()[0])[-1].shape[2:]),
            'largest difference to eager': difference if way != EAGER else None,
        }
        if subject.name == 'original' and way[1] == 'fp32' and (difference is None or difference > TOLERANCE):
            bench.section.notes.append(f'{name}: **differs from eager by more than {TOLERANCE:g}**')


def first_line(error: BaseException) -> str:
    """The first line of an error that says something, at most 200 characters."""
    lines = re.sub(r'\x1b\[\d*m', '', str(error)).splitlines()  # some are coloured
    return next((line.strip() for line in lines if line.strip()), '')[:200]


def time_section(size_hw: tuple[int, int]) -> Section:
    """The table of times at one size, still empty."""
    height, width = size_hw
    return Section(
        title=f'Networks, one image of {height}x{width}',
        about=(
            'From a normalised float32 batch of a rendered street to raw outputs, the last value of each of which is '
            'read. Eager: as built, NCHW, float32, not folded, in `torch.inference_mode`. Weights are random, with '
            'batch norms measured on that image, but for the checkpoint that ships. Numbers behind a name are semantic '
            'and detection classes; the pairs have 19 and 90, run one after the other, and go through the same engines '
            "by the engines' own converters. What is unequal: the size of the mask's logits, which has a column; and "
            'Faster R-CNN includes its own resizing (to 320 pixels for the shorter side, whatever comes in), '
            'normalising and NMS, which the others leave to a later stage.'
        ),
        references=('original, eager', 'sembox_b1 19/90, eager', 'FPN-B1 + EfficientDet-D1, eager'),
    )  # fmt: skip


def roofline_section(bench: Bench, limits: Limits, title: str) -> Section:
    """What the machine could do at best, and how much of that each candidate reached."""
    peaks = ', '.join(f'{dtype} {flops / 1e9:.0f} ({limits.how[dtype]})' for dtype, flops in limits.flops.items())
    section = Section(
        title=title,
        about=(
            f'Best matrix products of this machine, in GFLOP/s: {peaks}; copying {limits.bandwidth / 1e9:.1f} GB/s, '
            'reading and writing added. Bytes are the least that move if every convolution reads its input and its '
            'weights once and writes its output once, in the format it computes in; chains that are fused, or stay in '
            'a cache, move less. '
            'The share is the larger of the two least times over the measured median.'
        ),
        measures={},
    )
    for name, samples in bench.section.samples.items():
        work, dtype = bench.work[name]
        if not samples or dtype not in limits.flops:
            continue
        arithmetic, memory = least_ms(work, limits, dtype)
        median = statistics.median(sample['ms'] for sample in samples)
        section.facts[name] = {
            'multiply-adds, G': work.multiply_adds / 1e9,
            'MB': work.bytes(4 if dtype == 'fp32' else 2) / 1e6,
            'arithmetic, ms': arithmetic,
            'memory, ms': memory,
            'measured, ms': median,
            'share of the limit, %': 100 * max(arithmetic, memory) / median,
        }
    return section


def run_network_part(options: argparse.Namespace, sections: list[Section]) -> None:
    """Measure every size; each section is added before it is measured, so that an interrupted one is kept."""
    from hardware import cpu_flags

    fast_bf16 = {'avx512_bf16', 'amx_bf16'} & set(cpu_flags())
    limits = measure_limits_of_cpu(('fp32', 'bf16') if fast_bf16 else ('fp32',), options.threads)
    for size_hw in options.sizes:
        section = time_section(size_hw)
        sections.append(section)
        bench = Bench(normalised_street(size_hw), options.threads, section)
        for subjects in (our_subjects(bench.images, options), peer_subjects(bench.images, section)):
            for subject in subjects:
                if not options.only or options.only in subject.name:
                    add_subject(bench, subject)
        candidates = {name: timed(torch.inference_mode()(run)) for name, run in bench.runs.items()}
        try:
            measure_rounds(
                candidates, section.samples, rounds=options.rounds, warmup=2, pause_s=PAUSE_S, title=section.title
            )
        finally:
            sections.append(roofline_section(bench, limits, f'Limits of the machine, {size_hw[0]}x{size_hw[1]}'))
