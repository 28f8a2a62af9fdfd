"""Files of arrays: written whole or not at all, read back bit for bit, and never believed."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sembox_ros.errors import InputError
from sembox_ros.evaluation.arrays import check_counts, load_arrays, pack_json, save_arrays, unpack_json

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@settings(max_examples=50, deadline=None)
@given(JSON)
def test_json_comes_back(value):
    assert unpack_json('x', pack_json(value)) == value


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=20).filter(lambda data: b']' not in data))
def test_other_bytes_are_refused(data: bytes):
    with pytest.raises(InputError, match='x: expected JSON, got b'):
        unpack_json('x', np.frombuffer(b'[' + data, np.uint8))  # a list without an end


def test_deep_json_is_refused():
    with pytest.raises(InputError, match='x: expected JSON'):
        unpack_json('x', np.frombuffer(b'[' * 100_000, np.uint8))


def test_arrays_come_back(tmp_path: Path):
    record = np.dtype([('a', np.uint8), ('b', np.float32, (2,))])
    arrays = {'one': np.arange(6).reshape(2, 3), 'two': np.zeros(0, np.float32), 'three': np.ones(3, record)}
    path = tmp_path / 'x.npz'
    for _ in range(2):  # an old file is replaced
        save_arrays(arrays, path)
    loaded = load_arrays(path)
    assert list(loaded) == list(arrays)
    for name, array in arrays.items():
        assert loaded[name].dtype == array.dtype
        np.testing.assert_array_equal(loaded[name], array)
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path):
    (tmp_path / 'x.npz').mkdir()
    with pytest.raises(InputError, match=r'x\.npz: cannot be written: Is a directory'):
        save_arrays({}, tmp_path / 'x.npz')
    assert [path.name for path in tmp_path.iterdir()] == ['x.npz']


@pytest.mark.parametrize('kind', ['missing', 'empty', 'text', 'npy', 'pickle', 'objects'])
def test_other_files_are_refused(tmp_path: Path, kind: str):
    path = tmp_path / 'x.npz'
    if kind == 'npy':
        with path.open('wb') as file:
            np.save(file, np.arange(3))
    elif kind == 'objects':
        with path.open('wb') as file:
            np.savez(file, x=np.array([{}], object))
    elif kind != 'missing':
        path.write_bytes({'empty': b'', 'text': b'hello', 'pickle': pickle.dumps({})}[kind])
    with pytest.raises(InputError, match=r'x\.npz: expected an \.npz file of arrays'):
        load_arrays(path)


def test_counts():
    check_counts('x', np.array([0, 3]), (2,))
    with pytest.raises(InputError, match=r'x: expected counts from 0, got -1'):
        check_counts('x', np.array([-1, 3]), (None,))
    with pytest.raises(InputError, match='x: expected dtype int64, got int32'):
        check_counts('x', np.array([1], np.int32), (1,))
