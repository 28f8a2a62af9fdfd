from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from example_report import offline_report

from sembox_ros.cli import main
from sembox_ros.cli.compare import parse_tolerances
from sembox_ros.errors import ConfigError
from sembox_ros.replay.compare import METRICS, Tolerance


@pytest.fixture
def reports(tmp_path: Path) -> tuple[Path, Path]:
    """Two reports, the second with a lower mIoU."""
    paths = (tmp_path / 'a', tmp_path / 'b')
    for path, miou in zip(paths, (0.66, 0.63), strict=True):
        path.mkdir()
        report = offline_report()
        report['accuracy']['semantic']['miou'] = miou
        (path / 'report.json').write_text(json.dumps(report))
    return paths


def test_it_exits_1_beyond_the_tolerance_and_0_within(reports: tuple[Path, Path], capsys: pytest.CaptureFixture[str]):
    a, b = map(str, reports)
    assert main(['compare', a, f'{b}/report.json']) == 1
    assert capsys.readouterr().out.endswith('WORSE beyond tolerance: miou\n')
    assert main(['compare', a, b, '--tolerance', 'miou=0.03', 'ap=1%']) == 0
    assert main(['compare', '--tolerance', 'miou=5%', '--tolerance', 'ap=0', '--out', 'x', a, a]) == 0
    assert main(['compare', b, a]) == 0
    assert capsys.readouterr().out.endswith('nothing is worse beyond tolerance\n')


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_it_writes_what_it_found(reports: tuple[Path, Path], tmp_path: Path):
    a, b = map(str, reports)
    assert main(['compare', a, b, '--out', str(tmp_path / 'new' / 'out')]) == 1
    record = json.loads((tmp_path / 'new' / 'out' / 'compare.json').read_text())
    assert record['worse'] == ['miou']
    assert 'WORSE beyond tolerance: miou' in (tmp_path / 'new' / 'out' / 'compare.html').read_text()


@pytest.mark.parametrize(
    ('make', 'says'),
    [
        (lambda b: (b / 'report.json').unlink(), 'no such file; give the report.json'),
        (lambda b: (b / 'report.json').write_text('{}'), 'not a report of'),
        (lambda b: (b / 'report.json').write_text('{'), 'not JSON'),
        (lambda b: (b.parent / 'out').write_text(''), 'compare.json: cannot be written: '),
    ],
)
def test_errors_are_one_line(
    reports: tuple[Path, Path], make: Any, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    a, b = reports
    make(b)
    assert main(['compare', str(a), str(b), '--out', str(tmp_path / 'out')]) == 1
    error = capsys.readouterr().err
    assert error.startswith('compare: ')
    assert says in error
    assert error.count('\n') == 1


def test_tolerances():
    assert parse_tolerances(['miou=0.01', 'latency_p50=10%', 'class_iou=.05', 'skipped=0']) == {
        'miou': Tolerance(0.01), 'latency_p50': Tolerance(0.1, relative=True), 'class_iou': Tolerance(0.05),
        'skipped': Tolerance(0.0),
    }  # fmt: skip


@pytest.mark.parametrize('text', ['', 'miou', 'miou=', 'miou=-1', 'miou=nan', 'miou=1e3', 'miou=1%%', 'miou =1', '=1'])
def test_tolerances_of_another_form(text: str):
    with pytest.raises(ConfigError, match=r'expected NAME=NUMBER or NAME=NUMBER%'):
        parse_tolerances([text])


def test_an_unknown_metric_and_the_closest_one():
    with pytest.raises(ConfigError, match=r"unknown metric 'latency_50' \(did you mean latency_p50\?\)"):
        parse_tolerances(['latency_50=1'])


def test_help_names_every_default(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(['compare', '--help'])
    text = ''.join(capsys.readouterr().out.split())
    for metric in METRICS.values():
        assert f'{metric.name}={metric.tolerance}' in text
