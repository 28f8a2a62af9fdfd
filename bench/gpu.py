"""Measures pre- and postprocessing and the network on a CUDA device, without the copies to and from it.

    python3 underlay/env.py run -- python bench/gpu.py [--rounds N] [--name MACHINE]

**It has not been run yet: it was written on a machine without a CUDA device.** Only its pieces were, on a processor.

The time is between CUDA events, from the uint8 images lying on the device to class ids and boxes lying there:
normalising, network, `resize_argmax`, box decoding and NMS. Weights are those of the bundled checkpoint, images a
rendered street, and the canvas has the size of the image. Candidates take turns as in run.py; one that cannot run
becomes a note.
"""

from __future__ import annotations

import argparse
import datetime
import statistics
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from hardware import describe_machine
from report import Section, write_report
from roofline import Limits, count_work, least_ms, measure_limits_of_gpu
from timing import Candidate, Sample, measure_rounds
from torch import Tensor

from sembox_ros.config import DetectionConfig, InputConfig
from sembox_ros.data.streets import render_street
from sembox_ros.models.checkpoint import Checkpoint, load_bundled
from sembox_ros.models.folding import fold
from sembox_ros.models.sembox import NetworkOutput, resize_maps, semantic_sizes
from sembox_ros.ops.anchors import create_anchors
from sembox_ros.ops.boxes import decode_boxes
from sembox_ros.ops.nms import select_boxes, top_candidates
from sembox_ros.ops.resize import plan_axis, resize_argmax

RESULTS = Path(__file__).parent / 'results'
SIZES_HW = ((512, 1024), (1024, 2048))
BATCHES = (1, 4, 8, 16)
DTYPES = {'fp16': torch.float16, 'bf16': torch.bfloat16}
Network = Callable[[Tensor], NetworkOutput]
Argmax = Callable[..., tuple[Tensor, Tensor | None]]


def normalise(pixels: Tensor, config: InputConfig, dtype: torch.dtype) -> Tensor:
    """(B, H, W, 3) uint8 to the network's input (B, 3, H, W), channels-last."""
    mean, std = (torch.tensor(v, device=pixels.device) * 255 for v in (config.mean, config.std))
    return ((pixels.float() - mean) / std).to(dtype).permute(0, 3, 1, 2)


