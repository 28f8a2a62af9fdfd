from __future__ import annotations

from pathlib import Path

import pytest

from sembox_ros.inference import cache
from sembox_ros.inference.cache import cache_folder


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
    (folder / 'a').touch()
    assert folder.parent == tmp_path
    assert cache_folder() == folder  # one for the process
    cache._temporary_folder.cache_clear()
