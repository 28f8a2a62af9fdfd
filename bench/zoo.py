"""Networks of the zoo against each other: mIoU on rendered streets over multiply-adds and over latency on this CPU.

Takes checkpoints that `train config/train/zoo_streets.yaml` wrote, and exported files of them, such as int8 ones; all
are graded on the same images. Latency is that of the network alone, one image, every candidate once a round; the canvas
is that of the training and a larger one. Writes a table and a plot.

    python3 underlay/env.py run -- python bench/zoo.py --root streets runs/*/last.safetensors fpn_int8.onnx
"""

from __future__ import annotations

import argparse
import datetime
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from hardware import count_cores, describe_machine
from matplotlib.figure import Figure
from report import Section, write_report
from timing import measure_rounds, timed
from tqdm import tqdm

from sembox_ros.cli.common import parse_size
from sembox_ros.config import INPUT_CHANNELS
from sembox_ros.data.datasets import load_dataset
from sembox_ros.evaluation.miou import SemanticIoU
from sembox_ros.inference.engines import Engine, create_engine
from sembox_ros.inference.graphs import EXPORTED, load_exported
from sembox_ros.inference.predictor import Predictor
from sembox_ros.models.checkpoint import Checkpoint, load_checkpoint
from sembox_ros.models.profile import profile_model
from sembox_ros.ops.memory import keep_freed_memory

RESULTS = Path(__file__).parent / 'results'
WAYS = (('onnxruntime', 'fp32'), ('openvino', 'fp32'), ('openvino', 'bf16'))
QUANTISED = (('onnxruntime', 'auto'), ('openvino', 'auto'))
CPU = torch.device('cpu')
ABOUT_COST = 'Parameters and multiply-adds are those of the masks: the box branch of a SemanticBoxNet is left out.'


class Subject(NamedTuple):
    """One row of the table."""

    name: str
    path: Path
    checkpoint: Checkpoint


def load_subject(text: str) -> Subject:
    """A checkpoint or an exported file; NAME=FILE gives it a name other than its network's."""
    name, _, file = text.rpartition('=')
    path = Path(file)
    checkpoint = load_exported(path) if path.suffix in EXPORTED else load_checkpoint(path)
    return Subject(name or checkpoint.config.name, path, checkpoint)


def grade(subject: Subject, root: Path, images: int) -> float:
    """mIoU on the validation images, at their own size."""
    dataset = load_dataset('cityscapes', {'root': str(root), 'split': 'val'})
    predictor = Predictor(subject.checkpoint, device='cpu', engine='onnxruntime')
    total = SemanticIoU(dataset.labels.semantic)
    for index in tqdm(range(min(images, len(dataset))), desc=f'grading {subject.name}', leave=False):
        sample = dataset[index]
        [scene] = predictor.predict([sample.image], outputs={'semantic'})
        total.update(scene.semantic, sample.semantic)
    return total.compute().miou


def count(subject: Subject, size_hw: tuple[int, int]) -> tuple[int, float]:
    """Parameters, and multiply-adds in 10**9, of what masks need: sembox_b1's boxes are left out."""
    parts = [p for p in profile_model(subject.checkpoint.config, size_hw) if p.name not in ('box_neck', 'box_head')]
    return sum(part.parameters for part in parts), sum(part.multiply_adds for part in parts) / 1e9


def time_all(subjects: Sequence[Subject], size_hw: tuple[int, int], rounds: int) -> dict[str, list[dict[str, float]]]:
    """Milliseconds of one image in every engine and precision that a subject has, all of them once a round."""
    runs, samples = {}, {}
    for subject in subjects:
        batch = torch.randn(1, sum(INPUT_CHANNELS[name] for name in subject.checkpoint.config.inputs), *size_hw)
        for name, precision in QUANTISED if subject.checkpoint.graph_precision == 'int8' else WAYS:
            engine: Engine = create_engine(subject.checkpoint, name, device=CPU, precision=precision, threads=0)
            given = batch.to(engine.dtype).contiguous(memory_format=torch.channels_last)
            runs[f'{subject.name}, {name} {engine.precision}'] = timed(lambda engine=engine, given=given: engine(given))
    measure_rounds(runs, samples, rounds=rounds, title=f'{size_hw[0]}x{size_hw[1]}')
    return samples


