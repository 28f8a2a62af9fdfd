"""What the node costs around the network: start-up, memory, and per-frame time of every stage but the network.

Starts the real node in a process of its own for each image size, publishes frames one at a time over DDS, waits for
the answers, and reads the stage latencies that the node itself reports on /diagnostics.

    python underlay/env.py run -- python bench/node_overhead.py [--checkpoint FILE] [--frames N]
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import random
import signal
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

SIZES_HW = ((480, 640), (512, 1024), (1024, 2048))
STAGES = ('decode', 'preprocess', 'postprocess', 'encode', 'publish')
TOPICS = {
    'mask and detections': ('/segmentation/mask', '/detections'),
    'all outputs': ('/segmentation/mask', '/detections', '/segmentation/confidence', '/segmentation/color', '/overlay'),
}
RESULTS = Path(__file__).parent / 'results'


class Client:
    """Publishes frames and waits for the node's answers."""

    def __init__(self, topics: tuple[str, ...]) -> None:
        import rclpy
        from diagnostic_msgs.msg import DiagnosticArray
        from rclpy.executors import SingleThreadedExecutor
        from sensor_msgs.msg import Image
        from vision_msgs.msg import Detection2DArray

        self.node = rclpy.create_node('bench')
        self.answers: dict[str, set[int]] = {topic: set() for topic in topics}
        self.health: dict[str, str] = {}
        for topic in topics:
            kind = Detection2DArray if topic == '/detections' else Image
            self.node.create_subscription(
                kind, topic, lambda m, t=topic: self.answers[t].add(m.header.stamp.nanosec), 10
            )
        self.node.create_subscription(DiagnosticArray, '/diagnostics', self._take_health, 10)
        self.publisher = self.node.create_publisher(Image, '/image', 10)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        threading.Thread(target=self._executor.spin, daemon=True).start()

    def _take_health(self, array: Any) -> None:
        for status in array.status:
            self.health = {pair.key: pair.value for pair in status.values}

    def wait_active(self, process: subprocess.Popen[bytes]) -> None:
        while not self.publisher.get_subscription_count():
            if process.poll() is not None:
                raise SystemExit(f'the node ended with status {process.returncode}')
            time.sleep(0.005)

    def round_trip_ms(self, image: np.ndarray, number: int) -> float:
        from std_msgs.msg import Header

        from sembox_ros.ros.conversions import encode_image

        message = encode_image(image, 'rgb8', Header())
        message.header.stamp.nanosec = number
        start = time.perf_counter()
        self.publisher.publish(message)
        deadline = start + 30
        while not all(number in stamps for stamps in self.answers.values()):
            if time.perf_counter() > deadline:
                raise SystemExit(f'no answer to frame {number} within 30 s')
            time.sleep(0.0005)
        return (time.perf_counter() - start) * 1e3

    def close(self) -> None:
        self._executor.shutdown()
        self.node.destroy_node()


def measure(size_hw: tuple[int, int], topics: tuple[str, ...], options: argparse.Namespace) -> dict[str, Any]:
    """One node process: start it, warm it up, time it, end it."""
    image = np.random.default_rng(0).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    client = Client(topics)
    arguments = ['--ros-args', '-p', 'diagnostics_period_s:=0.2']
    if options.checkpoint:
        arguments += ['-p', f'checkpoint:={options.checkpoint}']
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, '-m', 'sembox_ros.ros.node', *arguments])
    try:
        client.wait_active(process)
        active_s = time.perf_counter() - start
        time.sleep(2.0)  # every output is matched by then; a frame before that would be answered in part
        for number in range(options.warmup):
            client.round_trip_ms(image, number)
        trips = [client.round_trip_ms(image, options.warmup + n) for n in range(options.frames)]
        time.sleep(0.5)
        health = dict(client.health)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=20)
        client.close()
    stages = {stage: float(health[f'{stage}_p50_ms']) for stage in STAGES}
    network = float(health['network_p50_ms'])
    overhead = sum(stages.values())
    return {
        'size_hw': list(size_hw),
        'stages_ms': stages,
        'network_ms': network,
        'overhead_ms': round(overhead, 2),
        'overhead_over_network': round(overhead / network, 3),
        'round_trip_ms': round(statistics.median(trips), 1),
        'dds_and_waiting_ms': round(statistics.median(trips) - overhead - network, 1),
        'start_to_active_s': round(active_s, 2),
        'resident_memory_mib': int(health['resident_memory_mib']),
    }


def render(results: list[dict[str, Any]]) -> str:
    """The results as a Markdown table."""
    lines = [
        f'| outputs | image | {" | ".join(STAGES)} | sum | network | sum / network | round trip | RSS MiB | start s |',
        '|---' * (len(STAGES) + 8) + '|',
    ]
    for row in results:
        height, width = row['size_hw']
        cells = [row['outputs'], f'{width}x{height}', *(f'{row["stages_ms"][s]:.1f}' for s in STAGES)]
        cells += [f'{row["overhead_ms"]:.1f}', f'{row["network_ms"]:.0f}', f'{row["overhead_over_network"]:.0%}']
        cells += [f'{row["round_trip_ms"]:.0f}', str(row['resident_memory_mib']), f'{row["start_to_active_s"]:.1f}']
        lines.append('| ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines) + '\n'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--checkpoint', default='', help='checkpoint of the node (default: the bundled one)')
    parser.add_argument('--frames', type=int, default=20, help='timed frames per case (default: %(default)s)')
    parser.add_argument('--warmup', type=int, default=3, help='frames before them (default: %(default)s)')
    parser.add_argument('--name', default=f'{os.cpu_count()}core-cpu', help='name of the machine in the result file')
    options = parser.parse_args()
    # A domain of its own, this machine only, and the transport that the launch file sets.
    os.environ['ROS_DOMAIN_ID'] = str(random.SystemRandom().randrange(1, 100))
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    os.environ.setdefault('FASTDDS_BUILTIN_TRANSPORTS', 'LARGE_DATA')
    import rclpy

    rclpy.init()
    results = []
    for name, topics in TOPICS.items():
        for size_hw in SIZES_HW:
            results.append({'outputs': name, **measure(size_hw, topics, options)})
            print(json.dumps(results[-1]), flush=True)
    rclpy.try_shutdown()
    date = datetime.date.today().isoformat()
    stem = RESULTS / f'{date}-{options.name}-node_overhead'
    RESULTS.mkdir(exist_ok=True)
    record = {
        'date': date,
        'machine': options.name,
        'python': platform.python_version(),
        'frames': options.frames,
        'results': results,
    }
    stem.with_suffix('.json').write_text(json.dumps(record, indent=1) + '\n')
    table = render(results)
    stem.with_suffix('.md').write_text(
        f'# Node overhead, {date}, {options.name}\n\nMedians over {options.frames} frames, in ms; one frame in flight '
        f'at a time.\n\n{table}'
    )
    print(table)


if __name__ == '__main__':
    main()
