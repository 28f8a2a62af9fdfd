from __future__ import annotations

import threading
from pathlib import Path

import pytest

from sembox_ros.atomic import whole_file, write_whole
from sembox_ros.errors import CheckpointError, ConfigError


def test_the_file_and_its_folder_are_made_and_an_old_one_is_replaced(tmp_path: Path):
    for content in (b'one', b''):
        write_whole(tmp_path / 'new' / 'a', content, ConfigError)
        assert {path.name: path.read_bytes() for path in (tmp_path / 'new').iterdir()} == {'a': content}


def test_writers_at_once_leave_one_whole_file(tmp_path: Path):
    contents = [bytes([index]) * 300_000 for index in range(8)]
    threads = [threading.Thread(target=write_whole, args=(tmp_path / 'a', c, ConfigError)) for c in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / 'a').read_bytes() in contents
    assert [path.name for path in tmp_path.iterdir()] == ['a']


def write_half(path: Path, failure: BaseException) -> None:
    with whole_file(path, CheckpointError) as draft:
        draft.write_bytes(b'half of i')
        raise failure


@pytest.mark.parametrize(
    ('failure', 'raised', 'message'),
    [
        (OSError(28, 'No space left on device'), CheckpointError, r'old: cannot be written: No space left on device$'),
        (KeyboardInterrupt(), KeyboardInterrupt, '^$'),
        (ValueError('not ours'), ValueError, 'not ours'),
    ],
)
def test_what_fails_halfway_leaves_the_old_file_and_no_other(
    tmp_path: Path, failure: BaseException, raised: type[BaseException], message: str
):
    (tmp_path / 'old').write_bytes(b'old')
    for name in ('old', 'new'):
        with pytest.raises(raised, match=message.replace('old', name)):
            write_half(tmp_path / name, failure)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {'old': b'old'}


def test_what_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / 'file').touch()  # a folder below a file: root cannot write there either
    with pytest.raises(ConfigError, match='file/a: cannot be written: File exists'):
        write_whole(tmp_path / 'file' / 'a', b'1', ConfigError)
    (tmp_path / 'folder').mkdir()
    with pytest.raises(ConfigError, match='folder: cannot be written: Is a directory'):
        write_whole(tmp_path / 'folder', b'1', ConfigError)
