from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import cityscapes_sample as tiny
import numpy as np
import pytest

from sembox_ros.data.class_weights import count_pixels, default_cache, enet_weights, load_class_weights
from sembox_ros.data.datasets import load_dataset
from sembox_ros.data.sample import Dataset, Sample
from sembox_ros.errors import DatasetError
from sembox_ros.labels import CITYSCAPES_19, COCO_80, SceneLabels

ROAD, CAR = CITYSCAPES_19.names.index('road'), CITYSCAPES_19.names.index('car')


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    """Two images of 4 x 5: 20 pixels road; 10 road, 6 car and 4 unlabeled."""
    first = np.full((4, 5), tiny.ROAD, np.uint8)
    second = np.array([tiny.ROAD] * 10 + [tiny.CAR] * 6 + [tiny.UNLABELED] * 4, np.uint8).reshape(4, 5)
    for index, label in enumerate((first, second)):
        tiny.write_image(tmp_path / 'data', f'ulm_{index:06d}_000019', label, label.astype(np.uint16))
    return {'root': str(tmp_path / 'data'), 'split': 'val'}


def load(options: dict[str, Any], cache: Path) -> tuple[float, ...]:
    return load_class_weights(
        load_dataset('cityscapes', options), name='cityscapes', options=options, cache=cache
    )  # fmt: skip


def test_weights_by_hand() -> None:
    weights = enet_weights(np.array([75, 25, 0]))
    expected = [1 / math.log(1.77), 1 / math.log(1.27), 1 / math.log(1.02)]  # 1.751, 4.184, 50.50
    np.testing.assert_allclose(weights, expected, rtol=1e-6)
    assert all(type(weight) is float for weight in weights)
    assert expected[2] == pytest.approx(50.498, abs=1e-3)


def test_no_labelled_pixel_has_no_weights() -> None:
    with pytest.raises(DatasetError, match=r'expected labelled pixels.*test split'):
        enet_weights(np.zeros(19, np.int64))


@pytest.mark.parametrize('workers', [0, 2])
def test_pixels_are_counted_over_all_images_without_the_ignored(options: dict[str, Any], workers: int) -> None:
    counts = count_pixels(load_dataset('cityscapes', options), workers=workers)
    assert counts.shape == (19,)
    assert {i: n for i, n in enumerate(counts.tolist()) if n} == {ROAD: 30, CAR: 6}


def test_weights_of_a_dataset(options: dict[str, Any], tmp_path: Path) -> None:
    weights = load(options, tmp_path / 'cache')
    assert weights[ROAD] == pytest.approx(1 / math.log(1.02 + 30 / 36))
    assert weights[CAR] == pytest.approx(1 / math.log(1.02 + 6 / 36))
    assert weights[5] == pytest.approx(1 / math.log(1.02))


def test_counts_are_read_from_the_cache_the_second_time(options: dict[str, Any], tmp_path: Path) -> None:
    cache = tmp_path / 'cache'
    load(options, cache)
    (file,) = cache.iterdir()
    content = json.loads(file.read_text())
    content['pixel_counts'] = [1] * 19  # shows where the second answer comes from
    file.write_text(json.dumps(content))
    assert load(options, cache) == pytest.approx([1 / math.log(1.02 + 1 / 19)] * 19)


def test_another_dataset_is_counted_anew(options: dict[str, Any], tmp_path: Path) -> None:
    cache = tmp_path / 'cache'
    load(options, cache)
    assert len(load({**options, 'classes': 8}, cache)) == 8
    limited = load({**options, 'limit': 1}, cache)
    assert limited[ROAD] == pytest.approx(1 / math.log(2.02))
    assert len(list(cache.iterdir())) == 3


@pytest.mark.parametrize(
    'content',
    [
        '',
        'null',
        '[' * 100_000,
        '{"description": 1}',
        'pixel_counts -1',
        'pixel_counts short',
        'pixel_counts float',
        '\0',
    ],
)
def test_a_damaged_cache_is_counted_again_with_a_note(
    options: dict[str, Any], tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    wanted = load(options, tmp_path / 'cache')
    (file,) = (tmp_path / 'cache').iterdir()
    right = file.read_text()
    if content.startswith('pixel_counts'):
        counts = {'-1': [-1] * 19, 'short': [1] * 18, 'float': [0.5] * 19}[content.split()[1]]
        content = json.dumps({**json.loads(right), 'pixel_counts': counts})
    file.write_text(content)
    assert load(options, tmp_path / 'cache') == wanted
    assert 'counting again' in caplog.text
    assert file.name in caplog.text
    assert file.read_text() == right


def test_without_a_place_for_the_cache_it_works_all_the_same(
    options: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / 'file').touch()
    assert len(load(options, tmp_path / 'file')) == 19
    assert 'cannot be written' in caplog.text


def test_the_cache_is_in_the_users_cache_folder(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'xdg'))
    load_class_weights(load_dataset('cityscapes', options), name='cityscapes', options=options)
    assert len(list((tmp_path / 'xdg' / 'sembox_ros').iterdir())) == 1
    monkeypatch.delenv('XDG_CACHE_HOME')
    monkeypatch.setenv('HOME', str(tmp_path / 'home'))
    assert default_cache() == tmp_path / 'home' / '.cache' / 'sembox_ros'


class Boxes:
    """A dataset without semantic labels."""

    image_ids = ('a',)

    def __init__(self, labels: SceneLabels) -> None:
        self.labels = labels

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Sample:
        return Sample(image=np.zeros((2, 2, 3), np.uint8), image_id='a')


@pytest.mark.parametrize(
    ('dataset', 'words'),
    [
        (Boxes(SceneLabels(None, COCO_80)), 'this one has boxes only'),
        (Boxes(SceneLabels(CITYSCAPES_19, COCO_80)), 'a: class weights need semantic labels'),
    ],
)
def test_semantic_labels_are_needed(dataset: Dataset, words: str) -> None:
    with pytest.raises(DatasetError, match=words):
        count_pixels(dataset)
