from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from cluster_jobs import make_jobs, replay
from hypothesis import given
from hypothesis import strategies as st

from sembox_ros.errors import DatasetError
from sembox_ros.replay.many import BagJob, JobResult, find_bags, plan_jobs, run_jobs, without_suffix
from sembox_ros.replay.media import unique_names


@pytest.fixture
def drives(tmp_path: Path) -> Path:
    """Bags of all kinds, and what is none."""
    folder = tmp_path / 'drives'
    for name in (
        'monday/metadata.yaml', 'monday/monday_0.mcap', 'monday/monday_1.mcap', 'split/part_0.MCAP',
        'split/part_1.mcap', 'old/ros1.bag', 'old/two.db3', 'notes/readme.txt', 'empty.txt',
    ):  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


ALL = ['monday', 'old/ros1.bag', 'old/two.db3', 'split/part_0.MCAP', 'split/part_1.mcap']


def relative(bags: list[Path], folder: Path) -> list[str]:
    return [str(bag.relative_to(folder)) for bag in bags]


@pytest.mark.parametrize(
    ('patterns', 'expected'),
    [
        (['.'], ALL),
        (['monday'], ['monday']),
        (['monday/monday_0.mcap'], ['monday/monday_0.mcap']),
        (['old/two.db3', 'old', 'old/../old/ros1.bag'], ['old/ros1.bag', 'old/two.db3']),
        (['*'], ALL),
        (['**'], ALL),
        (['s*/*_0.*', 'mon*'], ['monday', 'split/part_0.MCAP']),
        (['**/*.mcap'], ['monday/monday_0.mcap', 'monday/monday_1.mcap', 'split/part_1.mcap']),
    ],
)
def test_bags_are_found_sorted_and_once(drives: Path, patterns, expected):
    assert relative(find_bags([drives / p if p == '.' else f'{drives}/{p}' for p in patterns]), drives) == expected


@pytest.mark.parametrize('path', ['nowhere', 'notes', 'empty.txt', '*.mcap', 'monday/metadata.yaml'])
def test_a_path_without_a_bag_is_one_clear_error(drives: Path, path):
    with pytest.raises(DatasetError, match=r'expected a rosbag2 folder .* found no bag at .*') as caught:
        find_bags([drives, drives / path])
    assert str(drives / path) in str(caught.value)
    assert '\n' not in str(caught.value)


def test_results_of_earlier_runs_are_not_bags(drives: Path):
    (drives / 'results' / 'monday' / 'bag').mkdir(parents=True)
    (drives / 'results' / 'monday' / 'bag' / 'metadata.yaml').touch()
    assert len(find_bags([drives])) == len(ALL) + 1
    assert relative(find_bags([drives], exclude=drives / 'old' / '..' / 'results'), drives) == ALL
    named = drives / 'results' / 'monday' / 'bag'
    assert find_bags([named], exclude=drives / 'results') == [named]
    assert find_bags([f'{drives}/results/*/bag'], exclude=drives / 'results') == [named]


def test_names_with_brackets_and_links_in_circles_are_paths(tmp_path: Path):
    folder = tmp_path / 'drive [1]'
    folder.mkdir()
    (folder / 'a[2].mcap').touch()
    (folder / 'loop').symlink_to(folder)
    (tmp_path / 'linked').symlink_to(folder)
    assert relative(find_bags([str(folder)]), tmp_path) == ['drive [1]/a[2].mcap']
    assert relative(find_bags([folder, tmp_path / 'linked']), tmp_path) == ['drive [1]/a[2].mcap']
    assert relative(find_bags([tmp_path / 'linked']), tmp_path) == ['linked/a[2].mcap']


def test_every_bag_has_a_folder_named_after_its_path(drives: Path, tmp_path: Path):
    (drives / 'old' / 'two.mcap').touch()
    jobs = plan_jobs(find_bags([drives]), tmp_path / 'out', {'batch': 4})
    names = ['monday', 'old_ros1', 'old_two', 'old_two_2', 'split_part_0', 'split_part_1']
    assert [job.name for job in jobs] == names
    assert [job.out for job in jobs] == [tmp_path / 'out' / name for name in names]
    assert [job.settings for job in jobs] == [{'batch': 4}] * 6
    [alone] = plan_jobs([Path('x/drive.v1')], Path('out'), {})
    assert (alone.name, alone.bag, alone.out) == ('drive.v1', Path.cwd() / 'x/drive.v1', Path.cwd() / 'out/drive.v1')


@given(st.lists(st.sampled_from(['a', 'a_2', 'b', 'a_2_2'])))
def test_unique_names_are_unique_and_keep_their_order(stems):
    names = unique_names(stems)
    assert len(set(names)) == len(names) == len(stems)
    assert all(name.startswith(stem) for name, stem in zip(names, stems, strict=True))


