"""Measures this package beside the original network and others that do the same job, on this machine's processor.

    python3 underlay/env.py run -- python bench/run.py [--parts network,predictor,node] [--rounds N] [--name MACHINE]
    python3 underlay/env.py run -- python bench/run.py --soak 30

Parts:
  network    networks alone, eager and through engines, with ratios, differences of outputs and the machine's limits
  predictor  from uint8 images to scenes
  node       from a published image to received masks and detections, over DDS; four cameras in one node and in four

Everything of a table is built first and warmed up; then, round after round, each candidate runs once in an order that
changes, and ratios are taken within rounds. Ctrl-C writes what there is. Results go to bench/results as JSON and as
Markdown. The peers have packages of their own: bench/README.md says how to install them; without them their rows are
left out, and the result says so.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import logging
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from hardware import count_cores, describe_machine
from nodes import NodeError
from report import Section, write_report

from sembox_ros.cli.common import parse_size
from sembox_ros.errors import SemboxError

RESULTS = Path(__file__).parent / 'results'
ABOUT = (
    'Every value is the median over rounds, with the 10th and 90th percentile in brackets. All candidates of a table '
    'took turns, in one process or (node) in processes started for each turn, in an order that changed from round to '
    'round. A speed is the median of the ratios within rounds: above 1 is faster than the reference.'
)
Part = Callable[[argparse.Namespace, list[Section]], None]


def load_parts(names: list[str]) -> dict[str, Part]:
    """The parts that were asked for; imported late, since the node's needs ROS."""
    parts: dict[str, Part] = {}
    if 'network' in names:
        from network_part import run_network_part

        parts['network'] = run_network_part
    if 'predictor' in names:
        from predictor_part import run_predictor_part

        parts['predictor'] = run_predictor_part
    if 'node' in names:
        from node_part import run_node_part
        from nodes import ros_world

        def run(options: argparse.Namespace, sections: list[Section]) -> None:
            with ros_world():
                run_node_part(options, sections)

        parts['node'] = run
    return parts


def load_soak(picture: Path) -> dict[str, Part]:
    """The long run alone."""
    from node_part import soak
    from nodes import ros_world

    def run(options: argparse.Namespace, sections: list[Section]) -> None:
        with ros_world():
            soak(options, sections, picture)

    return {'soak': run}


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--parts', default='network,predictor,node', help='some of them (default: %(default)s)')
    parser.add_argument(
        '--sizes', type=parse_size, nargs='+', default=[(768, 768), (512, 1024)], metavar='HxW',
        help='inputs of the networks; the original has 768x768 only (default: 768x768 512x1024)',
    )  # fmt: skip
    parser.add_argument('--only', default='', metavar='TEXT', help='networks whose name contains this')
    parser.add_argument('--rounds', type=int, default=15, help='of network and predictor (default: %(default)s)')
    parser.add_argument('--node-rounds', type=int, default=3, help='of node (default: %(default)s)')
    parser.add_argument('--node-size', type=parse_size, default=(1024, 2048), metavar='HxW', help='of the one camera')
    parser.add_argument('--frames', type=int, default=15, help='of one camera in a round (default: %(default)s)')
    parser.add_argument('--window', type=float, default=20.0, help='seconds of full load (default: %(default)s)')
    parser.add_argument('--soak', type=float, default=0.0, metavar='MINUTES', help='the long run, and nothing else')
    parser.add_argument('--threads', type=int, default=count_cores(), help='of each candidate (default: all cores)')
    parser.add_argument('--checkpoint', default='', metavar='FILE', help='ours (default: the bundled one)')
    parser.add_argument('--name', default=f'{count_cores()}core-cpu', help='name of the machine in the result')
    parser.add_argument('--out', type=Path, default=RESULTS, help='folder of the results (default: bench/results)')
    options = parser.parse_args()
    options.parts = options.parts.split(',')
    if unknown := set(options.parts) - {'network', 'predictor', 'node'}:
        parser.error(f'--parts: expected some of network, predictor, node; got {", ".join(sorted(unknown))}')
    for name in ('rounds', 'node_rounds', 'frames', 'threads'):
        if getattr(options, name) < 1:
            parser.error(f'--{name.replace("_", "-")}: expected at least 1, got {getattr(options, name)}')
    if options.soak and options.soak <= 1:
        parser.error('--soak: expected more than 1 minute, since the first one is left out of the growth')
    if (options.soak or 'node' in options.parts) and importlib.util.find_spec('rclpy') is None:
        parser.error('the node needs rclpy: run inside the ROS environment, or choose --parts network,predictor')
    return options


def main() -> int:
    """Measure, and write the result files whatever happens on the way."""
    options = parse_options()
    logging.getLogger('torch.onnx').setLevel(logging.ERROR)
    torch.set_num_threads(options.threads)
    what = 'soak' if options.soak else '-'.join(options.parts)
    stem = options.out / f'{datetime.date.today().isoformat()}-{options.name}-{what}'
    parts = load_soak(stem.with_name(f'{stem.name}.png')) if options.soak else load_parts(options.parts)
    sections: list[Section] = []
    complete = False
    status = 0
    try:
        for name, part in parts.items():
            print(f'part {name}', file=sys.stderr, flush=True)
            part(options, sections)
        complete = True
    except KeyboardInterrupt:
        status = 130
    except (SemboxError, NodeError) as error:
        print(f'run: {error}', file=sys.stderr)
        status = 1
    finally:
        title = f'Bench, {datetime.date.today().isoformat()}, {options.name}'
        machine = describe_machine(options.threads)
        print(write_report(stem, title, ABOUT, machine, sections, complete=complete))
    return status


if __name__ == '__main__':
    sys.exit(main())
