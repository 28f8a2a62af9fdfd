"""`python -m sembox_ros compare`: two replay reports against each other; exits 1 if the second one is worse."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable
from pathlib import Path

from sembox_ros.cli.common import run_command
from sembox_ros.config import suggest
from sembox_ros.errors import ConfigError
from sembox_ros.page import write_page
from sembox_ros.replay.compare import CLASS_IOU, METRICS, Tolerance, compare_reports
from sembox_ros.replay.compare_page import build_comparison_page, render_text
from sembox_ros.replay.report import load_report, write_json
from sembox_ros.replay.report_page import render_page


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    defaults = ', '.join(f'{metric.name}={metric.tolerance}' for metric in METRICS.values()).replace('%', '%%')
    parser.add_argument('a', metavar='A', type=Path, help='report.json, or its folder: what was')
    parser.add_argument('b', metavar='B', type=Path, help='the same of what is now')
    parser.add_argument(
        '--tolerance', nargs='+', action='extend', default=[], metavar='NAME=VALUE',
        help='how much worse a metric may be: in its own unit (shares are 0..1), or with %% relative to A; '
        f'{CLASS_IOU} holds for each class and is not judged without. Where none is given: {defaults}',
    )  # fmt: skip
    parser.add_argument('--out', type=Path, help='also write compare.html and compare.json to this folder')


def parse_tolerances(texts: Iterable[str]) -> dict[str, Tolerance]:
    """Read tolerances such as 'miou=0.01' and 'latency_p50=10%'.

    Raises:
        ConfigError: another form, or an unknown metric.
    """
    tolerances = {}
    for text in texts:
        match = re.fullmatch(r'(\w+)=(\d{1,9}(?:\.\d{1,9})?|\.\d{1,9})(%?)', text)
        if not match:
            raise ConfigError(f"tolerance: expected NAME=NUMBER or NAME=NUMBER%, such as miou=0.01; got '{text}'")
        name, number, sign = match.groups()
        known = (*METRICS, CLASS_IOU)
        if name not in known:
            raise ConfigError(
                f"tolerance: unknown metric '{name}'{suggest(name, known)}; expected one of: {', '.join(known)}"
            )
        tolerances[name] = Tolerance(float(number) / 100 if sign else float(number), relative=bool(sign))
    return tolerances


def run(options: argparse.Namespace) -> int:
    """Print the comparison, write it if asked; 1 if B is worse than is tolerated."""
    tolerances = parse_tolerances(options.tolerance)
    a, b = load_report(options.a), load_report(options.b)
    comparison = compare_reports(a, b, tolerances)
    print(render_text(comparison))
    if options.out is not None:
        write_json(comparison.to_dict(), options.out / 'compare.json')
        write_page(options.out / 'compare.html', render_page(build_comparison_page(comparison, a, b)))
    return 1 if comparison.worse else 0


def main(args: list[str] | None = None) -> int:
    """Entry point of the command."""
    return run_command(args, name='compare', description=__doc__, add_arguments=add_arguments, run=run)