def find_boxes(output: NetworkOutput, index: int, anchors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes, classes and scores of one image of a batch, on the device."""
    settings = DetectionConfig()
    places, classes, scores = top_candidates(output.class_logits[index], settings.score_threshold)
    boxes = decode_boxes(output.box_regression[index][places], anchors[places])
    return select_boxes(
        boxes, classes, scores, nms_iou_threshold=settings.nms_iou_threshold, max_detections=settings.max_detections
    )


def find_classes(
    logits: Tensor, sizes_hw: tuple[tuple[int, int], ...], size_hw: tuple[int, int], argmax: Argmax = resize_argmax
) -> Tensor:
    """Class ids (H, W) of logits (K, h, w), on the device, never making logits of full size."""
    plans = (
        plan_axis(logits.shape[1 + i], tuple(s[i] for s in sizes_hw), size_hw[i], size_hw[i], logits.device)
        for i in range(2)
    )
    return argmax(logits, *plans, with_confidence=False)[0]


def run_scene(pixels: Tensor, network: Network, checkpoint: Checkpoint, dtype: torch.dtype, anchors: Tensor) -> None:
    """Everything between the copies, for a batch of uint8 images on the device."""
    output = network(normalise(pixels, checkpoint.input, dtype))
    logits = output.semantic_logits
    sizes = semantic_sizes(checkpoint.model, logits)
    for index in range(len(pixels)):
        find_classes(logits[index], sizes, (pixels.shape[1], pixels.shape[2]))
        find_boxes(output, index, anchors)


def between_events(run: Callable[[], object], images: int) -> Candidate:
    """A candidate timed by events on the device's own stream."""

    def sample() -> Sample:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        end.synchronize()
        milliseconds = start.elapsed_time(end)
        return {'ms': milliseconds, 'images_per_s': 1e3 * images / milliseconds}

    return sample


def capture(network: Network, example: Tensor) -> Network:
    """The network as one CUDA graph, for inputs like the example; its result is overwritten by the next call."""
    held = example.clone()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            network(held)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = network(held)

    def replay(batch: Tensor) -> NetworkOutput:
        held.copy_(batch)
        graph.replay()
        return output

    return replay


def networks_of(model: torch.nn.Module, example: Tensor, notes: list[str]) -> Iterator[tuple[str, Network]]:
    """Eager, captured and compiled, each tried once."""
    ways: dict[str, Callable[[], Network]] = {
        'eager': lambda: model,
        'CUDA graph': lambda: capture(model, example),
        'torch.compile': lambda: torch.compile(model, mode='max-autotune-no-cudagraphs', dynamic=False),
    }
    for name, create in ways.items():
        try:
            network = create()
            network(example)
        except Exception as error:  # of many kinds; the others are worth measuring all the same
            notes.append(f'{name}, {tuple(example.shape)}: {type(error).__name__}: {str(error).splitlines()[:1]}')
            continue
        yield name, network


@torch.inference_mode()
def measure_size(size_hw: tuple[int, int], rounds: int, limits: Limits, sections: list[Section]) -> None:
    """Every batch, precision and way at one size; and the two ways to class ids from its logits."""
    device = torch.device('cuda')
    checkpoint = load_bundled()
    height, width = size_hw
    about = f'Limits: {limits}. The share is that of the larger least time (arithmetic or memory) in the measured one.'
    section = Section(f'Scenes on the device, {height}x{width}', about, {'ms': 'ms', 'images_per_s': 'images/s'})
    classes = Section(f'Logits to class ids on the device, {height}x{width}', 'One image.', references=('plain',))
    sections += [section, classes]
    image = torch.from_numpy(render_street(size_hw=size_hw, seed=1).image).to(device)
    anchors = create_anchors(size_hw, device=device, anchor_scale=checkpoint.config.anchor_scale)
    work = count_work(lambda: fold(checkpoint.model)(torch.zeros(1, 3, *size_hw)))
    for name, dtype in DTYPES.items():
        model = fold(checkpoint.model).to(device, dtype).to(memory_format=torch.channels_last)
        for batch in BATCHES:
            pixels = image.expand(batch, -1, -1, -1).contiguous()
            candidates, example = {}, normalise(pixels, checkpoint.input, dtype)
            for way, network in networks_of(model, example, section.notes):
                run = lambda network=network: run_scene(pixels, network, checkpoint, dtype, anchors)  # noqa: E731, B023
                candidates[f'batch {batch}, {name}, {way}'] = between_events(run, batch)
            samples: dict[str, list[Sample]] = {}
            measure_rounds(candidates, samples, rounds=rounds, warmup=3, title=section.title)
            section.samples.update(samples)
            for key, values in samples.items():
                least = batch * max(least_ms(work, limits, name))
                share = 100 * least / statistics.median(sample['ms'] for sample in values)
                section.facts[key] = {'share of the limit, %': share}
    output = model(example[:1])
    logits = output.semantic_logits[0]
    sizes = semantic_sizes(checkpoint.model, output.semantic_logits)
    plain = lambda: resize_maps(checkpoint.model, output).semantic_logits.argmax(dim=1)  # noqa: E731
    ways = {'plain': plain, 'resize_argmax': lambda: find_classes(logits, sizes, size_hw)}
    try:
        from sembox_ros.ops.fused_argmax import resize_argmax_cuda

        ways['resize_argmax_cuda'] = lambda: find_classes(logits, sizes, size_hw, resize_argmax_cuda)
    except ImportError as error:
        classes.notes.append(f'resize_argmax_cuda left out: {error}')
    candidates = {name: between_events(run, 1) for name, run in ways.items()}
    measure_rounds(candidates, classes.samples, rounds=rounds, warmup=3, title=classes.title)


def main() -> int:
    """Measure, and write the result files whatever happens on the way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=30, help='default: %(default)s')
    parser.add_argument('--name', default='gpu', help='name of the machine in the result')
    parser.add_argument('--out', type=Path, default=RESULTS, help='folder of the results (default: bench/results)')
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit('gpu: torch finds no CUDA device on this machine; bench/run.py measures the processor')
    sections: list[Section] = []
    complete = False
    try:
        limits = measure_limits_of_gpu(DTYPES)
        for size_hw in SIZES_HW:
            measure_size(size_hw, options.rounds, limits, sections)
        complete = True
    except KeyboardInterrupt:
        pass
    finally:
        date = datetime.date.today().isoformat()
        device = {**describe_machine(torch.get_num_threads()), 'device': torch.cuda.get_device_name()}
        stem = options.out / f'{date}-{options.name}-gpu'
        print(
            write_report(stem, f'Bench on a GPU, {date}', __doc__.split('\n\n')[0], device, sections, complete=complete)
        )
    return 0 if complete else 130


if __name__ == '__main__':
    sys.exit(main())
