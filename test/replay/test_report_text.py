"""A report on the terminal."""

from __future__ import annotations

from example_report import empty_report, offline_report, online_report

from sembox_ros.replay.report_text import render_text


def test_scores_and_classes_of_an_offline_replay():
    report = offline_report()
    report['stability'] |= {'class_share': {'road': 0.4, 'sky': 0.5991, 'car': 0.0009, 'bus': 0.0}}
    lines = render_text(report).splitlines()
    assert lines[0].startswith('frames    296 of 300')
    assert 'masks     sky 59.9, road 40.0 (percent)' in lines
    assert 'boxes     car 4.3, person 1.9, bicycle 0.9, bus 0.1 (per frame)' in lines
    panoptic = report['accuracy']['panoptic']
    [place] = [i for i, line in enumerate(lines) if line.startswith('accuracy  mIoU 66.4, AP 30.5, AP50 53.1, PQ')]
    assert f', PQ {100 * panoptic["pq"]:.1f} (percent) against' in lines[place]
    things = '/'.join(f'{100 * panoptic[name]:.1f}' for name in ('pq_things', 'sq_things', 'rq_things'))
    assert lines[place + 2].startswith(f'          PQ/SQ/RQ: things {things}, stuff ')
    assert lines[place + 3] == '          depth abs-rel 0.123, RMSE 4.57 m; motion mIoU 81.0'
    assert not any(line.startswith('node') for line in lines)


def test_depth_alone_has_its_line_too():
    report = offline_report()
    report['accuracy'] |= dict.fromkeys(('semantic', 'boxes', 'panoptic', 'motion'))
    report['accuracy']['depth']['rmse_m'] = None
    assert 'accuracy  depth abs-rel 0.123, RMSE - m' in render_text(report).splitlines()


def test_an_online_replay_tells_of_the_node():
    lines = render_text(online_report()).splitlines()
    counts = 'received 300, processed 248, dropped 48, stale 4'
    place = lines.index(f'node      played 300, answered 248; {counts}, 1124 MiB')
    stages = 'decode 2.8/3.4/4.1, inference 97.0/121.0/139.0, publish 5.2/7.9/11.0'
    assert lines[place + 1] == f'          p50/p95/p99 in ms: {stages}'
    assert any(line.startswith('masks ') and ' and ' in line for line in lines)  # only the ten largest are named


def test_nothing_seen_is_no_error():
    assert render_text(empty_report()).splitlines()[0].startswith('PARTIAL')
