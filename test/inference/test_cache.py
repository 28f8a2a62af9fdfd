from __future__ import annotations

import threading
from pathlib import Path

import pytest

from sembox_ros.errors import ConfigError
from sembox_ros.inference import cache
from sembox_ros.inference.cache import cache_folder, write_whole


def test_it_lies_where_the_user_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'there'))
    assert cache_folder() == tmp_path / 'there' / 'sembox_ros'
    monkeypatch.delenv('XDG_CACHE_HOME')
    monkeypatch.setenv('HOME', str(tmp_path))
    assert cache_folder() == tmp_path / '.cache' / 'sembox_ros'


def test_where_nothing_can_be_written_a_temporary_folder_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / 'file').touch()  # a folder below a file: root cannot write there either
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'file'))
    monkeypatch.setattr(cache.tempfile, 'tempdir', str(tmp_path))
    cache._temporary_folder.cache_clear()
    folder = cache_folder()
    write_whole(folder / 'a', b'1')
    assert folder.parent == tmp_path
    assert cache_folder() == folder  # one for the process
    cache._temporary_folder.cache_clear()


def test_writers_at_once_leave_one_whole_file(tmp_path: Path) -> None:
    contents = [bytes([index]) * 300_000 for index in range(8)]
    threads = [threading.Thread(target=write_whole, args=(tmp_path / 'a', content)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / 'a').read_bytes() in contents
    assert [path.name for path in tmp_path.iterdir()] == ['a']


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / 'file').touch()
    with pytest.raises(ConfigError, match='file/a: cannot be written'):
        write_whole(tmp_path / 'file' / 'a', b'1')
