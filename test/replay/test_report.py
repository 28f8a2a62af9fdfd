from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from example_report import add_worst_frames, empty_report, offline_report, online_report
from parsed_page import Parsed, decoded

from sembox_ros.errors import ConfigError, DatasetError
from sembox_ros.page import embed_picture
from sembox_ros.replay import report as report_module
from sembox_ros.replay.report import load_report, write_report
from sembox_ros.replay.report_schema import check_report

ROOT = Path(__file__).parents[2]


def written(report: dict[str, Any], folder: Path) -> Parsed:
    write_report(report, folder)
    return Parsed(folder / 'report.html')


def headings(page: Parsed) -> list[str]:
    return [''.join(part).strip() for part in page.by_class.get('h2', [])]


def test_the_page_of_an_offline_replay(tmp_path: Path):
    report = offline_report()
    add_worst_frames(report, tmp_path)
    page = written(report, tmp_path)
    assert page.of('title') == page.of('h1') == 'city_drive_0'
    assert page.of('facts') == (
        'city_drive_0 (30 s, 300 frames), replayed: sembox_b1 on cpu by openvino fp32, batch 4; 296 frames in 41 s, '
        '7.18 frames/s.'
    )
    assert page.of('badge') == 'offline ground truth: topics of the bag'
    latency, panoptic = report['speed']['latency_ms']['total'], report['accuracy']['panoptic']
    assert page.of('tiles') == (
        'mIoU 66.4 % over 296 masks AP 30.5 % over 296 images AP50 53.1 % at IoU 0.5 '
        f'PQ {100 * panoptic["pq"]:.1f} % over 296 scenes '
        'depth abs-rel 0.123 over 290 depth maps motion mIoU 81.0 % over 296 masks latency p50 '
        f'{latency["p50"]:.0f} ms, total; p99 {latency["p99"]:.0f} speed 7.18 frames per second skipped 4 of 300 frames'
    )
    assert headings(page) == [
        'Latency', 'Timeline', 'Classes', 'Panoptic', 'Boxes', 'Confusion', 'Depth and motion', 'Stability',
        'Worst frames', 'What was left out', 'Settings',
    ]  # fmt: skip
    car = [f'{100 * panoptic[f"{quality}_per_class"]["car"]:.1f}' for quality in ('pq', 'sq', 'rq')]
    assert ['car', '88.4', '48.2', '80.7', car[0]] in page.rows
    assert ['train', '-', '-', '-', '-'] in page.rows
    assert ['mean', '66.4', '30.5', '53.1', f'{100 * panoptic["pq"]:.1f}'] in page.rows
    assert ['car', *car] in page.rows
    for title, part in (('all', ''), ('things', '_things'), ('stuff', '_stuff'), ('mean', '')):
        assert [title, *(f'{100 * panoptic[f"{q}{part}"]:.1f}' for q in ('pq', 'sq', 'rq'))] in page.rows
    assert ['below 32 x 32 px', '8.1'] in page.rows
    assert ['mean relative error (abs-rel)', '0.123'] in page.rows
    assert ['RMSE, m', '4.57'] in page.rows
    assert ['less than 1.25 times off (delta1), %', '85.6'] in page.rows
    for part, value in (('moving', '64.0'), ('static', '98.0'), ('mean', '81.0')):
        assert [part, value] in page.rows
    assert ['mask agreement', '96.2'] in page.rows
    assert ['car', '4.31'] in page.rows
    assert ['sha256 of the outputs', report['outputs_sha256']] in page.rows
    assert [text.strip() for text in page.by_class['li']] == [
        '3 frames skipped: JPEG cannot be decoded',
        '1 frame skipped: unknown encoding 14UC2',
        '2 frames with the stamp of another frame',
        '1 frame with an earlier stamp than the frame before',
        "AP without caravan, which the network's 'cityscapes_things_8' lacks",
    ]


def test_worst_frames_are_embedded_with_their_captions(tmp_path: Path):
    report = offline_report()
    add_worst_frames(report, tmp_path, count=1)
    report['worst'] += [{**report['worst'][0], 'picture': name} for name in ('worst/absent.jpg', '../secret.jpg')]
    report['worst'][0]['camera'] = 'left'
    page = written(report, tmp_path)
    pictures = [source for source in page.sources if source.startswith('data:image/jpeg')]
    assert [decoded(source).size for source in pictures] == [(1440, 784)]
    captions = [c.strip() for c in page.by_class['figcaption'] if 'stamp' in c]
    assert captions == [
        'mIoU 31.2 % · frame 17 · left, stamp 1700000000.123456789 s',
        'mIoU 31.2 % · frame 17 · stamp 1700000000.123456789 s (worst/absent.jpg: cannot be read)',
        'mIoU 31.2 % · frame 17 · stamp 1700000000.123456789 s (../secret.jpg: cannot be read)',
    ]


def test_pictures_end_where_the_page_would_become_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    report = offline_report()
    add_worst_frames(report, tmp_path, count=1)
    report['worst'] *= 5
    size = len(embed_picture(tmp_path / 'worst' / '0.jpg'))
    monkeypatch.setattr('sembox_ros.replay.report_sections.PICTURES_BYTES', 3.5 * size)
    page = written(report, tmp_path)
    shown = len([source for source in page.sources if source.startswith('data:image/jpeg')])
    assert shown == 3
    assert '2 more in the folder worst.' in page.texts


