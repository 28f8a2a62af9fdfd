from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sembox_ros.errors import CheckpointError
from sembox_ros.models.importers.mapping import KeyMap, swap_box_axes


def linear_map() -> KeyMap:
    keys = KeyMap()
    keys.rename('fc.kernel', 'weight', lambda t: t.T)
    keys.rename('fc.offset', 'bias')
    keys.ignore('head')
    return keys


def linear_state() -> dict[str, Tensor]:
    return {'fc.kernel': torch.arange(6.0).reshape(3, 2), 'fc.offset': torch.ones(2), 'head': torch.zeros(7)}


def test_renames_transforms_and_leaves_behind():
    state = linear_state()
    made = linear_map().apply(state, nn.Linear(3, 2))
    assert made.keys() == {'weight', 'bias'}
    assert torch.equal(made['weight'], state['fc.kernel'].T)
    assert made['weight'].is_contiguous()
    made['bias'].zero_()
    assert state['fc.offset'].sum() == 2  # a copy


def test_an_unused_key_may_be_absent_and_dtypes_become_the_models():
    state = linear_state()
    del state['head']
    state['fc.offset'] = state['fc.offset'].half()
    assert linear_map().apply(state, nn.Linear(3, 2))['bias'].dtype == torch.float32


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        ({'fc.offset': None}, ["1 missing in the file ('fc.offset')", 'expected 2', 'got 2']),
        ({'extra\nkey': torch.zeros(1)}, ["1 left over in the file ('extra key')", 'got 4']),
        ({f'x{i}': torch.zeros(1) for i in range(9)}, ["9 left over in the file ('x0', 'x1', 'x2', ...)"]),
        ({'fc.kernel': torch.zeros(4, 2)}, ["'fc.kernel' for 'weight'", 'expected shape (2, 3)', 'got ']),
        ({'fc.kernel': torch.zeros(1).expand(10**9, 10**6)}, ["'fc.kernel' for 'weight'", '(1000000000, 1000000)']),
        ({'fc.kernel': torch.zeros(6)}, ["'fc.kernel'", 'expected shape (2, 3)', '(6,)']),
        ({'fc.offset': torch.ones(2, dtype=torch.int64)}, ["'fc.offset' for 'bias'", 'float32', 'int64']),
        ({'fc.offset': torch.ones(2, dtype=torch.complex64)}, ["'fc.offset' for 'bias'", 'complex64']),
        ({'fc.offset': torch.tensor([1.0, float('nan')])}, ["'fc.offset'", 'NaN']),
    ],
)
@pytest.mark.filterwarnings('ignore:The use of `x.T`')
def test_what_does_not_fit_is_named_in_one_line(change, words):
    state = {k: v for k, v in {**linear_state(), **change}.items() if v is not None}
    with pytest.raises(CheckpointError) as caught:
        linear_map().apply(state, nn.Linear(3, 2))
    for word in words:
        assert word in str(caught.value)
    assert '\n' not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_importer_and_model_must_agree():
    with pytest.raises(CheckpointError, match=r"1 of the importer not in the model \('bias'\)"):
        linear_map().apply(linear_state(), nn.Linear(3, 2, bias=False))
    keys = KeyMap()
    keys.rename('fc.kernel', 'weight')
    with pytest.raises(CheckpointError, match=r"2 left over.*1 of the model not covered by the importer \('bias'\)"):
        keys.apply(linear_state(), nn.Linear(3, 2))


def test_a_failing_transform_names_the_key():
    keys = linear_map()
    keys.rename('box', 'other', lambda t: t.unflatten(0, (5, 5)))
    model = nn.Linear(3, 2)
    model.other = nn.Parameter(torch.zeros(7))
    with pytest.raises(CheckpointError, match=r"'box': shape \(7,\) cannot become 'other' \(7,\)"):
        keys.apply({**linear_state(), 'box': torch.zeros(7)}, model)


def test_mapping_a_key_twice_is_an_importers_mistake():
    keys = linear_map()
    for wrong in (('fc.kernel', 'x'), ('y', 'bias'), ('head', 'x')):
        with pytest.raises(ValueError, match='only once'):
            keys.rename(*wrong)
    with pytest.raises(ValueError, match='both renamed and unused'):
        keys.ignore('fc.kernel')


def test_swapped_box_axes():
    rows = torch.arange(36.0)
    swapped = swap_box_axes(rows)
    assert swapped[:8].tolist() == [1, 0, 3, 2, 5, 4, 7, 6]
    assert torch.equal(swap_box_axes(swapped), rows)
    assert swap_box_axes(torch.zeros(36, 5, 1, 1)).shape == (36, 5, 1, 1)
