"""The offline replay against a plain loop over the network, and how its memory grows with the length of the bag.

A drive is rendered (distinct frames, repeated with stamps of their own) and written as a bag of 512x1024 rgb8 images.
The plain loop is `engine(tensor)` over tensors that were read, decoded and preprocessed beforehand, and throws the
output away: once one image at a time, once in the batches that the replay uses. The loop over the predictor adds
pre- and postprocessing of images that are in memory. The replay reads, decodes, preprocesses
and postprocesses, writes a bag of masks and boxes, grades against the truth of the bag and writes the report.

    python3 underlay/env.py run -- python bench/replay_throughput.py --frames 120 --rounds 3
    python3 underlay/env.py run -- python bench/replay_throughput.py --memory 300 3000
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from hardware import count_cores, describe_machine
from report import Section, write_report
from timing import Candidate, Sample, measure_rounds

from sembox_ros.cli.common import parse_size
from sembox_ros.data.streets import render_sequence
from sembox_ros.inference.predictor import Predictor
from sembox_ros.labels import load_scene_labels
from sembox_ros.models.checkpoint import load_bundled
from sembox_ros.ops.placement import place_image
from sembox_ros.replay.drive import DriveFrame, write_drive
from sembox_ros.replay.frames import FrameReader
from sembox_ros.replay.session import ReplayOptions, replay_bag
from sembox_ros.replay.source import open_input

RESULTS = Path(__file__).parent / 'results'
SIZE_HW, RATE_HZ, DISTINCT = (512, 1024), 10.0, 40
LABELS = load_scene_labels('cityscapes_19+cityscapes_things_8')
FIRST_STAMP_NS = 1_700_000_000 * 10**9
BATCH = 4


def drive_frames(count: int) -> Iterator[DriveFrame]:
    """`count` frames, of which `DISTINCT` are different."""
    to_box = {semantic: box for box, semantic in LABELS.thing_links.items()}
    rendered = list(render_sequence(frames=min(count, DISTINCT), size_hw=SIZE_HW, seed=1, rate_hz=RATE_HZ))
    for index in range(count):
        frame = rendered[index % len(rendered)]
        class_ids = frame.class_ids.copy()
        class_ids[:] = [to_box[int(i)] for i in frame.class_ids]
        stamp_ns = FIRST_STAMP_NS + round(index / RATE_HZ * 1e9)
        yield DriveFrame(stamp_ns, frame.image, frame.semantic, frame.boxes_xyxy, class_ids, frame.is_crowd)


def create_predictor(canvas_hw: tuple[int, int]) -> Predictor:
    """The bundled network on a canvas of that size."""
    checkpoint = load_bundled()
    return Predictor(dataclasses.replace(checkpoint, input=dataclasses.replace(checkpoint.input, size_hw=canvas_hw)))


def plain_loop(predictor: Predictor, bag: Path, batch: int) -> Candidate:
    """The network alone, over tensors made beforehand."""
    config = predictor.checkpoint.input
    with FrameReader(bag, {'/camera/image_raw': ''}) as reader:
        images = [frame.image for frame in reader]
    placements = [place_image(image.shape[:2], config.size_hw, config.resize) for image in images]
    with torch.inference_mode():
        tensors = [
            predictor._preprocess(images[i : i + batch], placements[i : i + batch]).clone()
            for i in range(0, len(images), batch)
        ]

    def run() -> Sample:
        start = time.perf_counter()
        with torch.inference_mode():
            for tensor in tensors:
                predictor.engine(tensor)
        return {'frames_per_s': len(images) / (time.perf_counter() - start)}

    return run


def predictor_loop(predictor: Predictor, bag: Path) -> Candidate:
    """What a script would do: one image after the other, all of them in memory, results thrown away."""
    with FrameReader(bag, {'/camera/image_raw': ''}) as reader:
        images = [frame.image for frame in reader]

    def run() -> Sample:
        start = time.perf_counter()
        for image in images:
            predictor.predict([image], outputs=('semantic', 'detections', 'instances'))
        return {'frames_per_s': len(images) / (time.perf_counter() - start)}

    return run


def whole_replay(predictor: Predictor, bag: Path, save: tuple[str, ...]) -> Candidate:
    """The replay with report, into a folder that is removed again."""

    def run() -> Sample:
        out = Path(tempfile.mkdtemp(dir=bag.parent))
        start = time.perf_counter()
        source = open_input(bag, ())
        report = replay_bag(source, out, predictor, ReplayOptions(save=save, batch=BATCH), progress=False)
        seconds = time.perf_counter() - start
        shutil.rmtree(out)
        stages = report['speed']['latency_ms']
        return {
            'frames_per_s': source.messages / seconds,
            'network_phase_frames_per_s': report['speed']['frames_per_s'],
            **{f'{name}_ms': stages[name]['p50'] for name in ('decode', 'network', 'write')},
        }

    return run


def measure_throughput(options: argparse.Namespace, bag: Path, section: Section) -> None:
    """Every candidate once per round."""
    write_drive(bag, drive_frames(options.frames), labels=LABELS)
    candidates: dict[str, Candidate] = {}
    for canvas_hw in options.canvas:
        predictor = create_predictor(canvas_hw)
        name = f'canvas {canvas_hw[0]}x{canvas_hw[1]}'
        section.notes.append(f'{name}: {predictor.engine.name} {predictor.engine.precision}')
        candidates[f'{name}, plain loop, one image'] = plain_loop(predictor, bag, 1)
        candidates[f'{name}, plain loop, batches of {BATCH}'] = plain_loop(predictor, bag, BATCH)
        candidates[f'{name}, loop over the predictor'] = predictor_loop(predictor, bag)
        candidates[f'{name}, replay'] = whole_replay(predictor, bag, ())
        candidates[f'{name}, replay with colours, overlay, video'] = whole_replay(
            predictor, bag, ('color', 'overlay', 'video')
        )
    measure_rounds(candidates, section.samples, rounds=options.rounds, warmup=1, title='replay')


def peak_memory_mib(bag: Path) -> float:
    """Largest resident memory of a `replay` process on a bag, MiB."""
    out = Path(tempfile.mkdtemp(dir=bag.parent))
    code = (
        'import resource, sys; from sembox_ros.cli import main; status = main(sys.argv[1:]);'
        "print('peak', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024); sys.exit(status)"
    )
    command = [sys.executable, '-c', code, 'replay', str(bag), '--out', str(out / 'replay')]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    shutil.rmtree(out)
    return float(done.stdout.split()[-1])


def measure_memory(options: argparse.Namespace, folder: Path, section: Section) -> None:
    """One process per length of bag, the shortest first, with all outputs."""
    for count in options.memory:
        bag = folder / f'drive_{count}'
        write_drive(bag, drive_frames(count), labels=LABELS)
        mib = peak_memory_mib(bag)
        first = next(iter(section.facts.values()), {'peak, MiB': mib})['peak, MiB']
        section.facts[f'{count} frames'] = {'peak, MiB': mib, 'against the first': mib / first}
        shutil.rmtree(bag)
        print(json.dumps(section.facts), file=sys.stderr)


def main() -> int:
    """Measure, and write the result whatever happens on the way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--frames', type=int, default=120, help='length of the drive (default: %(default)s)')
    parser.add_argument('--rounds', type=int, default=3, help='of each candidate (default: %(default)s)')
    parser.add_argument(
        '--canvas', type=parse_size, nargs='+', default=[(512, 1024), (256, 512)], metavar='HxW',
        help='what images are scaled to for the network (default: 512x1024 256x512, that of the checkpoint)',
    )  # fmt: skip
    parser.add_argument('--memory', type=int, nargs='+', metavar='FRAMES', help='memory, on drives of such lengths')
    parser.add_argument('--name', default=f'{count_cores()}core-cpu', help='name of the machine in the result')
    parser.add_argument('--out', type=Path, default=RESULTS, help='folder of the result (default: bench/results)')
    options = parser.parse_args()
    what = 'memory' if options.memory else 'throughput'
    section = Section(
        title=f'Replay, {what}',
        about=__doc__.split('\n\n')[1].replace('\n', ' '),
        measures={} if options.memory else {
            'frames_per_s': 'frames/s, grading and report included',
            'network_phase_frames_per_s': 'frames/s until then',
            'decode_ms': 'decode, ms', 'network_ms': 'network, ms', 'write_ms': 'write, ms',
        },
    )  # fmt: skip
    complete = False
    with tempfile.TemporaryDirectory() as folder:
        try:
            if options.memory:
                measure_memory(options, Path(folder), section)
            else:
                measure_throughput(options, Path(folder) / 'drive', section)
            complete = True
        finally:
            today = datetime.date.today().isoformat()
            stem = options.out / f'{today}-{options.name}-replay-{what}'
            machine = describe_machine(count_cores())
            about = 'Peak resident memory of one process each.' if options.memory else 'Medians over rounds.'
            print(write_report(stem, f'Replay, {today}', about, machine, [section], complete=complete))
    return 0


if __name__ == '__main__':
    sys.exit(main())
