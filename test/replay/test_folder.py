from __future__ import annotations

import json
from pathlib import Path

import pytest
from example_report import offline_report

from sembox_ros.errors import ConfigError, DatasetError
from sembox_ros.replay.folder import ReplayFolder, remove_replay

SETTINGS = {'bag': {'name': 'drive'}, 'batch': 4, 'save': ('color',)}


def finish(folder: ReplayFolder, partial: str | None = None) -> None:
    (folder.path / 'report.json').write_text(json.dumps({**offline_report(), 'partial': partial}))


def write_part(folder: ReplayFolder, number: int, frames: int) -> None:
    part = folder.parts / f'{number:04d}'
    part.mkdir()
    line = json.dumps({'index': 0, 'camera': '', 'stamp_ns': 1, 'received_ns': 1})
    (part / 'frames.jsonl').write_text('\n'.join([line] * frames))


def test_a_folder_is_made_and_goes_on(tmp_path: Path):
    folder = ReplayFolder(tmp_path / 'a' / 'b', SETTINGS)
    assert (folder.done_parts, folder.done_frames) == (0, 0)
    write_part(folder, 0, 128)
    write_part(folder, 1, 3)
    (folder.parts / '0002.unfinished').mkdir()
    again = ReplayFolder(tmp_path / 'a' / 'b', SETTINGS)
    assert (again.done_parts, again.done_frames) == (2, 131)
    assert again.finished_report() is None
    finish(again, 'interrupted')
    assert again.finished_report() is None
    finish(again)
    assert again.finished_report()['partial'] is None
    again.remove_parts()
    assert not again.parts.exists()


def test_other_settings_are_refused_where_they_would_cost_something(tmp_path: Path):
    ReplayFolder(tmp_path, SETTINGS)
    other = {**SETTINGS, 'batch': 8, 'truth': 'x' * 100}
    folder = ReplayFolder(tmp_path, other)  # nothing was done so far
    write_part(folder, 0, 1)
    with pytest.raises(ConfigError, match=r'batch was 8, is 4; truth was "xxx.*\.\.\., is null\); .*--overwrite'):
        ReplayFolder(tmp_path, SETTINGS)
    assert ReplayFolder(tmp_path, SETTINGS, overwrite=True).done_frames == 0
    ReplayFolder(tmp_path, SETTINGS)


@pytest.mark.parametrize('text', ['', '[]', '{', '"text"', '\udcff'])
def test_a_damaged_marker_is_one_clear_error(tmp_path: Path, text):
    finish(ReplayFolder(tmp_path, SETTINGS))
    (tmp_path / 'replay.json').write_bytes(text.encode('utf-8', 'surrogateescape'))
    with pytest.raises(DatasetError, match=r'replay\.json: damaged \(.*\); --overwrite begins anew') as caught:
        ReplayFolder(tmp_path, SETTINGS)
    assert '\n' not in str(caught.value)
    ReplayFolder(tmp_path, SETTINGS, overwrite=True)


def test_a_damaged_part_is_one_clear_error(tmp_path: Path):
    folder = ReplayFolder(tmp_path, SETTINGS)
    for text in ('{"index": 0', '{"stamp": 1}', '[]'):
        write_part(folder, 0, 1)
        (folder.parts / '0000' / 'frames.jsonl').write_text(text)
        with pytest.raises(DatasetError, match=r'frames\.jsonl: damaged'):
            ReplayFolder(tmp_path, SETTINGS)
        ReplayFolder(tmp_path, SETTINGS, overwrite=True)


def test_what_is_in_the_way_is_left_alone(tmp_path: Path):
    file = tmp_path / 'file'
    file.write_text('mine')
    for path, message in ((file, 'is a file'), (tmp_path, 'no replay made it')):
        for overwrite in (False, True):
            with pytest.raises(ConfigError, match=message):
                ReplayFolder(path, SETTINGS, overwrite=overwrite)
    with pytest.raises(DatasetError, match='cannot be written: Not a directory'):
        ReplayFolder(file / 'below', SETTINGS)
    assert file.read_text() == 'mine'


def test_only_what_a_replay_wrote_is_removed(tmp_path: Path):
    finish(ReplayFolder(tmp_path, SETTINGS))
    for name in ('notes.csv', 'report.odt', 'overlay.png', 'mine/bag/x'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text('mine')
    for name in ('frames.csv', 'report.html', 'overlay_left.mp4', 'grade.npz', 'worst/0.jpg', 'bag/bag_0.mcap'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    remove_replay(tmp_path)
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob('*') if path.is_file()}
    assert left == {'notes.csv', 'report.odt', 'overlay.png', 'mine/bag/x'}
