"""The node from publishing an image to holding its answers; four cameras in one node or in four; a long run."""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from nodes import ALL_OUTPUTS, MASK_AND_BOXES, Client, NodeProcess, running
from report import Section
from timing import Sample, measure_rounds
from tqdm import tqdm

from sembox_ros.data.streets import render_street

PREDICTOR_STAGES = ('preprocess', 'network', 'postprocess')
CAMERAS = ('cam0', 'cam1', 'cam2', 'cam3')
CAMERA_HW = (512, 1024)
SOAK_HZ = 15.0
SOAK_PERIOD_S = 5.0


def checkpoint_arguments(options: argparse.Namespace) -> list[str]:
    """What every node is started with."""
    return ['-p', f'checkpoint:={options.checkpoint}'] if options.checkpoint else []


def total_memory(nodes: Sequence[NodeProcess]) -> dict[str, float]:
    """Sums over the nodes, in MiB."""
    sizes = [node.memory_mib() for node in nodes]
    return {'rss_mib': sum(rss for rss, _ in sizes), 'pss_mib': sum(pss for _, pss in sizes)}


def measure_one_camera(image: np.ndarray, topics: Sequence[str], options: argparse.Namespace) -> Sample:
    """One node process: start it, warm it up, time single frames, end it."""
    with running([checkpoint_arguments(options)], [''], image, topics) as (nodes, client, start_s):
        trips = [client.round_trip_ms() for _ in range(options.frames)]
        time.sleep(0.5)  # for the diagnostics of the last frame
        health = client.health['/sembox']
        memory = total_memory(nodes)
    trip = statistics.median(trips)
    predictor = sum(float(health[f'{stage}_p50_ms']) for stage in PREDICTOR_STAGES)
    network = float(health['network_p50_ms'])
    rest = trip - predictor
    return {
        'trip_ms': trip, 'predictor_ms': predictor, 'network_ms': network, 'rest_ms': rest,
        'rest_percent': 100 * rest / predictor, 'start_s': start_s, **memory,
    }  # fmt: skip


def measure_four_cameras(image: np.ndarray, node_arguments: list[list[str]], options: argparse.Namespace) -> Sample:
    """Four cameras at full load against one node or more, which are started and ended here."""
    prefixes = [f'/{name}' for name in CAMERAS]
    with running(node_arguments, prefixes, image, MASK_AND_BOXES, warmup=1) as (nodes, client, start_s):
        client.keep_busy(2.0)
        rate = client.keep_busy(options.window)
        memory = total_memory(nodes)
        client.drain()
    return {'images_per_s': rate, 'start_s': start_s, **memory}


def one_camera_section(options: argparse.Namespace) -> tuple[Section, dict[str, Callable[[], Sample]]]:
    """The table of one camera, and its candidates."""
    image = render_street(size_hw=options.node_size, seed=1).image
    height, width = options.node_size
    section = Section(
        title=f'Node, one camera of {height}x{width}',
        about=(
            f'One frame in flight: from publishing an image to holding all answers of it in another process, over DDS; '
            f'each value of a round is the median of {options.frames} frames of a node started for that round. The '
            'predictor is the sum of the medians of preprocess, network and postprocess that the node itself reports '
            'on /diagnostics; the rest is the difference: both ways through DDS, decoding, encoding, publishing, '
            'drawing of what is subscribed, and waiting. Start is from starting the process until it listens; PSS '
            'counts a page that several processes share in parts.'
        ),
        measures={
            'trip_ms': 'round trip, ms', 'predictor_ms': 'predictor, ms', 'network_ms': 'network, ms',
            'rest_ms': 'rest, ms', 'rest_percent': 'rest / predictor, %', 'start_s': 'start, s',
            'rss_mib': 'RSS, MiB', 'pss_mib': 'PSS, MiB',
        },
    )  # fmt: skip
    candidates = {
        name: lambda topics=topics: measure_one_camera(image, topics, options)
        for name, topics in (('mask and detections', MASK_AND_BOXES), ('all outputs', ALL_OUTPUTS))
    }
    return section, candidates


def four_camera_section(options: argparse.Namespace) -> tuple[Section, dict[str, Callable[[], Sample]]]:
    """The table of four cameras, and its candidates."""
    image = render_street(size_hw=CAMERA_HW, seed=1).image
    height, width = CAMERA_HW
    section = Section(
        title=f'Node, four cameras of {height}x{width}',
        about=(
            f'Every camera always has one frame in the node and one that waits, for {options.window:.0f} s; images per '
            'second are complete answers (mask and detections), summed over the cameras. Memory is that of all node '
            'processes together, with nothing else of this benchmark running. The single threads are the other way '
            'to share the cores among processes.'
        ),
        measures={'images_per_s': 'images/s', 'start_s': 'start, s', 'rss_mib': 'RSS, MiB', 'pss_mib': 'PSS, MiB'},
    )
    common = checkpoint_arguments(options)
    apart = [[*common, '-r', f'__ns:=/{name}'] for name in CAMERAS]
    ways = {
        'one node, one batch': [[*common, '-p', f'cameras:=[{", ".join(CAMERAS)}]']],
        'four nodes, all threads each': apart,
        'four nodes, one thread each': [[*arguments, '-p', 'threads:=1'] for arguments in apart],
    }
    candidates = {
        name: lambda arguments=arguments: measure_four_cameras(image, arguments, options)
        for name, arguments in ways.items()
    }
    return section, candidates


