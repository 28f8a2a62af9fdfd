from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.parse import unquote_to_bytes

import numpy as np
import pytest
from cluster_jobs import make_jobs, replay
from example_report import offline_report

from sembox_ros.errors import DatasetError
from sembox_ros.evaluation.grading import SceneGrade
from sembox_ros.labels import CITYSCAPES_19, CITYSCAPES_THINGS_8, COCO_90, SceneLabels
from sembox_ros.panoptic import INSTANCES
from sembox_ros.replay.many import INTERRUPTED, NOT_RUN, BagJob, JobResult, run_jobs
from sembox_ros.replay.many_summary import summarize, summary_table
from sembox_ros.types import Detections

LABELS = SceneLabels.linked_by_name(CITYSCAPES_19, CITYSCAPES_THINGS_8)


def add_frames(grade: SceneGrade, seed: int, prefix: str = '') -> SceneGrade:
    """Three noisy frames, their names alike in all bags."""
    random = np.random.default_rng(seed)
    for frame in range(3):
        gt = random.integers(0, 19, (16, 24), dtype=np.uint8)
        pred = np.where(random.random(gt.shape) < 0.3, random.integers(0, 19, gt.shape), gt).astype(np.uint8)
        grade.add_mask(pred, gt)
        grade.add_depth(*random.uniform(1, 50, (2, 16, 24)).astype(np.float32))
        grade.add_motion(random.random(gt.shape) < 0.5, random.integers(0, 2, gt.shape, dtype=np.uint8))
        stripes = [np.where(mask < 11, mask, 12).astype(np.int32) * INSTANCES + (mask >= 11) for mask in (pred, gt)]
        grade.add_panoptic(*stripes, ())
        corners = random.uniform(0, 200, (5, 2)).astype(np.float32)
        boxes = np.concatenate((corners, corners + random.uniform(20, 90, (5, 2)).astype(np.float32)), axis=1)
        ids = random.integers(0, 8, 5)
        found = Detections(boxes + np.float32(seed), ids, random.random(5).astype(np.float32))
        grade.add_boxes(
            f'{prefix}{frame}', found, gt_boxes_xyxy=boxes, gt_class_ids=ids, gt_is_crowd=np.zeros(5, np.bool_)
        )
    return grade


def result_of(out: Path, name: str, *, labels: SceneLabels | None = LABELS, seed: int = 0) -> JobResult:
    """A replayed bag with its grade and page."""
    job = BagJob(out / f'{name}.mcap', out / name, {})
    job.out.mkdir(parents=True)
    (job.out / 'report.html').touch()
    if labels is not None:
        add_frames(SceneGrade(LABELS, labels), seed).save(job.out / 'grade.npz')
    return JobResult(job, {**offline_report(), 'name': name})


def test_scores_of_all_bags_are_those_of_one_long_bag(tmp_path: Path):
    results = [result_of(tmp_path, f'drive_{seed}', seed=seed) for seed in (1, 2, 9)]
    overall = summarize(results, tmp_path)['overall']
    whole = SceneGrade(LABELS, LABELS)
    for seed in (1, 2, 9):
        add_frames(whole, seed, f'drive_{seed}/')
    scores = whole.compute().to_dict()
    assert {part: overall[part] for part in scores} == scores
    assert 0.1 < overall['boxes']['ap'] < 0.99
    assert 0.1 < overall['panoptic']['pq'] < 0.99
    assert 0.1 < overall['depth']['abs_rel'] < 9
    assert 0.1 < overall['motion']['motion_miou'] < 0.99
    assert (overall['graded'], overall['notes']) == (3, [])
    frames = results[0].report['frames']['processed']
    assert (overall['frames'], overall['states']) == (3 * frames, {'done': 3})


def test_a_grade_that_does_not_fit_is_named_and_left_out(tmp_path: Path):
    other = SceneLabels.linked_by_name(CITYSCAPES_19, COCO_90)
    results = [
        result_of(tmp_path, 'first', seed=1),
        result_of(tmp_path, 'other_classes', labels=other, seed=2),
        result_of(tmp_path, 'no_grade', labels=None),
        result_of(tmp_path, 'damaged', seed=3),
        result_of(tmp_path, 'last', seed=4),
    ]
    (tmp_path / 'damaged' / 'grade.npz').write_bytes(b'PK')
    overall = summarize(results, tmp_path)['overall']
    assert [note.split(' is not')[0] for note in overall['notes']] == ['other_classes', 'no_grade', 'damaged']
    assert overall['graded'] == 2
    whole = add_frames(add_frames(SceneGrade(LABELS, LABELS), 1, 'a'), 4, 'b')
    assert overall['semantic'] == whole.compute()[0].to_dict()