def test_the_page_of_an_online_replay(tmp_path: Path):
    report = online_report()
    report |= {'partial': 'stopped by Ctrl-C', 'accuracy': None}
    report['network']['trained'] = False
    page = written(report, tmp_path)
    assert page.of('badge') == 'online'
    assert page.of('alarm') == 'UNTRAINED weights: the results mean nothing PARTIAL: stopped by Ctrl-C'
    assert page.of('tiles').startswith('mask agreement 96.2 % mask flicker 0.7 % box flicker 8.3 % latency p50 ')
    assert page.of('tiles').endswith('dropped 48 of 300 frames')
    assert headings(page) == ['Latency', 'Timeline', 'Stability', 'Resources', 'What was left out', 'Settings']
    assert ['inference', '97', '121', '139', '-', '-'] in page.rows
    assert ['memory, highest, MiB', '1,124'] in page.rows
    assert ['stale', '4'] in page.rows


def test_a_node_that_never_answered(tmp_path: Path):
    report = online_report()
    report['speed'] |= {'latency_ms': {}, 'histogram': None}
    report['online'] |= {'answered': 0, 'end_to_end_ms': None, 'age_ms': None, 'stages_ms': {}, 'throughput_hz': None}
    report['online']['samples'] = {name: [] for name in report['online']['samples']}
    page = written(report, tmp_path)
    assert 'Latency' not in headings(page)
    assert ['answers per second', '-'] in page.rows
    assert ['answered', '0'] in page.rows


def test_nothing_to_show_gives_a_page_without_pictures(tmp_path: Path):
    page = written(empty_report(), tmp_path)
    assert headings(page) == ['What was left out', 'Settings']
    assert page.sources == []
    assert page.of('alarm') == 'PARTIAL: interrupted before the first frame'


@pytest.mark.parametrize('make', [offline_report, online_report])
def test_the_page_needs_nothing_but_itself(tmp_path: Path, make: Callable[[], dict[str, Any]]):
    page = written(make(), tmp_path)
    assert all(source.startswith('data:image/') for source in (*page.sources, *page.references))
    assert len(page.sources) == len(page.references) >= 5  # each plot, for light and for dark pages
    assert not {'script', 'link', 'iframe', 'a'} & set(page.tags)
    text = (tmp_path / 'report.html').read_text()
    assert "default-src 'none'" in text
    assert len(text) < 2_000_000


def test_names_from_the_bag_are_text(tmp_path: Path):
    report = offline_report()
    evil = '<script>alert("$x^{")</script>'
    report['name'] = report['bag']['name'] = report['labels']['semantic'][0] = evil
    for table in (report['accuracy']['semantic']['iou_per_class'], report['timeline']['class_share']):
        table[evil] = table.pop('road')
    report['accuracy']['confusion']['names'][0] = evil
    report['accuracy']['pr_curves']['precision'][evil] = [0.5] * 101
    report['frames']['skipped'][evil] = 1
    page = written(report, tmp_path)
    assert page.of('h1') == evil
    assert 'script' not in page.tags


def test_what_is_written_is_read_back(tmp_path: Path):
    report = offline_report()
    write_report(report, tmp_path)
    assert load_report(tmp_path) == load_report(tmp_path / 'report.json') == check_report(report, 'x')
    assert sorted(path.name for path in tmp_path.iterdir()) == ['report.html', 'report.json']


def test_a_write_that_fails_leaves_the_old_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_report(offline_report(), tmp_path)
    before = (tmp_path / 'report.json').read_bytes()

    def full(path: Path, data: bytes) -> int:
        with path.open('wb') as file:
            file.write(data[:100])
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(Path, 'write_bytes', full)
    with pytest.raises(DatasetError, match=r'report\.json: cannot be written: No space left on device'):
        write_report(online_report(), tmp_path)
    assert (tmp_path / 'report.json').read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ['report.html', 'report.json']


def test_the_numbers_survive_a_report_that_no_page_can_show(tmp_path: Path):
    report = {**offline_report(), 'labels': None}
    with pytest.raises(DatasetError, match=r'report\.json: labels: expected an object'):
        write_report(report, tmp_path)
    assert json.loads((tmp_path / 'report.json').read_text()) == report


@pytest.mark.parametrize('text', ['', '{"schema": ', '[' * 100_000, '9' * 5000, '\x00'])
def test_what_is_no_json_is_refused(tmp_path: Path, text: str):
    (tmp_path / 'report.json').write_text(text)
    with pytest.raises(DatasetError, match=r'not JSON|not a report') as error:
        load_report(tmp_path)
    assert str(error.value).startswith(str(tmp_path / 'report.json'))


def test_a_folder_without_a_report_and_a_file_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ConfigError, match=r'report\.json: no such file; give the report\.json'):
        load_report(tmp_path)
    with pytest.raises(ConfigError, match='absent: no such file'):
        load_report(tmp_path / 'absent')
    write_report(offline_report(), tmp_path)
    monkeypatch.setattr(report_module, 'MAX_REPORT_BYTES', 100)
    with pytest.raises(DatasetError, match='expected at most 100 bytes'):
        load_report(tmp_path)


def test_drawing_leaves_pyplot_alone():
    script = 'import sys, sembox_ros.replay.report; print("matplotlib.pyplot" in sys.modules, "torch" in sys.modules)'
    done = subprocess.run(
        [sys.executable, '-c', script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ['False', 'False']