def run_node_part(options: argparse.Namespace, sections: list[Section]) -> None:
    """Measure both tables; each section is added before it is measured, so that an interrupted one is kept."""
    for make in (one_camera_section, four_camera_section):
        section, candidates = make(options)
        sections.append(section)
        measure_rounds(candidates, section.samples, rounds=options.node_rounds, warmup=0, title=section.title)


# ---------------------------------------------------------------------------------------------------------- long run


def growth_percent(times_s: Sequence[float], sizes: Sequence[float]) -> float:
    """How much larger the last tenth of a run is than the second minute's begin, in percent.

    Args:
        times_s: of the samples since the start, seconds, ascending.
        sizes: of each.

    Raises:
        ValueError: nothing was sampled after the first minute.
    """
    later = [size for t, size in zip(times_s, sizes, strict=True) if t >= 60]
    if not later:
        raise ValueError('a soak of more than one minute is needed: the first one is left out')
    count = max(1, len(later) // 10)
    return 100 * (statistics.median(later[-count:]) / statistics.median(later[:count]) - 1)


def soak(options: argparse.Namespace, sections: list[Section], picture: Path) -> None:
    """One node under a camera that is faster than it, its memory sampled to the end.

    Args:
        options: of the command line; `soak` has the minutes.
        sections: the table is added here.
        picture: PNG of memory over time.
    """
    image = render_street(size_hw=options.node_size, seed=1).image
    section = Section(
        title=f'Soak, {options.soak:g} minutes',
        about=(
            f'One camera of {options.node_size[0]}x{options.node_size[1]} at {SOAK_HZ:g} Hz, mask and detections '
            f'subscribed; resident memory of the node every {SOAK_PERIOD_S:g} s. Growth is from the first tenth after '
            'the first minute to the last tenth, medians of each.'
        ),
    )
    sections.append(section)
    times: list[float] = []
    sizes: list[float] = []
    try:
        with running([checkpoint_arguments(options)], [''], image, MASK_AND_BOXES) as (nodes, client, _):
            _sample_memory(nodes[0], client, options.soak * 60, times, sizes)
            time.sleep(0.5)
            health = client.health['/sembox']
    finally:
        section.samples['node'] = [{'s': t, 'rss_mib': size} for t, size in zip(times, sizes, strict=True)]
        section.measures = {'rss_mib': 'RSS, MiB'}
        if times and times[-1] >= 60:
            section.facts['node'] = {'growth after the first minute, %': growth_percent(times, sizes)}
            plot_memory(times, sizes, picture)
    section.facts['node'].update({name: health[name] for name in ('received', 'processed', 'dropped', 'failed')})
    if not int(health['dropped']):
        section.notes.append('The node dropped nothing: the camera was not faster than it.')


def _sample_memory(node: NodeProcess, client: Client, seconds: float, times: list[float], sizes: list[float]) -> None:
    """Publish at `SOAK_HZ`, whatever is answered, and append a sample every `SOAK_PERIOD_S`."""
    [camera] = client.cameras
    start = time.perf_counter()
    with tqdm(total=round(seconds), unit='s', desc='soak', leave=False) as bar:
        while (now := time.perf_counter() - start) < seconds:
            camera.publish()
            if not times or now >= times[-1] + SOAK_PERIOD_S:
                node.check()
                times.append(now)
                sizes.append(node.memory_mib()[0])
                bar.update(int(now) - bar.n)
                camera.answer_times.clear()
            due = start + (int(now * SOAK_HZ) + 1) / SOAK_HZ
            time.sleep(max(0.0, due - time.perf_counter()))


def plot_memory(times_s: Sequence[float], sizes_mib: Sequence[float], path: Path) -> None:
    """Resident memory over time, as a small PNG."""
    os.environ.setdefault('MPLBACKEND', 'Agg')
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 3), layout='constrained')
    axes.plot([t / 60 for t in times_s], sizes_mib)
    axes.set(xlabel='minutes', ylabel='resident memory, MiB', ylim=(0, 1.1 * max(sizes_mib)))
    axes.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    pyplot.close(figure)