def plot(rows: Sequence[tuple[str, float, float, float]], path: Path) -> None:
    """Accuracy over cost, both costs side by side; rows are (name, mIoU, multiply-adds, ms)."""
    figure = Figure(figsize=(13, 5.5), layout='constrained')
    titles = ('multiply-adds of one image (10⁹)', 'latency in the fastest engine (ms)')
    for axes, column, title in zip(figure.subplots(1, 2, sharey=True), (2, 3), titles, strict=True):
        for index, row in enumerate(sorted(rows, key=lambda row: row[1])):
            axes.scatter(row[column], 100 * row[1], s=46, color='#c2569b' if 'int8' in row[0] else '#3d7cbf', zorder=3)
            # Neighbours in height write to different sides.
            left = index % 2
            axes.annotate(
                row[0], (row[column], 100 * row[1]), xytext=(-8 if left else 8, -3), textcoords='offset points',
                fontsize=8.5, ha='right' if left else 'left', color='#1d2127',
            )  # fmt: skip
        axes.set_xscale('log')
        low, high = min(row[column] for row in rows), max(row[column] for row in rows)
        axes.set_xlim(low / 10, high * 6)  # room for the names
        axes.set_xlabel(title)
        axes.grid(color='#e3e6ea', zorder=0)
        axes.spines[['top', 'right']].set_visible(False)
    figure.axes[0].set_ylabel('mIoU on rendered streets (%)')
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('subjects', nargs='+', metavar='[NAME=]FILE', help='checkpoints and exported files')
    parser.add_argument('--root', type=Path, required=True, help='rendered streets')
    parser.add_argument('--images', type=int, default=240, help='validation images (default: %(default)s)')
    parser.add_argument('--size', type=parse_size, default=(384, 768), help='the larger canvas (default: 384x768)')
    parser.add_argument('--rounds', type=int, default=15, help='measured runs of each (default: %(default)s)')
    parser.add_argument('--out', type=Path, default=RESULTS, help='folder of the report (default: %(default)s)')
    options = parser.parse_args()
    keep_freed_memory()
    subjects = [load_subject(text) for text in options.subjects]
    own_hw = subjects[0].checkpoint.input.size_hw
    scores = {subject.name: grade(subject, options.root, options.images) for subject in subjects}
    facts = {}
    for subject in subjects:
        parameters, small = count(subject, own_hw)
        facts[subject.name] = {
            'mIoU, %': 100 * scores[subject.name],
            'parameters, M': parameters / 1e6,
            f'multiply-adds at {own_hw[0]}x{own_hw[1]}, G': small,
            f'at {options.size[0]}x{options.size[1]}, G': count(subject, options.size)[1],
        }
    sections = [Section(title='Accuracy and cost', about=ABOUT_COST, measures={}, facts=facts)]
    for size_hw in (own_hw, options.size):
        title = f'Latency, one image of {size_hw[0]}x{size_hw[1]}'
        sections.append(Section(title=title, about='', samples=time_all(subjects, size_hw, options.rounds)))
    medians = {
        row: statistics.median(sample['ms'] for sample in samples) for row, samples in sections[-1].samples.items()
    }
    fastest = {name: min(ms for row, ms in medians.items() if row.rpartition(', ')[0] == name) for name in scores}
    stem = options.out / f'{datetime.date.today().isoformat()}-{count_cores()}core-cpu-zoo'
    about = f'{options.images} rendered validation images of 512x1024, scored at that size.'
    machine = describe_machine(count_cores())
    print(write_report(stem, 'Networks of the zoo', about, machine, sections, complete=True))
    large = f'at {options.size[0]}x{options.size[1]}, G'
    plot([(name, scores[name], facts[name][large], fastest[name]) for name in scores], stem.with_suffix('.png'))


if __name__ == '__main__':
    main()