def test_every_bag_has_a_row_with_its_numbers_or_its_error(tmp_path: Path):
    good = result_of(tmp_path, 'good')
    job = BagJob(tmp_path / 'x.mcap', tmp_path / 'x', {})
    report = offline_report()
    report |= {'accuracy': None, 'partial': 'its end is damaged'}
    results = [
        good,
        JobResult(job, error='bag: x.mcap cannot be read', retries=2),
        JobResult(job, report, retries=1),
        JobResult(job, error=INTERRUPTED),
        JobResult(job, error=NOT_RUN),
    ]
    summary = summarize(results, tmp_path)
    assert json.loads((tmp_path / 'summary.json').read_text()) == summary
    first, failed, partial, *_ = summary['bags']
    assert first['miou'] == pytest.approx(good.report['accuracy']['semantic']['miou'])
    assert first['ap'] == pytest.approx(good.report['accuracy']['boxes']['ap'])
    assert first['pq'] == pytest.approx(good.report['accuracy']['panoptic']['pq'])
    assert (first['abs_rel'], first['motion_miou']) == (0.1234, 0.81)
    assert first['latency_p50_ms'] == good.report['speed']['latency_ms']['total']['p50']
    assert (first['frames'], first['page']) == (good.report['frames']['processed'], 'good/report.html')
    assert (failed['frames'], failed['miou'], failed['page']) == (None, None, None)
    assert (partial['miou'], partial['frames']) == (None, first['frames'])
    lines = summary_table(summary).splitlines()
    titles = ['bag', 'frames', 'mIoU %', 'AP %', 'PQ %', 'depth abs-rel', 'motion mIoU %', 'latency p50 ms', 'frames/s']
    titles.append('state')
    assert re.split(r' {2,}', lines[0]) == titles
    assert lines[1].split()[:3] == ['good', f'{first["frames"]}', f'{100 * first["miou"]:.1f}']
    assert lines[1].split()[5:7] == ['0.123', '81.0']
    assert lines[2].endswith('failed: bag: x.mcap cannot be read')
    assert lines[3].endswith('partial: its end is damaged (begun anew 1x)')
    assert [line.split()[-1] for line in lines[4:6]] == ['interrupted', 'run']
    assert lines[6].endswith('1 done, 1 failed, 1 partial, 1 interrupted, 1 not run')
    assert len({line.index(word) for line, word in zip(lines[1:4], ('done', 'failed', 'partial'), strict=True)}) == 1


def test_the_page_links_to_the_reports_and_escapes_names(tmp_path: Path):
    names = ['<b>&"', "drive 1 #2?'", 'plain']
    summarize([result_of(tmp_path, name) for name in names], tmp_path)
    page = (tmp_path / 'summary.html').read_text()
    links = re.findall(r'<a href="([^"]+)">', page)
    assert [unquote_to_bytes(link).decode() for link in links] == [f'{name}/report.html' for name in names]
    assert all((tmp_path / unquote_to_bytes(link).decode()).is_file() for link in links)
    assert '<b>&"' not in page
    assert re.findall(r'(?:src|href)="(?!data:|%|drive|plain)', page) == []
    assert 'Percent, of all graded bags together' in page


def test_a_name_that_is_not_utf8_has_a_link_that_leads_to_its_report(tmp_path: Path):
    summarize([result_of(tmp_path, 'drive_\udcff')], tmp_path)
    [link] = re.findall(r'<a href="([^"]+)">', (tmp_path / 'summary.html').read_text())
    assert unquote_to_bytes(link) == b'drive_\xff/report.html'


def test_runs_are_summed_up_whatever_became_of_them(tmp_path: Path):
    results = run_jobs(make_jobs(tmp_path, 'good', 'bad', 'bug'), replay, on_result=lambda _: None)
    summary = summarize(results, tmp_path / 'out')
    assert summary['overall']['states'] == {'done': 1, 'failed': 2}
    assert '2 failed' in (tmp_path / 'out' / 'summary.html').read_text()
    empty = summarize(results[1:2], tmp_path / 'none')
    assert (empty['overall']['semantic'], empty['overall']['frames']) == (None, 0)


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path):
    (tmp_path / 'file').touch()
    with pytest.raises(DatasetError, match=r'summary\.json: cannot be written') as caught:
        summarize([], tmp_path / 'file')
    assert '\n' not in str(caught.value)
