"""docs/datasets.md lists what is there."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from sembox_ros.data.datasets import DATASETS
from sembox_ros.labels import LABEL_SETS

PAGE = (Path(__file__).parents[2] / 'docs' / 'datasets.md').read_text()
ROWS = dict(re.findall(r'^\| `(\w+)` (\|.*)$', PAGE, re.MULTILINE))


def test_every_dataset_has_its_row() -> None:
    assert list(ROWS) == list(DATASETS)


@pytest.mark.parametrize('name', DATASETS)
def test_the_row_names_the_options_and_existing_label_sets(name: str) -> None:
    described = set(re.findall(r'`(\w+)`', ROWS[name].split('|')[2]))
    shared = {'root', 'split', 'limit'}
    parameters = inspect.signature(DATASETS[name]).parameters
    assert described == set(parameters) - shared
    assert shared <= set(parameters)
    assert all(parameter.kind is inspect.Parameter.KEYWORD_ONLY for parameter in parameters.values())
    label_sets = re.findall(r'`(\w+)`', ROWS[name].split('|')[4])
    assert label_sets
    assert set(label_sets) <= set(LABEL_SETS)