def test_a_failed_bag_does_not_stop_the_rest(tmp_path: Path):
    told: list[JobResult] = []
    results = run_jobs(make_jobs(tmp_path, 'good', 'bad', 'bug', 'partial'), replay, on_result=told.append)
    assert told == results
    assert [r.state for r in results] == ['done', 'failed', 'failed', 'partial']
    assert results[1].error == 'bag: 1.mcap cannot be read: truncated'
    assert results[2].error == 'ZeroDivisionError: division (see 2/error.txt)'
    assert 'of the second line' in (tmp_path / 'out' / '2' / 'error.txt').read_text()
    assert [None if r.report is None else r.report['name'] for r in results] == ['0', None, None, '3']


def attempts(job: BagJob) -> int:
    return len((job.out / 'pids').read_text().split())


def test_finished_bags_are_kept_while_nothing_changed(tmp_path: Path):
    jobs = make_jobs(tmp_path, 'good', 'partial', 'bad', batch=4)
    first = run_jobs(jobs, replay, on_result=lambda _: None)
    again = run_jobs(jobs, replay, on_result=lambda _: None)
    assert [r.state for r in again] == ['kept', 'partial', 'failed']
    assert again[0].report == first[0].report
    assert attempts(jobs[0]) == 1
    [other, *_] = run_jobs(make_jobs(tmp_path, 'good', batch=8), replay, on_result=lambda _: None)
    assert (other.state, attempts(jobs[0])) == ('done', 2)
    os.utime(tmp_path / '0.mcap', (1, 1))
    [changed, *_] = run_jobs(make_jobs(tmp_path, batch=8), replay, on_result=lambda _: None)
    assert (changed.state, attempts(jobs[0])) == ('done', 3)


def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path: Path):
    jobs = make_jobs(tmp_path, 'good', 'good')
    (tmp_path / 'out').mkdir()
    jobs[0].out.write_text('mine')
    results = run_jobs(jobs, replay, on_result=lambda _: None)
    assert [r.state for r in results] == ['failed', 'done']
    assert str(jobs[0].out) in results[0].error
    assert jobs[0].out.read_text() == 'mine'


@pytest.mark.parametrize('damage', ['', '[]', 'null', '{"partial": null}', '{"partial"'])
def test_a_damaged_report_is_made_anew(tmp_path: Path, damage):
    jobs = make_jobs(tmp_path, 'good')
    run_jobs(jobs, replay, on_result=lambda _: None)
    (jobs[0].out / 'report.json').write_text(damage)
    [result] = run_jobs(jobs, replay, on_result=lambda _: None)
    assert result.state == 'done'
    assert json.loads((jobs[0].out / 'report.json').read_text()) == result.report


def test_a_run_that_fails_is_not_taken_for_the_finished_one_before_it(tmp_path: Path):
    jobs = make_jobs(tmp_path, 'good', batch=4)
    run_jobs(jobs, replay, on_result=lambda _: None)

    def fail(job: BagJob) -> dict:
        raise DatasetError('broken')

    run_jobs(make_jobs(tmp_path, 'good', batch=8), fail, on_result=lambda _: None)
    [result] = run_jobs(jobs, replay, on_result=lambda _: None)
    assert result.state == 'done'


def test_ctrl_c_keeps_what_is_finished(tmp_path: Path):
    jobs = make_jobs(tmp_path, 'good', 'good', 'good', 'good')
    run_jobs(jobs[3:], replay, on_result=lambda _: None)

    def interrupted(job: BagJob) -> dict:
        if job is jobs[1]:
            raise KeyboardInterrupt
        return replay(job)

    results = run_jobs(jobs, interrupted, on_result=lambda _: None)
    assert [r.state for r in results] == ['done', 'interrupted', 'not run', 'kept']
    again = run_jobs(jobs, replay, on_result=lambda _: None)
    assert [r.state for r in again] == ['kept', 'done', 'done', 'kept']


def test_overwrite_begins_anew_each_time(tmp_path: Path):
    jobs = make_jobs(tmp_path, 'ok')
    settings = {**jobs[0].settings, 'overwrite': True}
    anew = [BagJob(jobs[0].bag, jobs[0].out, settings)]
    states = [run_jobs(these, replay, on_result=lambda _: None)[0].state for these in (jobs, anew, anew, jobs)]
    assert states == ['done', 'done', 'done', 'kept']


@pytest.mark.parametrize(('bag', 'expected'), [('a/drive_2026.11.21', 'drive_2026.11.21'), ('b.c/x.y.MCAP', 'x.y')])
def test_folders_keep_their_dots(bag: str, expected: str):
    assert without_suffix(Path(bag)).name == expected
