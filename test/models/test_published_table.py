"""Is the table of published figures sound? How close the networks come to them is test_published.py's."""

from __future__ import annotations

import pytest

from sembox_ros.models.published import PUBLISHED, SOURCES, Published
from sembox_ros.models.zoo import MODELS


@pytest.mark.parametrize('row', PUBLISHED, ids=lambda row: f'{row.model}-{row.dataset}-{row.size_hw[0]}')
def test_a_row_is_of_a_model_that_takes_its_size_and_says_something(row: Published) -> None:
    config = MODELS[row.model].config
    assert (config.decoder, 'semantic' in config.tasks) != ('', True)
    assert all(side % 128 == 0 for side in row.size_hw)
    assert row.source in SOURCES
    assert any(value is not None for value in (row.giga_macs, row.parameters, row.miou, row.dice))
    for percent in (row.miou, row.miou_qat, row.dice):
        assert percent is None or 40 < percent < 100  # none is a share of 1
    assert 0 <= row.counted_twice <= (row.parameters or 0) // 2


def test_a_result_is_listed_once() -> None:
    keys = [(row.model, row.dataset, row.classes, row.size_hw) for row in PUBLISHED]
    assert len(set(keys)) == len(keys)


def test_every_source_is_used() -> None:
    assert {row.source for row in PUBLISHED} == set(SOURCES)


def test_sizes_are_those_of_the_zoo_where_nothing_else_is_published() -> None:
    """A model's own size is one that it has a result for."""
    for name in {row.model for row in PUBLISHED}:
        assert MODELS[name].input.size_hw in [row.size_hw for row in PUBLISHED if row.model == name], name


def test_figures_of_the_issue() -> None:
    """Every multiply-add that the table of edgeailite gives for one of its own networks."""
    macs = sorted(row.giga_macs for row in PUBLISHED if row.source == 'edgeailite')
    assert macs == [
        2.009, 2.2, 2.427, 3.1526, 3.161, 3.28, 3.357, 3.481, 3.54, 3.84, 3.96, 6.09, 6.646, 7.03, 7.864, 8.0683, 8.84,
        15.07, 24.29, 24.37, 49.4, 111.16,
    ]  # fmt: skip
